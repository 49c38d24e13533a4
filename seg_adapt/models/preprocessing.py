"""From RGB images to what the weights were trained on."""

import torch
from torch import Tensor, nn

# kind: (channel order taken from RGB, mean, std), the latter two in 0..255 and in network order
_KINDS = {
    "caffe": ((2, 1, 0), (104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0)),
    "torchvision": (
        (0, 1, 2),
        tuple(255 * value for value in (0.485, 0.456, 0.406)),
        tuple(255 * value for value in (0.229, 0.224, 0.225)),
    ),
}


class Preprocessing(nn.Module):
    """Images to network input: channel order, then (x - mean) / std.

    It belongs to the weights, so all three are persistent buffers: a checkpoint brings its own.

    Args:
        kind: "caffe" (BGR minus the mean) or "torchvision" (RGB, mean and standard deviation).
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        order, mean, std = _KINDS[kind]
        self.register_buffer("order", torch.tensor(order))
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    @property
    def kind(self) -> str:
        """The name of what the buffers hold now, or "custom"."""
        for name, (order, mean, std) in _KINDS.items():
            held = (self.order, self.mean.flatten(), self.std.flatten())
            if all(
                torch.allclose(values.double().cpu(), torch.tensor(known, dtype=torch.float64))
                for values, known in zip(held, (order, mean, std), strict=True)
            ):
                return name
        return "custom"

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W), RGB in 0..255, uint8 or float; returns the same shape, float."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
        ordered = images.index_select(1, self.order).to(self.mean.dtype)
        return (ordered - self.mean) / self.std
