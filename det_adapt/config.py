"""Every key of a detection experiment: Detectron2's own names and defaults, and ours beside them.

`shared.config.load_config` lays a YAML and overrides over `defaults()`, or over Detectron2's own
tree after `add_sap_config`; the same file fits both.
"""

from collections.abc import Sequence

import torch
from fvcore.common.config import CfgNode as Node

from det_adapt.da_faster import DaFasterOptions
from det_adapt.detectron2_keys import KEYS, WITHOUT_EFFECT
from det_adapt.sap_plan import sap_plan
from shared.config import differences, flatten, nested
from shared.errors import UserError
from shared.gradients import ClipOptions
from shared.precision import PRECISIONS
from shared.sap import SapOptions

INSTALL_DETECTRON2 = "https://detectron2.readthedocs.io/en/latest/tutorials/install.html"
DETECTION_LEVELS = (*range(3, 34, 3), 35, 37)

_CHOICES = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN", "SAPRCNN"),
    "INPUT.FORMAT": ("BGR", "RGB"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.RANDOM_FLIP": ("horizontal", "none"),
    "SOLVER.OPTIMIZER": ("SGD", "ADAM"),
    "SOLVER.AMP.PRECISION": tuple(PRECISIONS),
    "TEST.PROTOCOL": ("ours", "paper"),
}
_POOLERS = ("ROIAlignV2", "ROIAlign", "ROIPool")
_TORCHVISION_CHOICES = {
    "MODEL.RESNETS.NORM": ("FrozenBN", "BN", "GN"),
    "MODEL.FPN.NORM": ("", "FrozenBN", "BN", "GN"),
    "MODEL.ROI_HEADS.NAME": ("Res5ROIHeads", "StandardROIHeads"),
    "MODEL.ROI_BOX_HEAD.NAME": ("", "FastRCNNConvFCHead"),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": _POOLERS,
    "MODEL.ROI_MASK_HEAD.NAME": ("MaskRCNNConvUpsampleHead",),
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": _POOLERS,
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
    "SOLVER.ACCUMULATE": 1,
    "SOLVER.BASE_LR": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.CHECKPOINT_KEEP": 1,
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.TIMEOUT": 0,
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.MAX_SIZE_TRAIN": 1,
    "INPUT.MAX_SIZE_TEST": 1,
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "TEST.EVAL_PERIOD": 0,
    "DATASETS.MIN_BOX_SIZE": 0,
    "TEST.PAPER_MIN_BOX_SIZE": 0,
    "SAP.LOSS_END": 0,
    "SAP.LOWER.LOSS_WEIGHT": 0,
    "SAP.LOWER.EMBED_KERNEL": 0,
    "SAP.LOWER.GUIDE_KERNEL": 0,
}


def defaults() -> Node:
    """A fresh tree for the torchvision engine: Detectron2's keys that it reads, and ours."""
    cfg = Node(nested(KEYS)).clone()
    add_sap_config(cfg)
    return cfg


