"""From RGB images to what the weights were trained on."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Convention(NamedTuple):
    """What weights expect of images: `order` takes channels from RGB, the rest is in 0..255."""

    order: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of_unit_range(cls, mean: tuple[float, ...], std: tuple[float, ...]) -> "Convention":
        """RGB in 0..1 minus `mean`, divided by `std`."""
        return cls((0, 1, 2), tuple(255 * m for m in mean), tuple(255 * s for s in std))


CUSTOM = "custom"
_KINDS = {
    "caffe": Convention((2, 1, 0), (104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0)),
    "torchvision": Convention.of_unit_range((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class Preprocessing(nn.Module):
    """Images to network input: channel order, then (x - mean) / std.

    It belongs to the weights, so all three are persistent buffers: a checkpoint brings its own.

    Args:
        kind: "caffe" (BGR minus the mean), "torchvision" (RGB, mean and standard deviation), or a
            convention of one's own.
    """

    def __init__(self, kind: str | Convention) -> None:
        super().__init__()
        order, mean, std = _KINDS[kind] if isinstance(kind, str) else kind
        self.register_buffer("order", torch.tensor(order))
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    @property
    def kind(self) -> str:
        """The name of what the buffers hold now, or `CUSTOM`."""
        for name, (order, mean, std) in _KINDS.items():
            held = (self.order, self.mean.flatten(), self.std.flatten())
            if all(
                torch.allclose(values.double().cpu(), torch.tensor(known, dtype=torch.float64))
                for values, known in zip(held, (order, mean, std), strict=True)
            ):
                return name
        return CUSTOM

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W), RGB in 0..255, uint8 or float; returns the same shape, float."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
        ordered = images.index_select(1, self.order).to(self.mean.dtype)
        return (ordered - self.mean) / self.std
