"""Any network of timm that gives feature maps, as a backbone: `MODEL.ARCHITECTURE timm:<name>`.

Where its modules run one after another, its feature levels are the stages `level0` (the finest),
`level1` and so on, which can be cut inside; otherwise, as with vision transformers, all of it is
one stage `backbone`. Nothing of timm is copied.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
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
from seg_adapt.models.timm_networks import create_network
from seg_adapt.options import ModelOptions
from shared.errors import UserError

_FINEST_FUSED = 4  # stride; finer maps cost much and tell little
_FLAT_LEVELS = 4  # how many blocks of a vision transformer the fusion takes
_PROBE = (65, 97)  # pixels; 32 k + 1, so that the number of cells tells where they are centered


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
            maps = _maps(self.network, images, self.levels, self.normed)
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


def _info(network: nn.Module) -> list[dict[str, Any]]:
    """Per feature level: the `module` that it ends with, `num_chs`, `reduction`."""
    info = network.feature_info
    return list(getattr(info, "info", info))


def _maps(
    network: nn.Module, images: Tensor, levels: Sequence[int] | None = None, norm: bool = False
) -> list[Tensor]:
    """The maps (N, C, h, w) of feature levels, by timm's own way; None: of all."""
    if not hasattr(network, "forward_intermediates"):
        return network(images)
    indices = None if levels is None else list(levels)
    return network.forward_intermediates(
        images, indices=indices, norm=norm, output_fmt="NCHW", intermediates_only=True
    )


def _probe(network: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """An image and its maps at all levels."""
    network.eval()
    generator = torch.Generator().manual_seed(0)
    for missing in (0, 1):
        height, width = (size - missing for size in _PROBE)
        image = torch.rand(1, 3, height, width, generator=generator)
        try:
            return image, _maps(network, image)
        except (AssertionError, RuntimeError, AttributeError) as error:
            refused = error
    raise UserError(
        f"timm's {type(network).__name__} gives no feature maps of images of any size "
        f"({' '.join(str(refused).split())[:100]}): choose another network"
    )


def _modules(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that run one after another, if all do: what plain nn.Sequentials consist of."""
    for name, child in module.named_children():
        if type(child) is nn.Sequential:
            yield from _modules(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


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


@dataclass
class _Unit:
    """A module, and what the map is like after it."""

    name: str
    module: nn.Module
    shape: torch.Size
    equals: set[int]  # the feature levels whose map it is
    overwritten: bool = False  # by the module after it


@torch.no_grad()
def _run_units(network: nn.Module, image: Tensor, maps: Sequence[Tensor]) -> list[_Unit]:
    """The modules of the network that can be run one after another, from the first one on."""
    units: list[_Unit] = []
    x = image
    for name, module in _modules(network):
        before, version = x, x._version
        try:
            x = module(before)
        except (TypeError, ValueError, RuntimeError, AttributeError):
            break
        if not isinstance(x, Tensor) or x.dim() != 4:
            break
        if units:
            units[-1].overwritten = before._version != version
        equals = {level for level, y in enumerate(maps) if _same(x, y)}
        units.append(_Unit(name.replace(".", "-"), module, x.shape, equals))
    return units


def _chain(network: nn.Module, options: ModelOptions) -> _Trunk | None:
    """The levels as stages; None where running the modules one by one gives other maps."""
    info = _info(network)
    used = _used(options, info)
    units = _run_units(network, *_probe(network))
    stages, channels, strides, blocks = {}, {}, {}, {}
    for level in range(used[-1] + 1):
        ends = [i for i, unit in enumerate(units, start=1) if level in unit.equals]
        if not ends:
            return None
        # Blocks may begin as the identity, so the last one; unless it is always the identity.
        learn = [i for i in ends if any(True for _ in units[i - 1].module.parameters())]
        end = learn[-1] if learn else ends[0]
        own, units = units[:end], units[end:]
        stage, shape = f"level{level}", own[-1].shape
        # Not where the size is still that of the level before.
        inside = [u for u in own[:-1] if u.shape[-2:] == shape[-2:] and not u.overwritten]
        cuts = [*inside, own[-1]]
        stages[stage] = nn.Sequential(OrderedDict((unit.name, unit.module) for unit in own))
        channels |= {f"{stage}.{unit.name}": unit.shape[1] for unit in cuts}
        channels[stage], strides[stage] = shape[1], info[level]["reduction"]
        blocks[stage] = tuple(unit.name for unit in cuts)
    aligned = (shape[-1] - 1) * strides[stage] + 1 == _PROBE[1]
    return _Trunk(
        stages, channels, strides, blocks, tuple(f"level{level}" for level in used), aligned
    )


def _same(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and torch.allclose(x, y, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def _whole(network: nn.Module, options: ModelOptions) -> _Trunk:
    """All of it as one stage."""
    info = _info(network)
    levels = _used(options, info)
    image, _ = _probe(network)
    try:
        _maps(network, image, levels, norm=True)
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
