"""Context-aware fusion of feature levels: DAFormer's head (Hoyer, Dai & Van Gool, CVPR 2022, §3.2),
with fewer channels."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATES = (1, 6, 12, 18)


def _convolution(in_channels: int, channels: int, kernel: int, **options: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel, bias=False, **options)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels), relu=nn.ReLU()))


def _branch(in_channels: int, channels: int, rate: int) -> nn.Module:
    """1×1 for rate 1, otherwise a depthwise separable 3×3."""
    if rate == 1:
        return _convolution(in_channels, channels, 1)
    depthwise = _convolution(
        in_channels, in_channels, 3, padding=rate, dilation=rate, groups=in_channels
    )
    return nn.Sequential(depthwise, _convolution(in_channels, channels, 1))


class ContextAwareFusion(nn.Module):
    """All levels, each embedded by a 1×1 convolution and brought to the size of the first, through
    depthwise separable ASPP.

    Args:
        in_channels: of each level, the finest first.
        channels: of each embedding, of each branch and of the result.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in in_channels)
        stacked = len(in_channels) * channels
        self.branches = nn.ModuleList(_branch(stacked, channels, rate) for rate in RATES)
        self.bottleneck = _convolution(len(RATES) * channels, channels, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps: (N, C_l, h_l, w_l) per level; returns (N, channels, h_0, w_0)."""
        size = maps[0].shape[-2:]
        embedded = [
            F.interpolate(embed(x), size, mode="bilinear", align_corners=False)
            for embed, x in zip(self.embeddings, maps, strict=True)
        ]
        stacked = torch.cat(embedded, dim=1)
        return self.bottleneck(torch.cat([branch(stacked) for branch in self.branches], dim=1))


def fusion_classifier(channels: int, num_classes: int) -> nn.Sequential:
    """(N, channels, h, w) to logits (N, num_classes, h, w)."""
    classifier = nn.Conv2d(channels, num_classes, 1)
    return nn.Sequential(OrderedDict(dropout=nn.Dropout2d(0.1), classifier=classifier))
