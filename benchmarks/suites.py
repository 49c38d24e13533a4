"""What the adaptation benchmark trains: suites of a toy pair, rows, and what they are scored by.

A row is one command, which may start from the run of another row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fvcore.common.config import CfgNode

from det_adapt.config import defaults as detection_defaults
from seg_adapt.config import defaults as segmentation_defaults

REFERENCE = "source_only"
TOP = "oracle"


@dataclass(frozen=True)
class Measure:
    """A score in percent of a finished run.

    Args:
        mean, classes: its keys in a result; `classes` maps a class to its score or None.
    """

    title: str
    mean: str
    classes: str


@dataclass(frozen=True)
class Row:
    """One line of a table: a training command and what it differs in from its config.

    Args:
        after: the row whose run this one starts from.
    """

    name: str
    script: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    after: str | None = None


@dataclass(frozen=True)
class Suite:
    """Rows on one toy pair.

    Args:
        output: what names a run's folder on the command line.
        start: what names the run that a row starts from.
        read: a scored event of metrics.jsonl to the scores of a result.
        defaults: the tree of all keys.
        places: keys that say where and how fast, not what.
    """

    rows: tuple[Row, ...]
    measures: tuple[Measure, ...]
    output: str
    start: str
    common: tuple[str, ...]
    read: Callable[[Mapping], dict]
    defaults: Callable[[], CfgNode]
    places: tuple[str, ...]

    def command(self, row: Row, seed: int, folder: Path) -> list[str]:
        """Arguments of `python`, relative to the repository.

        Args:
            folder: of the row's run; the run that it starts from lies beside it.
        """
        start = () if row.after is None else (self.start, str(folder.parent / row.after))
        return [
            *row.script,
            *(self.output, str(folder), "--resume", "SEED", str(seed)),
            *(*self.common, *start, *row.overrides),
        ]


def _segmentation() -> Suite:
    def row(name: str, method: str, *overrides: str) -> Row:
        return Row(name, ("seg_adapt/train.py", "--method", method), overrides)

    return Suite(
        (
            row("source_only", "source_only"),
            # Target images pass through the network's BatchNorm, and nothing else is learned.
            row(
                "statistics",
                "road",
                *("ROAD.DISTILLATION_WEIGHT", "0.0", "ROAD.SPATIAL_WEIGHT", "0.0"),
            ),
            row("adaptseg", "adaptseg"),
            row("fcn_wild", "fcn_wild"),
            row("road", "road"),
            row("plca", "plca"),
            row("sapnet", "sapnet"),
            row("dast", "dast"),
            row("oracle", "source_only", "DATASETS.TRAIN", "toy_cityscapes_train"),
        ),
        (Measure("mIoU", "miou", "iou"),),
        output="--output",
        start="MODEL.WEIGHTS",
        common=("DATALOADER.NUM_WORKERS", "0", "TEST.OFFICIAL", "False"),
        read=lambda event: {"miou": event["miou"], "iou": event["iou"]},
        defaults=segmentation_defaults,
        places=(
            "OUTPUT_DIR",
            "MODEL.DEVICE",
            "DATASETS.ROOT",
            "DATASETS.CACHE",
            "DATALOADER.NUM_WORKERS",
            "TEST.OFFICIAL",
        ),
    )


def _detection(pair: str, target: str, *, masks: bool = False) -> Suite:
    """The source stage, and from its checkpoint three branches of the same length."""

    def row(name: str, config: str, *overrides: str) -> Row:
        script = ("det_adapt/train_net.py", "--config-file", f"configs/{config}_{pair}.yaml")
        after = "source_stage" if config == "sapnet" else None
        return Row(name, (*script, "--engine", "torchvision"), overrides, after)

    alone = ("SAP.ENABLED", "False")
    boxes = Measure("box AP50", "map50", "ap50")
    return Suite(
        (
            row("source_stage", "source"),
            row("source_only", "sapnet", *alone),
            row("sapnet", "sapnet"),
            row("oracle", "sapnet", *alone, "DATASETS.TRAIN", f"[{target}]"),
        ),
        (boxes, Measure("mask AP50", "mask_map50", "mask_ap50")) if masks else (boxes,),
        output="OUTPUT_DIR",
        start="MODEL.WEIGHTS",
        common=("DATALOADER.NUM_WORKERS", "0"),
        read=_detection_scores,
        defaults=detection_defaults,
        places=("OUTPUT_DIR", "DATASETS.ROOT", "DATALOADER.NUM_WORKERS", "MODEL.WEIGHTS"),
    )


def _detection_scores(event: Mapping) -> dict:
    scores = {"map50": event["map50"], "ap50": event["ap50"]}
    scores["coco_map"] = event["coco"]["box"]["map"]
    if "mask" in event["coco"]:
        masks = event["coco"]["mask"]
        scores |= {"mask_map50": masks["map50"], "mask_ap50": masks["ap50"]}
    return scores


SUITES = {
    "segmentation": _segmentation(),
    "detection_game_real": _detection("toy", "toy_cityscapes_det_train"),
    "detection_clear_foggy": _detection("toy_foggy", "toy_foggy_cityscapes_train", masks=True),
    "detection_real_clipart": _detection("toy_clipart", "toy_clipart_train"),
}