def add_sap_config(cfg: Node) -> None:
    """Declares our keys in a tree that has Detectron2's: of `defaults`, or its own `get_cfg()`."""
    node = type(cfg)  # Detectron2 merges nodes of its own class only
    cfg.IMPORTS = []  # modules and files of your own, with backbones and data sets
    cfg.LOG_PERIOD = 20  # iterations between log lines
    cfg.DATASETS.ROOT = ""  # empty: $DETECTRON2_DATASETS, or datasets/
    cfg.DATASETS.TARGET = ()  # the unlabeled target; its annotations are never read
    cfg.DATASETS.CLASSES = []  # of the boxes that are kept; []: the source's own
    cfg.DATALOADER.TIMEOUT = 600  # seconds to wait for a batch of the workers; 0: for ever
    cfg.DATASETS.MIN_BOX_SIZE = 0.0  # pixels of the file; smaller source boxes are not trained on
    cfg.TEST.PROTOCOL = "ours"  # which AP50 comes first: ours | paper; the other stands beside it
    # of the truth of the paper's AP50, in which groups count neither as objects nor as excuses
    cfg.TEST.PAPER_MIN_BOX_SIZE = 0.0  # pixels of the file; released code: 5 for Cityscapes' 8
    cfg.INPUT.MASK_FORMAT = "bitmask"  # what catalogs give; Detectron2 draws polygons into it
    cfg.SOLVER.OPTIMIZER = "SGD"  # SGD | ADAM
    cfg.SOLVER.BETAS = [0.9, 0.999]  # of ADAM
    cfg.SOLVER.ACCUMULATE = 1  # forwards of IMS_PER_BATCH images, whose gradients make one step
    cfg.SOLVER.AMP.PRECISION = "fp16"  # | bf16; of SOLVER.AMP.ENABLED
    cfg.SOLVER.CHECKPOINT_KEEP = 2  # of the last ones, the newest included
    cfg.MODEL.VGG = node()
    cfg.MODEL.VGG.WIDTH = 1.0  # channel multiplier of VGG-16
    cfg.MODEL.VGG.PRETRAINED_FC = True  # of ImageNet's weights, fc6 and fc7 too
    cfg.MODEL.TIMM = node()
    cfg.MODEL.TIMM.NAME = ""  # of build_timm_fpn_backbone: a network, e.g. resnet50; trained on RGB
    cfg.MODEL.ROI_BOX_HEAD.DROPOUT = 0.0  # between the head's fully connected layers
    detection = SapOptions(levels=DETECTION_LEVELS, guide_channels=0)
    detection.add_keys(cfg)  # explained in shared/sap/options.py
    DaFasterOptions().add_keys(cfg)  # explained in det_adapt/da_faster.py
    cfg.SAP.ENABLED = False  # and DA_FASTER: the source only; no target image is opened
    # of several maps that the RPN reads, those with a pyramid each; [] where it reads one
    cfg.SAP.FEATURES = []  # e.g. [p3, p4, p5]
    cfg.SAP.FEATURE_WEIGHTS = []  # of each one's loss; []: one over their number
    # share of lambda that half a cosine ends at in the last iteration, as released for Watercolor
    cfg.SAP.LOSS_END = 1.0  # 1: lambda is constant
    cfg.SAP.LOWER = node()  # a second pyramid; its other options are SAP's
    cfg.SAP.LOWER.FEATURE = ""  # the backbone's map that it pools (res2, conv3, …); empty: none
    cfg.SAP.LOWER.LEVELS = [3, 9, 15, 21, 27, 33, 37]  # the windows of the released code
    cfg.SAP.LOWER.LOSS_WEIGHT = 0.1  # its own lambda
    cfg.SAP.LOWER.EMBED_KERNEL = 0  # 0: SAP's; 1: released code
    cfg.SAP.LOWER.GUIDE_KERNEL = 0  # 0: SAP's; 1: released code


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
    _check_dropout(cfg.MODEL)
    ClipOptions.from_config(cfg)
    if not 0 <= cfg.MODEL.BACKBONE.FREEZE_AT <= 5:
        raise UserError(
            f"MODEL.BACKBONE.FREEZE_AT is {cfg.MODEL.BACKBONE.FREEZE_AT}, expected 0 to 5, the "
            "number of stages that are not trained"
        )
    plan = sap_plan(cfg)
    da_faster_options(cfg)
    if adapts(cfg) and cfg.MODEL.META_ARCHITECTURE != "SAPRCNN":
        key = "DA_FASTER.ENABLED" if plan is None else "SAP.ENABLED"
        raise UserError(
            f"{key} needs MODEL.META_ARCHITECTURE SAPRCNN, got {cfg.MODEL.META_ARCHITECTURE}; "
            f"{key} False trains on the source only"
        )
    if plan is not None:
        plan.levels(cfg.MODEL.RPN.IN_FEATURES)


def check_torchvision(cfg: Node) -> None:
    """UserError for a part that only Detectron2 has."""
    _check_choices(flatten(cfg), _TORCHVISION_CHOICES, " with the torchvision engine")
    widths = list(cfg.MODEL.RPN.CONV_DIMS)
    if len(widths) != 1 or not (widths[0] == -1 or (_all_numbers(widths) and widths[0] >= 1)):
        raise UserError(
            f"MODEL.RPN.CONV_DIMS is {widths}, expected one width, e.g. [512], or [-1], with the "
            "torchvision engine"
        )


def adapts(cfg: Node) -> bool:
    """Whether a run has an adversary, and thus a target."""
    return cfg.SAP.ENABLED or cfg.DA_FASTER.ENABLED


def lr_mult(cfg: Node, name: str) -> float:
    """What the learning rate of a detector's parameter `name` is multiplied by: an adversary's."""
    own = {"sap": cfg.SAP.LR_MULT, "da_faster": cfg.DA_FASTER.LR_MULT}
    return own.get(name.partition(".")[0], 1.0)


def da_faster_options(cfg: Node) -> DaFasterOptions | None:
    """What `cfg.DA_FASTER` asks for; None where it is off."""
    options = DaFasterOptions.from_config(cfg)
    return options if options.enabled else None


def device_of(cfg: Node) -> torch.device:
    """Of MODEL.DEVICE; UserError for a GPU that is not there."""
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError:
        raise UserError(f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', expected cuda or cpu") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("MODEL.DEVICE is cuda, and there is no GPU here: set MODEL.DEVICE cpu")
    return device


def seed(cfg: Node) -> int:
    """Detectron2's SEED of -1, "unseeded", would not resume: it counts as 0."""
    return max(cfg.SEED, 0)


def _check_dropout(model: Node) -> None:
    dropout, head = model.ROI_BOX_HEAD.DROPOUT, model.ROI_BOX_HEAD.NAME
    if not 0 <= dropout < 1:
        raise UserError(f"MODEL.ROI_BOX_HEAD.DROPOUT is {dropout}, expected 0 <= p < 1")
    standard = model.ROI_HEADS.NAME == "StandardROIHeads" and head == "FastRCNNConvFCHead"
    if dropout and not (standard and model.ROI_BOX_HEAD.NUM_FC > 1):
        raise UserError(
            f"MODEL.ROI_BOX_HEAD.DROPOUT is {dropout}, but only StandardROIHeads with "
            "FastRCNNConvFCHead and a NUM_FC of 2 or more has fully connected layers to put it "
            "between: set it to 0"
        )


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
