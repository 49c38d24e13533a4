"""Every key of a detection experiment: Detectron2's own names and defaults, and ours beside them.

`shared.config.load_config` lays a YAML and overrides over `defaults()`, or over Detectron2's own
tree after `add_sap_config`; the same file fits both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from fvcore.common.config import CfgNode as Node

from det_adapt.detectron2_keys import KEYS, WITHOUT_EFFECT
from shared.config import differences, flatten, nested
from shared.errors import UserError
from shared.gradients import ClipOptions
from shared.sap import SapOptions

INSTALL_DETECTRON2 = "https://detectron2.readthedocs.io/en/latest/tutorials/install.html"
DETECTION_LEVELS = (*range(3, 34, 3), 35, 37)

_CHOICES = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN", "SAPRCNN"),
    "INPUT.FORMAT": ("BGR", "RGB"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.RANDOM_FLIP": ("horizontal", "none"),
    "SOLVER.OPTIMIZER": ("SGD", "ADAM"),
}
_TORCHVISION_CHOICES = {
    "MODEL.BACKBONE.NAME": ("build_resnet_backbone", "build_vgg16_backbone"),
    "MODEL.RESNETS.NORM": ("FrozenBN", "BN", "GN"),
    "MODEL.ROI_HEADS.NAME": ("Res5ROIHeads", "StandardROIHeads"),
    "MODEL.ROI_BOX_HEAD.NAME": ("", "FastRCNNConvFCHead"),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIPool"),
    "MODEL.ROI_MASK_HEAD.NAME": ("MaskRCNNConvUpsampleHead",),
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIPool"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
}
_NUMBERS = {  # key → how many
    "MODEL.PIXEL_MEAN": 3,
    "MODEL.PIXEL_STD": 3,
    "MODEL.RPN.IOU_THRESHOLDS": 2,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": 1,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": 4,
    "SOLVER.BETAS": 2,
}
_AT_LEAST = {
    "SOLVER.MAX_ITER": 1,
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.BASE_LR": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.CHECKPOINT_KEEP": 1,
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.TIMEOUT": 0,
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.MAX_SIZE_TRAIN": 1,
    "INPUT.MAX_SIZE_TEST": 1,
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "TEST.EVAL_PERIOD": 0,
    "SAP.LOWER.LOSS_WEIGHT": 0,
}


@dataclass(frozen=True)
class SapPlan:
    """The pyramids of a run."""

    upper: SapOptions  # on the map that the RPN reads
    lower: SapOptions | None = None  # on SAP.LOWER.FEATURE; None without


def defaults() -> Node:
    """A fresh tree for the torchvision engine: Detectron2's keys that it reads, and ours."""
    cfg = Node(nested(KEYS)).clone()
    add_sap_config(cfg)
    return cfg


def add_sap_config(cfg: Node) -> None:
    """Declares our keys in a tree that has Detectron2's: of `defaults`, or its own `get_cfg()`."""
    node = type(cfg)  # Detectron2 merges nodes of its own class only
    cfg.LOG_PERIOD = 20  # iterations between log lines
    cfg.DATASETS.ROOT = ""  # empty: $DETECTRON2_DATASETS, or datasets/
    cfg.DATASETS.TARGET = ()  # the unlabeled target; its annotations are never read
    cfg.DATASETS.CLASSES = []  # of the boxes that are kept; []: the source's own
    cfg.DATALOADER.TIMEOUT = 600  # seconds to wait for a batch of the workers; 0: for ever
    cfg.INPUT.MASK_FORMAT = "bitmask"  # what catalogs give; Detectron2 draws polygons into it
    cfg.SOLVER.OPTIMIZER = "SGD"  # SGD | ADAM
    cfg.SOLVER.BETAS = [0.9, 0.999]  # of ADAM
    cfg.SOLVER.CHECKPOINT_KEEP = 2  # of the last ones, the newest included
    cfg.MODEL.VGG = node()
    cfg.MODEL.VGG.WIDTH = 1.0  # channel multiplier of VGG-16
    detection = SapOptions(levels=DETECTION_LEVELS, guide_channels=0)
    detection.add_keys(cfg)  # explained in shared/sap/options.py
    cfg.SAP.ENABLED = False  # False: the source only; no target image is opened
    cfg.SAP.LOWER = node()  # a second pyramid; its other options are SAP's
    cfg.SAP.LOWER.FEATURE = ""  # the backbone's map that it pools (res2, conv3, …); empty: none
    cfg.SAP.LOWER.LEVELS = [3, 9, 15, 21, 27, 33, 37]  # the windows of the released code
    cfg.SAP.LOWER.LOSS_WEIGHT = 0.1  # its own lambda


def hint_for(key: str) -> str:
    """What an unknown key of the torchvision engine may be."""
    if key.startswith(WITHOUT_EFFECT):
        return "images are read and drawn here, not by Detectron2: leave it out"
    return f"a key of Detectron2 alone needs --engine detectron2 ({INSTALL_DETECTRON2})"


