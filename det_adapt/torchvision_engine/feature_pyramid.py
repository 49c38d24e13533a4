"""Feature pyramids, and regions pooled from them: torchvision's blocks by Detectron2's rules."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork, RoIAlign, RoIPool, box_area
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from shared.errors import UserError

Norm = Callable[[int], nn.Module]


class FeaturePyramid(nn.Module):
    """Lin et al., Feature Pyramid Networks (CVPR 2017): the maps p2 to p6 of stages at strides 4
    to 32, each of `out_channels`; p6 is p5 at every second cell.

    Args:
        body: gives maps by name, and says their channels and strides, as a `Backbone` does.
        names: which of them, the finest first, each at twice the stride of the one before.
        norm: of each convolution; without, it has a bias.
    """

    rounds_down = False

    def __init__(
        self, body: nn.Module, names: Sequence[str], out_channels: int, norm: Norm | None
    ) -> None:
        super().__init__()
        strides = [body.strides.get(name, 0) for name in names]
        doubled = [stride == 2 * before for before, stride in pairwise(strides)]
        if not names or strides[-1] != 32 or not all(doubled):
            known = ", ".join(f"{name} ({stride})" for name, stride in body.strides.items())
            raise UserError(
                f"MODEL.FPN.IN_FEATURES is {list(names)}, expected maps one after another up to "
                f"stride 32, of {known}"
            )
        self.body = body
        self.maps = {name: f"p{round(math.log2(body.strides[name]))}" for name in names}
        self.divisor = strides[-1]
        self.strides = dict(zip(self.maps.values(), strides, strict=True)) | {"p6": 64}
        self.channels = dict.fromkeys(self.strides, out_channels)
        inputs = [body.channels[name] for name in names]
        self.fpn = FeaturePyramidNetwork(inputs, out_channels, LastLevelMaxPool(), norm)
        # Called by their levels, so that a checkpoint tells which they are of.
        self.fpn.inner_blocks = self._by_level(self.fpn.inner_blocks)
        self.fpn.layer_blocks = self._by_level(self.fpn.layer_blocks)

    def _by_level(self, blocks: nn.ModuleList) -> nn.ModuleList:
        named = nn.ModuleList()
        for level, block in zip(self.maps.values(), blocks, strict=True):
            named.add_module(level.removeprefix("p"), block)
        return named

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (N, 3, H, W), of sizes that `divisor` divides. Every map, by name."""
        stages = self.body(images)
        maps = self.fpn({level: stages[name] for name, level in self.maps.items()})
        maps["p6"] = maps.pop("pool")
        return maps


class RegionPool(nn.Module):
    """The cells under boxes: of several maps, from the one that suits a box's size (Lin et al.,
    Feature Pyramid Networks, Eq. 1: one of 224 pixels is on the map of stride 16).

    Args:
        head: `MODEL.ROI_BOX_HEAD` or `MODEL.ROI_MASK_HEAD`.
        strides: of the maps, in pixels, each twice the one before.
    """

    def __init__(self, head: CfgNode, strides: Sequence[int]) -> None:
        super().__init__()
        self.finest = round(math.log2(strides[0]))
        self.size = head.POOLER_RESOLUTION
        self.pools = nn.ModuleList(_pool(head, stride) for stride in strides)

    def forward(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """(R, C, size, size) of maps (N, C, h, w) and per image boxes (n, 4), Σn = R."""
        if len(self.pools) == 1:
            return self.pools[0](features[0], boxes)
        images = [torch.full_like(own[:, :1], number) for number, own in enumerate(boxes)]
        regions = torch.cat([torch.cat(images), torch.cat(boxes)], dim=1)
        levels = self.levels(regions[:, 1:])
        pooled = features[0].new_zeros(len(regions), features[0].shape[1], self.size, self.size)
        for level, (pool, maps) in enumerate(zip(self.pools, features, strict=True)):
            chosen = (levels == level).nonzero()[:, 0]
            pooled = pooled.index_put((chosen,), pool(maps, regions[chosen]))
        return pooled

    def levels(self, boxes: Tensor) -> Tensor:
        """(R,) the number of each box's map, of boxes (R, 4)."""
        # As Detectron2 rounds; torchvision's own adds its epsilon after the logarithm.
        octaves = (4 + torch.log2(box_area(boxes).sqrt() / 224 + 1e-8)).floor()
        coarsest = self.finest + len(self.pools) - 1
        return octaves.clamp(self.finest, coarsest).to(torch.int64) - self.finest


def _pool(head: CfgNode, stride: int) -> nn.Module:
    if head.POOLER_TYPE == "ROIPool":
        return RoIPool(head.POOLER_RESOLUTION, 1 / stride)
    # Aligned: boxes are shifted by half a cell, onto the cells' centers.
    aligned = head.POOLER_TYPE == "ROIAlignV2"
    return RoIAlign(head.POOLER_RESOLUTION, 1 / stride, head.POOLER_SAMPLING_RATIO, aligned=aligned)
