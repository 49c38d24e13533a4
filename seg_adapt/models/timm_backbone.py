"""Any network of timm that gives feature maps, as a backbone: `MODEL.ARCHITECTURE timm:<name>`.

Where its modules run one after another, its feature levels are the stages `level0` (the finest),
`level1` and so on, which can be cut inside; otherwise, as with vision transformers, all of it is
one stage `backbone`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_adapt.models.aspp import ASPP
from seg_adapt.models.fusion import ContextAwareFusion, fusion_classifier
from seg_adapt.models.parts import Parts
from seg_adapt.models.preprocessing import Convention
from seg_adapt.models.psp import PyramidPooling, psp_classifier
from seg_adapt.options import ModelOptions
from shared.errors import UserError
from shared.timm_levels import feature_info, feature_maps, find_levels, probe, timm_name
from shared.timm_networks import create_network

_FINEST_FUSED = 4  # stride; finer maps cost much and tell little
_FLAT_LEVELS = 4  # how many blocks of a vision transformer the fusion takes


@dataclass(frozen=True)
class _Trunk:
    """The backbone's part of `Parts`; its last stage is the deepest level that is used."""

    stages: dict[str, nn.Module]
    channels: dict[str, int]
    strides: dict[str, int]
    blocks: dict[str, tuple[str, ...]]
    fused: tuple[str, ...]  # the stages whose maps the fusion takes, the finest first
    aligned: bool


class _Whole(nn.Module):
    """A network whose inside is timm's own affair: images to its levels, side by side."""

    def __init__(self, network: nn.Module, levels: Sequence[int], normed: bool) -> None:
        super().__init__()
        # What comes behind the last level would never get a gradient.
        self.levels = network.prune_intermediate_layers(
            list(levels), prune_norm=not normed, prune_head=True
        )
        self.network, self.normed = network, normed

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W); returns (N, sum of channels, h, w), the size of the finest."""
        try:
            maps = feature_maps(self.network, images, self.levels, self.normed)
        except AssertionError as error:
            height, width = images.shape[-2:]
            name = type(self.network).__name__
            raise UserError(f"timm's {name} takes no image of {width}x{height}: {error}") from None
        size = maps[0].shape[-2:]
        return torch.cat([maps[0], *(F.interpolate(x, size) for x in maps[1:])], dim=1)


def timm_parts(options: ModelOptions, num_classes: int) -> Parts:
    """The network `options.architecture` under the head `options.timm.head`."""
    if options.width != 1:
        raise UserError(
            f"MODEL.WIDTH is {options.width:g}, but {options.architecture} has one width only: "
            "set it to 1, or name another network of timm"
        )
    with torch.device("cpu"):  # the order of its modules is found by running them
        network = create_network(options.architecture, options.output_stride or 8)
        trunk = _chain(network, options) or _whole(network, options)
    device = torch.get_default_device()
    stages = {name: stage.to(device) for name, stage in trunk.stages.items()}
    channels, deepest = dict(trunk.channels), list(stages)[-1]
    head, hidden = options.timm.head, options.timm.channels
    inputs, output_stride = (), trunk.strides[deepest]
    if head == "fusion":
        inputs, output_stride = trunk.fused, trunk.strides[trunk.fused[0]]
        stages["fusion"] = ContextAwareFusion([channels[name] for name in inputs], hidden)
        stages["head"] = fusion_classifier(hidden, num_classes)
        channels["fusion"] = hidden
    elif head == "psp":
        stages["ppm"] = PyramidPooling(channels[deepest])
        channels["ppm"] = stages["ppm"].out_channels
        stages["head"] = psp_classifier(channels["ppm"], hidden, num_classes)
    else:
        rates, bias = options.aspp.rates, options.aspp.bias
        stages["head"] = ASPP(channels[deepest], num_classes, rates, bias)
    config = network.pretrained_cfg
    return Parts(
        stages,
        channels | {"head": num_classes},
        feature_stage=deepest,
        head_stages=tuple(name for name in stages if name not in trunk.stages),
        head_inputs=inputs,
        blocks=trunk.blocks,
        aligned=trunk.aligned,
        output_stride=output_stride,
        strides=trunk.strides,
        preprocessing=Convention.of_unit_range(config["mean"], config["std"]),
    )


def timm_name_of(name: str) -> str:
    """timm's name of a tensor of ours, `stages.<stage>.<module>…`."""
    _, stage, below = name.split(".", 2)
    return below.removeprefix("network.") if stage == "backbone" else timm_name(below)


def _used(options: ModelOptions, info: list[dict[str, Any]]) -> list[int]:
    """The feature levels that `MODEL.TIMM.LEVELS` names, or those that suit the head."""
    levels = sorted(set(options.timm.levels))
    if levels and not 0 <= levels[0] <= levels[-1] < len(info):
        raise UserError(
            f"MODEL.TIMM.LEVELS is {levels}, but the levels of {options.architecture} are 0 to "
            f"{len(info) - 1}, with strides {', '.join(str(i['reduction']) for i in info)}"
        )
    if not levels:
        levels = [n for n, i in enumerate(info) if i["reduction"] >= _FINEST_FUSED]
        if len({i["reduction"] for i in info}) == 1:  # of a plain vision transformer, evenly
            count = len(info)
            levels = sorted({count * n // _FLAT_LEVELS - 1 for n in range(1, _FLAT_LEVELS + 1)})
    return levels if options.timm.head == "fusion" else levels[-1:]


def _chain(network: nn.Module, options: ModelOptions) -> _Trunk | None:
    """The levels as stages; None where running the modules one by one gives other maps."""
    used = _used(options, feature_info(network))
    found = find_levels(network, used[-1])
    if found is None:
        return None
    fused = tuple(f"level{level}" for level in used)
    return _Trunk(found.stages, found.channels, found.strides, found.cuts, fused, found.aligned)


@torch.no_grad()
def _whole(network: nn.Module, options: ModelOptions) -> _Trunk:
    """All of it as one stage."""
    info = feature_info(network)
    levels = _used(options, info)
    image, _ = probe(network)
    try:
        feature_maps(network, image, levels, norm=True)
        normed = True
    except AssertionError:  # its last norm does not fit all levels
        normed = False
    if not hasattr(network, "prune_intermediate_layers"):
        raise UserError(f"timm's {type(network).__name__} gives no feature maps: choose another")
    stage = _Whole(network, levels, normed)
    channels = stage(image).shape[1]
    return _Trunk(
        {"backbone": stage},
        {"backbone": channels},
        {"backbone": info[levels[0]]["reduction"]},
        {},
        ("backbone",),
        aligned=False,
    )