def check(cfg: Node, tree: Node) -> None:
    """UserError for a value of the right type that no run of either engine can use.

    Args:
        tree: the engine's keys at their defaults.
    """
    for key, value in differences(cfg, tree).items():
        if key.startswith(WITHOUT_EFFECT):
            raise UserError(
                f"{key} is {value!r}, but images are read and drawn here, not by Detectron2: "
                "leave it out"
            )
    values = flatten(cfg)
    for key, low in _AT_LEAST.items():
        if values[key] < low:
            raise UserError(f"{key} is {values[key]}, expected at least {low}")
    _check_choices(values, _CHOICES, "")
    _check_sizes(cfg)
    _check_lists(values)
    ClipOptions.from_config(cfg)
    if not 0 <= cfg.MODEL.BACKBONE.FREEZE_AT <= 5:
        raise UserError(
            f"MODEL.BACKBONE.FREEZE_AT is {cfg.MODEL.BACKBONE.FREEZE_AT}, expected 0 to 5, the "
            "number of stages that are not trained"
        )
    plan = sap_plan(cfg)
    if plan is None:
        return
    if cfg.MODEL.META_ARCHITECTURE != "SAPRCNN":
        raise UserError(
            f"SAP.ENABLED needs MODEL.META_ARCHITECTURE SAPRCNN, got "
            f"{cfg.MODEL.META_ARCHITECTURE}; SAP.ENABLED False trains on the source only"
        )
    if len(cfg.MODEL.RPN.IN_FEATURES) != 1:
        raise UserError(
            f"MODEL.RPN.IN_FEATURES is {list(cfg.MODEL.RPN.IN_FEATURES)}: the pyramid pools one "
            "map, name one"
        )


def check_torchvision(cfg: Node) -> None:
    """UserError for a part that only Detectron2 has."""
    _check_choices(flatten(cfg), _TORCHVISION_CHOICES, " with the torchvision engine")


def sap_plan(cfg: Node) -> SapPlan | None:
    """What `cfg.SAP` asks for; None on the source only."""
    upper = SapOptions.from_config(cfg)
    if not cfg.SAP.ENABLED:
        return None
    node = cfg.SAP.LOWER
    if not node.FEATURE:
        return SapPlan(upper, None)
    lower = replace(upper, levels=tuple(node.LEVELS), loss_weight=node.LOSS_WEIGHT)
    return SapPlan(upper, lower)


def device_of(cfg: Node) -> torch.device:
    """Of MODEL.DEVICE; UserError for a GPU that is not there."""
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError:
        raise UserError(f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', expected cuda or cpu") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("MODEL.DEVICE is cuda, and there is no GPU here: set MODEL.DEVICE cpu")
    if device.type == "cpu" and cfg.SOLVER.AMP.ENABLED:
        raise UserError("SOLVER.AMP.ENABLED needs a GPU: set it to False")
    return device


def seed(cfg: Node) -> int:
    """Detectron2's SEED of -1, "unseeded", would not resume: it counts as 0."""
    return max(cfg.SEED, 0)


def _check_choices(
    values: dict[str, object], choices: dict[str, tuple[str, ...]], where: str
) -> None:
    for key, known in choices.items():
        if values[key] not in known:
            named = ", ".join(name or "''" for name in known)
            raise UserError(f"{key} is '{values[key]}', expected one of {named}{where}")


def _check_lists(values: dict[str, object]) -> None:
    for key, count in _NUMBERS.items():
        if len(values[key]) != count or not _all_numbers(values[key]):
            named = "a number" if count == 1 else f"{count} numbers"
            raise UserError(f"{key} is {list(values[key])}, expected a list of {named}")
    if not all(0 <= beta < 1 for beta in values["SOLVER.BETAS"]):
        betas = list(values["SOLVER.BETAS"])
        raise UserError(f"SOLVER.BETAS is {betas}, expected 0 <= beta < 1, e.g. [0.9, 0.999]")
    for key in ("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"):
        rows = values[key]
        lists = all(isinstance(row, list | tuple) and row and _all_numbers(row) for row in rows)
        if not rows or not lists or min(map(min, rows)) <= 0:
            raise UserError(f"{key} is {rows}, expected lists of positive numbers in a list")
    steps = list(values["SOLVER.STEPS"])
    if steps != sorted(steps) or not _all_numbers(steps):
        raise UserError(f"SOLVER.STEPS is {steps}, expected rising iterations, e.g. [70000, 80000]")
    for key in ("DATASETS.TRAIN", "DATASETS.TARGET", "DATASETS.TEST", "DATASETS.CLASSES"):
        if not all(isinstance(name, str) for name in values[key]):
            raise UserError(f"{key} is {list(values[key])}, expected a list of names")


def _all_numbers(row: Sequence[object]) -> bool:
    return all(isinstance(n, int | float) and not isinstance(n, bool) for n in row)


def _check_sizes(cfg: Node) -> None:
    sizes = list(cfg.INPUT.MIN_SIZE_TRAIN)
    is_range = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range"
    whole = all(type(size) is int and size >= 0 for size in sizes)
    if not sizes or not whole or (is_range and (len(sizes) != 2 or sizes[0] > sizes[1])):
        expected = "two whole numbers, low and high" if is_range else "whole numbers, e.g. (600,)"
        raise UserError(f"INPUT.MIN_SIZE_TRAIN is {sizes}, expected {expected}")
