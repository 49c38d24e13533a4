"""Atrous spatial pyramid pooling heads of DeepLab-v2 (Chen et al., 2017, section 3.2)."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn


def _initialized(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class _Branches(nn.Module):
    """The sum of one branch per dilation rate."""

    def __init__(self, rates: Sequence[int], branch: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branch(rate) for rate in rates)

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, C, h, w); returns logits (N, K, h, w)."""
        return sum(branch(features) for branch in self.branches)


class ASPP(_Branches):
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
        def classifier(rate: int) -> nn.Conv2d:
            conv = nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate, bias=bias)
            return _initialized(conv)

        super().__init__(rates, classifier)


class ASPPL(_Branches):
    """DeepLab-v2's VGG-16 head "ASPP-L": every rate has its own fc6, fc7 and fc8; summed."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        rates: Sequence[int] = (6, 12, 18, 24),
        bias: bool = True,
        hidden: int = 1024,
    ) -> None:
        def classifier(rate: int) -> nn.Sequential:
            return nn.Sequential(
                OrderedDict(
                    fc6=nn.Conv2d(in_channels, hidden, 3, padding=rate, dilation=rate),
                    relu6=nn.ReLU(inplace=True),
                    drop6=nn.Dropout(0.5),
                    fc7=nn.Conv2d(hidden, hidden, 1),
                    relu7=nn.ReLU(inplace=True),
                    drop7=nn.Dropout(0.5),
                    fc8=_initialized(nn.Conv2d(hidden, num_classes, 1, bias=bias)),
                )
            )

        super().__init__(rates, classifier)
