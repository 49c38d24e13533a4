"""Names of weights: of the torchvision engine, of Detectron2, of torchvision's own models."""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torchvision.ops import FrozenBatchNorm2d

from det_adapt.vgg16 import renamed_vgg16
from shared.timm_levels import timm_name

_Replacement = str | Callable[[re.Match], str]
_RPN, _MASKS = "proposal_generator.rpn_head.", "roi_heads.mask_head."
_REGIONS = "roi_heads.box_head."  # of C4


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
    (r"^backbone\.body\.", "backbone.bottom_up."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.0\.", r"backbone.fpn_lateral\1."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.1\.", r"backbone.fpn_lateral\1.norm."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.0\.", r"backbone.fpn_output\1."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.1\.", r"backbone.fpn_output\1.norm."),
)
_FROM_DETECTRON2: tuple[tuple[str, _Replacement], ...] = (
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn.head.cls_logits."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.head.bbox_pred."),
    (r"^roi_heads\.res5\.", "roi_heads.box_head."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d+)\.", _from_mask_convolution),
    (r"^roi_heads\.mask_head\.predictor\.(weight|bias)$", rf"{_MASKS}predictor.mask_fcn_logits.\1"),
    (r"^roi_heads\.mask_head\.deconv\.", f"{_MASKS}predictor.conv5_mask."),
    (r"^backbone\.bottom_up\.", "backbone.body."),
    (r"^backbone\.fpn_lateral(\d)\.norm\.", r"backbone.fpn.inner_blocks.\1.1."),
    (r"^backbone\.fpn_lateral(\d)\.", r"backbone.fpn.inner_blocks.\1.0."),
    (r"^backbone\.fpn_output(\d)\.norm\.", r"backbone.fpn.layer_blocks.\1.1."),
    (r"^backbone\.fpn_output(\d)\.", r"backbone.fpn.layer_blocks.\1.0."),
)
# Inside the blocks of ResNets; those of timm's networks have names of their own.
_TO_DETECTRON2_BLOCKS: tuple[tuple[str, _Replacement], ...] = (
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)
_FROM_DETECTRON2_BLOCKS: tuple[tuple[str, _Replacement], ...] = (
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
)
_OF_TIMM = re.compile(r"backbone\.(body|bottom_up)\.level\d+\.")
_FROM_RESNET: tuple[tuple[str, _Replacement], ...] = (
    (r"^(conv1|bn1)\.", r"backbone.stem.\1."),
    (r"^layer(\d)\.", lambda match: f"backbone.res{int(match[1]) + 1}."),
)
# Some names of its first releases are other ones: the published weights have them.
_FROM_TORCHVISION: tuple[tuple[str, _Replacement], ...] = (
    (r"^backbone\.body\.(conv1|bn1)\.", r"backbone.body.stem.\1."),
    (r"^backbone\.body\.layer(\d)\.", lambda match: f"backbone.body.res{int(match[1]) + 1}."),
    (
        r"^backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(?:0\.)?(weight|bias)$",
        lambda match: f"backbone.fpn.{match[1]}_blocks.{int(match[2]) + 2}.0.{match[3]}",
    ),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    (
        r"^roi_heads\.box_head\.fc([67])\.",
        lambda match: f"roi_heads.box_head.fc{int(match[1]) - 5}.",
    ),
    (r"^roi_heads\.mask_head\.(\d)\.0\.", rf"{_MASKS}convolutions.\1.0."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", _from_mask_convolution),
    (r"^roi_heads\.mask_predictor\.", f"{_MASKS}predictor."),
)
# Per class, so many rows; torchvision's first class is the background.
_ROWS = {
    "roi_heads.box_predictor.cls_score": 1,
    "roi_heads.box_predictor.bbox_pred": 4,
    f"{_MASKS}predictor.mask_fcn_logits": 1,
}


def to_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The torchvision engine's state dict under Detectron2's names; the tensors are the same."""
    return _renamed(state, _TO_DETECTRON2, _TO_DETECTRON2_BLOCKS)


def from_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_detectron2`; names that are the torchvision engine's already stay."""
    return _renamed(state, _FROM_DETECTRON2, _FROM_DETECTRON2_BLOCKS)


def timm_names(names: Iterable[str]) -> dict[str, str]:
    """Of a detector on a network of timm: timm's names to its own."""
    own = (name for name in names if _OF_TIMM.match(name))
    return {timm_name(name.split(".", 3)[3]): name for name in own}


def from_torchvision(state: Mapping[str, Tensor], *, pyramid: bool = False) -> dict[str, Tensor]:
    """torchvision's ResNet or VGG-16 classifier, or its Faster or Mask R-CNN on a feature pyramid,
    under the torchvision engine's names; anything else as it is.

    A ResNet's layer4 becomes C4's head over regions; VGG's first two fully connected layers, which
    read 7×7 cells as the pooled regions are, become the box head.

    Args:
        pyramid: the classifier becomes the body of a feature pyramid, with layer4.
    """
    if "features.0.weight" in state:
        return renamed_vgg16(state)
    if "backbone.body.conv1.weight" in state:
        renamed = _background_last(_renamed(state, _FROM_TORCHVISION))
        return _with_epsilon(renamed) if "rpn.head.conv.weight" in state else renamed
    if "layer1.0.conv1.weight" not in state:
        return dict(state)
    classifier = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    place = (r"^backbone\.", "backbone.body.") if pyramid else (r"^backbone\.res5\.", _REGIONS)
    return _renamed(classifier, (*_FROM_RESNET, place))


def _background_last(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The background's logit behind those of the classes; it has neither boxes nor masks."""
    turned = dict(state)
    for module, rows in _ROWS.items():
        for name in (f"{module}.weight", f"{module}.bias"):
            if name in state:
                background, classes = state[name][:rows], state[name][rows:]
                is_score = module.endswith("cls_score")
                turned[name] = torch.cat([classes, background]) if is_score else classes
    return turned


def _with_epsilon(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published detectors were trained by a frozen BatchNorm that adds nothing to variances."""
    epsilon = FrozenBatchNorm2d(1).eps
    return {n: x - epsilon if n.endswith("running_var") else x for n, x in state.items()}


def _renamed(
    state: Mapping[str, Tensor],
    rules: tuple[tuple[str, _Replacement], ...],
    blocks: tuple[tuple[str, _Replacement], ...] = (),
) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in rules if _OF_TIMM.match(name) else (*rules, *blocks):
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
