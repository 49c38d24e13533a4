"""Names of weights: this engine's, Detectron2's, and torchvision's ImageNet classifiers'."""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from det_adapt.vgg16 import renamed_vgg16

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


def to_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This engine's state dict under Detectron2's names; the tensors are the same."""
    return _renamed(state, _TO_DETECTRON2)


def from_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_detectron2`; names that are this engine's already stay."""
    return _renamed(state, _FROM_DETECTRON2)


def from_imagenet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet or VGG-16 classifier under this engine's names.

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
