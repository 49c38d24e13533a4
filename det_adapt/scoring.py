"""Scores of a detector in percent: VOC's, COCO's, and Cityscapes' own script's."""

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path

import torch.distributed as dist
from fvcore.common.config import CfgNode
from torch import nn
from tqdm import tqdm

from det_adapt.data.build import test_augmentation
from det_adapt.data.loaders import samples_in_order
from det_adapt.detection_files import prediction_path, write_detections
from det_adapt.evaluation.base import Evaluation
from det_adapt.evaluation.cityscapes import CityscapesEvaluation
from det_adapt.evaluation.coco import COCOEvaluation
from det_adapt.evaluation.voc import VOCEvaluation
from shared import distributed
from shared.data.cityscapes import CITYSCAPES_THINGS
from shared.data.records import DetectionDataset
from shared.predictor import evaluating


def score(
    cfg: CfgNode,
    model: nn.Module,
    test: DetectionDataset,
    predictions: Path,
    official: Path | None = None,
) -> dict:
    """Detects in every test image; processes share the images.

    Args:
        predictions: folder that gets a JSON of each image.
        official: folder for the files of the Cityscapes script; None: it is not run.

    Returns:
        In percent: `ap50` by class and `map50` of boxes as VOC counts them, below the curve, by
        the `protocol` of TEST.PROTOCOL; `boxes`, the same by each protocol; `eleven_point`, the
        same as VOC2007 counts; `coco`; `cityscapes`, None where its script does not apply;
        `protocols`, other means than the first. Empty on every process but the first.
    """
    by_protocol = {
        "ours": VOCEvaluation(test),
        "paper": VOCEvaluation(test, ignore_crowds=False, min_size=cfg.TEST.PAPER_MIN_BOX_SIZE),
    }
    voc = by_protocol[cfg.TEST.PROTOCOL]
    others = {"coco": COCOEvaluation(test, masks=_has_masks(cfg, test))}
    if official is not None and _official_applies(cfg, test):
        others["cityscapes"] = CityscapesEvaluation(test, official)
    measures = [*by_protocol.values(), *others.values()]
    samples = samples_in_order(
        test,
        test_augmentation(cfg),
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        workers=cfg.DATALOADER.NUM_WORKERS,
    )
    with evaluating(model):
        for sample in tqdm(
            samples,
            total=len(range(distributed.rank(), len(test.records), distributed.world_size())),
            desc=f"evaluating {test.name}",
            leave=False,
            disable=not distributed.is_main(),
            mininterval=1.0,
        ):
            [found] = model.detect([sample])
            for measure in measures:
                measure.update(sample.name, found)
            write_detections(prediction_path(predictions, sample.name), found, test.classes)
    _gather(measures)
    if not distributed.is_main():
        return {}
    eleven_point = copy(voc)
    eleven_point.metric = "11-point"
    scores = voc.scores() | {
        "protocol": cfg.TEST.PROTOCOL,
        "boxes": {name: measure.scores() for name, measure in by_protocol.items()},
        "eleven_point": eleven_point.scores(),
        "cityscapes": None,
        **{name: measure.scores() for name, measure in others.items()},
    }
    return _percent(scores | {"protocols": _protocols(scores)})


def table(data_sets: Mapping[str, Mapping]) -> list[str]:
    """A line for each data set, after one that names the means; a dash where there is none.

    Args:
        data_sets: name to its `images`, `map50` and `protocols`.
    """
    columns = dict.fromkeys(name for entry in data_sets.values() for name in entry["protocols"])
    rows = [["data set", "images", "AP50", *columns]]
    for name, entry in data_sets.items():
        means = [entry["map50"], *map(entry["protocols"].get, columns)]
        percents = ["–" if mean is None else f"{mean:.2f}" for mean in means]
        rows.append([name, str(entry["images"]), *percents])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def _protocols(scores: dict) -> dict[str, float | None]:
    """What the report shows below the mean of the boxes' AP50."""
    means = {
        f"AP50 ({name})": boxes["map50"]
        for name, boxes in scores["boxes"].items()
        if name != scores["protocol"]
    }
    means |= {"11-point": scores["eleven_point"]["map50"]}
    for kind, result in scores["coco"].items():
        means |= {f"COCO {kind} AP50": result["map50"], f"COCO {kind} AP": result["map"]}
    if scores["cityscapes"] is not None:
        result = scores["cityscapes"]
        means |= {"Cityscapes mask AP50": result["map50"], "Cityscapes mask AP": result["map"]}
    return means


def _has_masks(cfg: CfgNode, test: DetectionDataset) -> bool:
    return cfg.MODEL.MASK_ON and all(record.instances for record in test.records)


def _official_applies(cfg: CfgNode, test: DetectionDataset) -> bool:
    """The script scores masks of Cityscapes' frames, each once: of one fog, not of all."""
    once = len({record.instances for record in test.records}) == len(test.records)
    all_things = set(test.classes) <= set(CITYSCAPES_THINGS)
    return bool(cfg.MODEL.MASK_ON and test.official_root and once and all_things)


def _gather(measures: Sequence[Evaluation]) -> None:
    """Adds to each measure, on every process, what the others have seen."""
    if distributed.world_size() == 1:
        return
    everyones: list[Sequence[Evaluation]] = [()] * distributed.world_size()
    dist.all_gather_object(everyones, measures)
    for rank, others in enumerate(everyones):
        if rank != distributed.rank():
            for measure, other in zip(measures, others, strict=True):
                measure.merge(other)


def _percent(scores: dict) -> dict:
    """Shares to percent, through nested dictionaries; None and text stay as they are."""
    return {
        key: _percent(value)
        if isinstance(value, dict)
        else (100.0 * value if isinstance(value, float) else value)
        for key, value in scores.items()
    }
