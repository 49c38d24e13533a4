"""The feature levels of timm's networks, as stages that run one after another.

Nothing of timm is copied: where its modules run one by one is found by running them.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import UserError

_PROBE = (65, 97)  # pixels; 32 k + 1, so that the number of cells tells where they are centered


@dataclass(frozen=True)
class Levels:
    """`level0`, the finest, `level1` and so on, each reading the map of the one before.

    Args:
        stages: the modules of each level, by timm's names with '-' for '.'.
        channels: of each level, and of each cut inside as `level.module`.
        strides: of each level, in pixels.
        cuts: the modules of each level behind which its map can be taken as well.
        aligned: cells are centered on every stride-th pixel from the first on.
    """

    stages: dict[str, nn.Sequential]
    channels: dict[str, int]
    strides: dict[str, int]
    cuts: dict[str, tuple[str, ...]]
    aligned: bool


def find_levels(network: nn.Module, deepest: int) -> Levels | None:
    """The levels up to number `deepest`; None where running the modules one by one gives other
    maps than timm, as with vision transformers."""
    info = feature_info(network)
    units = _run_units(network, *probe(network))
    stages, channels, strides, cuts = {}, {}, {}, {}
    for level in range(deepest + 1):
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
        taken = [*inside, own[-1]]
        stages[stage] = nn.Sequential(OrderedDict((unit.name, unit.module) for unit in own))
        channels |= {f"{stage}.{unit.name}": unit.shape[1] for unit in taken}
        channels[stage], strides[stage] = shape[1], info[level]["reduction"]
        cuts[stage] = tuple(unit.name for unit in taken)
    aligned = (shape[-1] - 1) * strides[stage] + 1 == _PROBE[1]
    return Levels(stages, channels, strides, cuts, aligned)


def timm_name(name: str) -> str:
    """timm's name of a tensor that is called `name` within a level."""
    return name.replace("-", ".")


def feature_info(network: nn.Module) -> list[dict[str, Any]]:
    """Per feature level: the `module` that it ends with, `num_chs`, `reduction`."""
    info = network.feature_info
    return list(getattr(info, "info", info))


def feature_maps(
    network: nn.Module, images: Tensor, levels: Sequence[int] | None = None, norm: bool = False
) -> list[Tensor]:
    """The maps (N, C, h, w) of feature levels, by timm's own way; None: of all."""
    if not hasattr(network, "forward_intermediates"):
        return network(images)
    indices = None if levels is None else list(levels)
    return network.forward_intermediates(
        images, indices=indices, norm=norm, output_fmt="NCHW", intermediates_only=True
    )


def probe(network: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """An image and its maps at all levels."""
    network.eval()
    generator = torch.Generator().manual_seed(0)
    for missing in (0, 1):
        height, width = (size - missing for size in _PROBE)
        image = torch.rand(1, 3, height, width, generator=generator)
        try:
            return image, feature_maps(network, image)
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


def _same(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and torch.allclose(x, y, rtol=1e-4, atol=1e-5)
