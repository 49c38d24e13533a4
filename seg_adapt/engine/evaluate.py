"""Scoring a method on labelled test images, at their own size."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from seg_adapt.data.dataset import read_pair
from seg_adapt.evaluation.cityscapes import write_prediction
from seg_adapt.evaluation.confusion import ConfusionMatrix
from seg_adapt.evaluation.inference import predict_train_ids
from seg_adapt.methods.base import Method
from shared import distributed
from shared.catalog import SegmentationDataset
from shared.images import read_labels, remap, write_png
from shared.label_maps import LabelSpace, encode_colors, lookup_table
from shared.visualize import panel


@contextmanager
def evaluating(method: Method) -> Iterator[None]:
    """Evaluation mode without gradients; the former mode comes back, whatever happens."""
    training = method.training
    method.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        method.train(training)


def evaluate(
    method: Method,
    dataset: SegmentationDataset,
    space: LabelSpace,
    *,
    resize: tuple[int, int] | None,
    interpolation: str,
    device: torch.device,
    predictions: Path,
) -> ConfusionMatrix:
    """Predicts every image, writes the predictions and counts; processes share the images.

    Args:
        resize: (height, width) of the network's input; None keeps the image's size.
        predictions: folder of one PNG per image: label ids where the space has them (what the
            official script reads), train ids otherwise.
    """
    table = lookup_table(dataset.dataset, space)
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
            image, labels = read_pair(record, dataset.encoding, table)
            train_ids = predict_train_ids(
                method,
                image[None].to(device),
                resize=resize,
                size=tuple(labels.shape),
                interpolation=interpolation,
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


def write_panels(
    folder: Path,
    dataset: SegmentationDataset,
    space: LabelSpace,
    columns: dict[str, Path],
    count: int,
    height: int = 256,
) -> dict[str, np.ndarray]:
    """Panels input | truth | predictions… of `count` images spread over the dataset.

    Args:
        columns: title to folder of predictions, in order.

    Returns:
        name of the image to its panel, (H, W, 3) uint8 RGB.
    """
    table = lookup_table(dataset.dataset, space)
    written = np.arange(256, dtype=np.uint8)
    if space.label_ids is not None:
        written = lookup_table("cityscapes", space)
    places = np.linspace(0, len(dataset.records) - 1, min(count, len(dataset.records)))
    panels = {}
    for record in (dataset.records[round(place)] for place in places):
        image, labels = read_pair(record, dataset.encoding, table)
        tiles = [image.permute(1, 2, 0).numpy(), encode_colors(labels, space)]
        for predictions in columns.values():
            predicted = read_labels(prediction_path(predictions, record.name), "index")
            tiles.append(encode_colors(remap(predicted, written), space))
        panels[record.name] = panel(tiles, ["input", "ground truth", *columns], height=height)
        write_png(folder / f"{record.name}.png", panels[record.name])
    return panels
