"""Atrous spatial pyramid pooling heads of DeepLab-v2 (Chen et al., 2017, section 3.2)."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn


def _classifier(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ASPP(nn.Module):
    """Sum of dilated 3×3 classifiers, one per rate, every one of them trained.

    AdaptSegNet's and DAST's released code returns after the second branch: rates (6, 12) read
    their checkpoints.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        rates: Sequence[int] = (6, 12, 18, 24),
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            _classifier(
                nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate, bias=bias)
            )
            for rate in rates
        )

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, C, h, w); returns logits (N, K, h, w)."""
        return sum(branch(features) for branch in self.branches)


class ASPPL(nn.Module):
    """DeepLab-v2's VGG-16 head "ASPP-L": every rate has its own fc6, fc7 and fc8; summed."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        rates: Sequence[int] = (6, 12, 18, 24),
        bias: bool = True,
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    fc6=nn.Conv2d(in_channels, hidden, 3, padding=rate, dilation=rate),
                    relu6=nn.ReLU(inplace=True),
                    drop6=nn.Dropout(0.5),
                    fc7=nn.Conv2d(hidden, hidden, 1),
                    relu7=nn.ReLU(inplace=True),
                    drop7=nn.Dropout(0.5),
                    fc8=_classifier(nn.Conv2d(hidden, num_classes, 1, bias=bias)),
                )
            )
            for rate in rates
        )

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, C, h, w); returns logits (N, K, h, w)."""
        return sum(branch(features) for branch in self.branches)
