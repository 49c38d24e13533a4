"""`MODEL.WEIGHTS` into a detector of either engine, and the names that each engine has for them."""

import logging
import re
from collections.abc import Callable, Mapping

from fvcore.common.config import CfgNode
from torch import Tensor, nn

from det_adapt.vgg16 import renamed_vgg16
from shared.config import flatten
from shared.errors import UserError
from shared.weights import LoadReport, download, fill, read_state_dict

logger = logging.getLogger(__name__)

_Replacement = str | Callable[[re.Match], str]
_RPN, _MASKS = "proposal_generator.rpn_head.", "roi_heads.mask_head."


def _mask_convolution(match: re.Match) -> str:
    return f"{_MASKS}mask_fcn{int(match[1]) + 1}."


def _from_mask_convolution(match: re.Match) -> str:
    return f"{_MASKS}convolutions.{int(match[1]) - 1}.0."


_TO_DETECTRON2: tuple[tuple[str, _Replacement], ...] = (
    (r"^rpn\.head\.conv\.0\.0\.", f"{_RPN}conv."),
    (r"^rpn\.head\.cls_logits\.", f"{_RPN}objectness_logits."),
    (r"^rpn\.head\.bbox_pred\.", f"{_RPN}anchor_deltas."),
    (r"^roi_heads\.box_head\.(\d+\.)", r"roi_heads.res5.\1"),
    (r"^roi_heads\.mask_head\.convolutions\.(\d+)\.0\.", _mask_convolution),
    (r"^roi_heads\.mask_head\.predictor\.conv5_mask\.", f"{_MASKS}deconv."),
    (r"^roi_heads\.mask_head\.predictor\.mask_fcn_logits\.", f"{_MASKS}predictor."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)
_FROM_DETECTRON2: tuple[tuple[str, _Replacement], ...] = (
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn.head.cls_logits."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.head.bbox_pred."),
    (r"^roi_heads\.res5\.", "roi_heads.box_head."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d+)\.", _from_mask_convolution),
    (r"^roi_heads\.mask_head\.predictor\.(weight|bias)$", rf"{_MASKS}predictor.mask_fcn_logits.\1"),
    (r"^roi_heads\.mask_head\.deconv\.", f"{_MASKS}predictor.conv5_mask."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
)
_FROM_RESNET: tuple[tuple[str, _Replacement], ...] = (
    (r"^(conv1|bn1)\.", r"backbone.stem.\1."),
    (r"^layer4\.", "roi_heads.box_head."),
    (r"^layer(\d)\.", lambda match: f"backbone.res{int(match[1]) + 1}."),
)


def load_weights(
    detector: nn.Module, cfg: CfgNode, rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
) -> LoadReport | None:
    """Fills `detector` as MODEL.WEIGHTS says, and logs what was loaded: '' trains from scratch,
    'torchvision' downloads ImageNet's, all else is a file of either engine's, or torchvision's own.

    Args:
        rename: `to_detectron2` or `from_detectron2`, whichever the detector's names ask for.
    """
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        return None
    if weights == "torchvision":
        state = download(_imagenet_name(cfg))
    else:
        state, _ = read_state_dict(weights)
    if "layer1.0.conv1.weight" in state or "features.0.weight" in state:
        _check_conventions(cfg)
        state = from_imagenet(state)
        if not cfg.MODEL.VGG.PRETRAINED_FC:
            state = {n: t for n, t in state.items() if not n.startswith("roi_heads.box_head.fc")}
    report = fill_detector(detector, rename(state), weights)
    logger.info("%s: %s", weights, report)
    return report


def fill_detector(detector: nn.Module, state: Mapping[str, Tensor], origin: str) -> LoadReport:
    """Copies the tensors of `state`, under the detector's names, that have a place.

    Args:
        origin: names the file in messages.

    Raises:
        UserError: the backbone is not filled whole.
    """

    def check(report: LoadReport) -> None:
        faults = {name: f"has shape {shapes}" for name, shapes in report.misshapen.items()}
        faults |= dict.fromkeys(report.missing, "is missing")
        for name, fault in faults.items():
            if name.startswith("backbone."):
                raise UserError(
                    f"'{origin}' does not fit MODEL.BACKBONE: {name} {fault}; it is of another "
                    "backbone, depth or width"
                )

    return fill(detector, state, check)


def to_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The torchvision engine's state dict under Detectron2's names; the tensors are the same."""
    return _renamed(state, _TO_DETECTRON2)


def from_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_detectron2`; names that are the torchvision engine's already stay."""
    return _renamed(state, _FROM_DETECTRON2)


def from_imagenet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet or VGG-16 classifier under the torchvision engine's names.

    A ResNet's layer4 becomes C4's head over regions; VGG's first two fully connected layers, which
    read 7×7 cells as the pooled regions are, become the box head.
    """
    if "features.0.weight" in state:
        return renamed_vgg16(state)
    backbone = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    return _renamed(backbone, _FROM_RESNET)


def _renamed(
    state: Mapping[str, Tensor], rules: tuple[tuple[str, _Replacement], ...]
) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _imagenet_name(cfg: CfgNode) -> str:
    """torchvision's name of the classifier that `MODEL.BACKBONE` was taken from."""
    if cfg.MODEL.BACKBONE.NAME == "build_vgg16_backbone":
        return "vgg16"
    return f"resnet{cfg.MODEL.RESNETS.DEPTH}"


def _check_conventions(cfg: CfgNode) -> None:
    """What torchvision's weights rely on and no tensor's shape shows."""
    made_for = {"INPUT.FORMAT": "RGB"}
    if cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone" and cfg.MODEL.RESNETS.DEPTH >= 50:
        made_for["MODEL.RESNETS.STRIDE_IN_1X1"] = False
    values = flatten(cfg)
    for key, expected in made_for.items():
        if values[key] != expected:
            raise UserError(
                f"{key} is {values[key]}, and torchvision's weights were made for {expected}"
            )
