"""Scores of a method on labeled test images, at their own size."""

from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from tqdm import tqdm

from seg_adapt.data.reading import Reader
from seg_adapt.evaluation.cityscapes import run_official, write_prediction
from seg_adapt.evaluation.confusion import ConfusionMatrix
from seg_adapt.evaluation.inference import Windows, network_size, predict_train_ids
from seg_adapt.methods.base import Method
from shared import distributed
from shared.data.images import write_png
from shared.data.label_maps import LabelSpace
from shared.data.records import SegmentationDataset
from shared.predictor import evaluating


def evaluate(
    method: Method,
    dataset: SegmentationDataset,
    space: LabelSpace,
    *,
    resize: tuple[int, int] | None,
    interpolation: str,
    windows: Windows | None = None,
    device: torch.device,
    predictions: Path,
) -> ConfusionMatrix:
    """Predicts every image, writes the predictions and counts; processes share the images.

    Args:
        resize: (height, width) of the network's input; None keeps the image's size.
        windows: of the network's input; None predicts it whole.
        predictions: folder of one PNG per image: label ids where the space has them (what the
            official script reads), train ids otherwise.
    """
    read = Reader(dataset, space)
    matrix = ConfusionMatrix(space.num_classes)
    records = dataset.records[distributed.rank() :: distributed.world_size()]
    with evaluating(method):
        for record in tqdm(
            records,
            desc=f"evaluating {dataset.name}",
            leave=False,
            disable=not distributed.is_main(),
            mininterval=1.0,
        ):
            image, labels = read(record)
            train_ids = predict_train_ids(
                method,
                image[None].to(device),
                resize=resize,
                size=tuple(labels.shape),
                interpolation=interpolation,
                windows=windows,
            )[0]
            matrix.update(train_ids, labels)
            path = prediction_path(predictions, record.name)
            if space.label_ids is None:
                write_png(path, train_ids)
            else:
                write_prediction(path, train_ids, space)
    matrix.counts = distributed.sum_tensor(torch.from_numpy(matrix.counts)).numpy()
    distributed.barrier()
    return matrix


def prediction_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.png"


def score(
    cfg: CfgNode,
    method: Method,
    test: SegmentationDataset,
    space: LabelSpace,
    predictions: Path,
    device: torch.device,
    windows: Windows | None = None,
) -> dict:
    """Our count in percent; see `evaluate`."""
    matrix = evaluate(
        method,
        test,
        space,
        resize=network_size(cfg, "TEST"),
        interpolation=cfg.INPUT.INTERPOLATION,
        windows=windows,
        device=device,
        predictions=predictions,
    )
    return _percent(matrix.scores(space))


def score_officially(
    test: SegmentationDataset, space: LabelSpace, predictions: Path, output: Path
) -> dict | None:
    """What Cityscapes' own script says, in percent; None where the data is not laid out so.

    Args:
        output: folder for the script's own files.
    """
    if not (test.official_root and space.label_ids):
        return None
    return _percent(run_official(test.official_root, predictions, output, space))


def _percent(scores: dict) -> dict:
    """Shares to percent, through nested dictionaries; None stays None."""
    return {
        key: _percent(value)
        if isinstance(value, dict)
        else (None if value is None else 100.0 * value)
        for key, value in scores.items()
    }
