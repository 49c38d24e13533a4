"""PSPNet's new layers (Zhao et al., 2017): pyramid pooling and its two classifiers."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import UserError

BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """The map beside its averages over grids of 1, 2², 3² and 6² cells (section 3.2, Figure 3).

    A cell covers its share of the map, whatever the map's size: test on windows of the training
    size, so that it covers what it did in training.

    Args:
        in_channels: of the map; every grid is reduced to in_channels / len(bins).
        bins: cells per side of each grid.
    """

    def __init__(self, in_channels: int, bins: Sequence[int] = BINS) -> None:
        super().__init__()
        reduced = max(1, in_channels // len(bins))
        self.out_channels = in_channels + len(bins) * reduced
        self.branches = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    pool=nn.AdaptiveAvgPool2d(cells),
                    conv=nn.Conv2d(in_channels, reduced, 1, bias=False),
                    bn=nn.BatchNorm2d(reduced),
                    relu=nn.ReLU(inplace=True),
                )
            )
            for cells in bins
        )

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, C, h, w); returns (N, out_channels, h, w), the map itself first.

        Raises UserError in training on one image: BatchNorm has one value per channel there.
        """
        if self.training and len(features) == 1:
            raise UserError(
                "PSPNet is trained on 1 image per forward pass, but BatchNorm of its 1x1 grid "
                "needs 2 or more: raise SOLVER.IMS_PER_BATCH"
            )
        size = features.shape[-2:]
        pooled = (
            F.interpolate(branch(features), size, mode="bilinear", align_corners=True)
            for branch in self.branches
        )
        return torch.cat([features, *pooled], dim=1)


def psp_classifier(in_channels: int, hidden: int, num_classes: int) -> nn.Sequential:
    """(N, in_channels, h, w) to logits (N, num_classes, h, w); also the auxiliary classifier."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, hidden, 3, padding=1, bias=False),
            bn=nn.BatchNorm2d(hidden),
            relu=nn.ReLU(inplace=True),
            dropout=nn.Dropout2d(0.1),
            classifier=nn.Conv2d(hidden, num_classes, 1),
        )
    )
