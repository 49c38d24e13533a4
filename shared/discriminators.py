"""A fully convolutional domain classifier."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from shared.errors import UserError


class ConvDiscriminator(nn.Sequential):
    """Convolutions with LeakyReLU(0.2) between them and one output channel.

    AdaptSegNet's output-space classifier (Tsai et al. 2018, §4.1) is the default: five 4×4
    convolutions of stride 2.

    Args:
        in_channels: channels of the input map.
        channels: outputs of every convolution but the last, whose output is 1 logit.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (64, 128, 256, 512),
        *,
        kernel: int = 4,
        stride: int = 2,
        padding: int = 1,
    ) -> None:
        if any(type(count) is not int or count < 1 for count in channels):
            raise UserError(
                f"discriminator channels are {list(channels)}, expected whole numbers >= 1"
            )
        widths = [in_channels, *channels, 1]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers.append(nn.Conv2d(width_in, width_out, kernel, stride, padding))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        super().__init__(*layers[:-1])

    def forward(self, maps: Tensor) -> Tensor:
        """Domain logits (N, 1, h, w) of maps (N, C, H, W); UserError where these are too small."""
        height, width = maps.shape[-2:]
        convolutions = [layer for layer in self if isinstance(layer, nn.Conv2d)]
        for layer in convolutions:
            (kernel, _), (stride, _), (padding, _) = layer.kernel_size, layer.stride, layer.padding
            height = (height + 2 * padding - kernel) // stride + 1
            width = (width + 2 * padding - kernel) // stride + 1
        if min(height, width) < 1:
            raise UserError(
                f"the discriminator's {len(convolutions)} convolutions leave nothing of a map of "
                f"{maps.shape[3]}x{maps.shape[2]}: use larger images"
            )
        return super().forward(maps)
