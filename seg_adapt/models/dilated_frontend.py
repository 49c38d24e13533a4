"""The front-end network of Yu & Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions",
ICLR 2016, §4: VGG-16 without pool4 and pool5, its fully connected layers as convolutions. FCNs in
the Wild adapts it; their context module is not part of it."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_adapt.models.vgg16 import vgg16_stages

# What unpadded convolutions take from each side: 2 + 4 + 12 + 24 + 48 + 96 input pixels.
MARGIN = 186
_CHUNK = 1024


class ReflectionMargin(nn.Module):
    """Mirrors an image about its border pixels, as often as it takes to fill the margin.

    Equal to `nn.ReflectionPad2d` where that is defined, which is on images larger than the margin.
    """

    def __init__(self, margin: int) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W); returns (N, C, H + 2 margin, W + 2 margin)."""
        rows, columns = (self._mirrored(size).to(images.device) for size in images.shape[-2:])
        return images.index_select(2, rows).index_select(3, columns)

    def _mirrored(self, size: int) -> Tensor:
        if size == 1:
            return torch.zeros(1 + 2 * self.margin, dtype=torch.int64)
        period = 2 * (size - 1)
        index = torch.arange(-self.margin, size + self.margin) % period
        return torch.minimum(index, period - index)


class ChunkedConv2d(nn.Conv2d):
    """A convolution that computes its output channels in groups of 1024.

    The same numbers; the CPU's weight gradient of fc6 (512 → 4096, 7×7, dilation 4) takes more than
    forty times as long in one piece.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in_channels, h, w)."""
        if x.device.type != "cpu" or self.out_channels <= _CHUNK:
            return super().forward(x)
        parts = zip(self.weight.split(_CHUNK), self.bias.split(_CHUNK), strict=True)
        return torch.cat(
            [F.conv2d(x, w, b, self.stride, self.padding, self.dilation) for w, b in parts], dim=1
        )


def frontend_stages(
    num_classes: int, *, width: float = 1.0, padding: str = "padded"
) -> tuple[dict[str, nn.Module], dict[str, int]]:
    """Stages conv1 … conv5, fc6, fc7 and head, and the channels each returns.

    Output cell i is centered on input pixel 8(i + ½) − ½; there are ⌊H/8⌋ × ⌊W/8⌋ of them.

    Args:
        width: multiplies every channel count but the number of classes.
        padding: 'padded' convolutions, or 'reflect' (published): unpadded ones on an image that is
            mirrored 186 pixels beyond each side.
    """
    stages, channels = vgg16_stages(aligned=False, width=width)
    hidden = max(1, round(4096 * width))
    fc6 = ChunkedConv2d(channels["conv5"], hidden, 7, padding=12, dilation=4)
    fc7 = nn.Conv2d(hidden, hidden, 1)
    classifier = nn.Conv2d(hidden, num_classes, 1)
    for layer in (fc6, fc7):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    nn.init.normal_(classifier.weight, std=0.001)
    nn.init.zeros_(classifier.bias)
    stages["fc6"] = _fully_connected(6, fc6)
    stages["fc7"] = _fully_connected(7, fc7)
    stages["head"] = classifier
    if padding == "reflect":
        for stage in stages.values():
            for module in stage.modules():
                if isinstance(module, nn.Conv2d):
                    module.padding = (0, 0)
        first = OrderedDict(
            margin=ReflectionMargin(MARGIN), **dict(stages["conv1"].named_children())
        )
        stages["conv1"] = nn.Sequential(first)
    return stages, channels | {"fc6": hidden, "fc7": hidden, "head": num_classes}


def _fully_connected(number: int, layer: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            {
                f"fc{number}": layer,
                f"relu{number}": nn.ReLU(inplace=True),
                f"drop{number}": nn.Dropout(0.5),
            }
        )
    )
