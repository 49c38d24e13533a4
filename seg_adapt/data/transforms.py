"""Joint geometry of an image and its labels; the crop's place in the image is kept."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from seg_adapt.structures import Geometry
from shared.data.label_maps import IGNORE
from shared.errors import UserError


def resize_image(image: Tensor, size: tuple[int, int], interpolation: str = "bicubic") -> Tensor:
    """Antialiased resize (equal to Pillow's) of uint8 images (…, 3, H, W) to (height, width)."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return v2.resize(image, list(size), InterpolationMode(interpolation), antialias=True)


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest neighbor at pixel centers, as the image's resize samples it; labels (H, W)."""
    if tuple(labels.shape) == tuple(size):
        return labels
    return v2.resize(labels[None], list(size), InterpolationMode.NEAREST_EXACT)[0]


@dataclass(frozen=True)
class JointTransform:
    """Flip, resize and crop, drawn from a generator that the caller seeds.

    Args:
        resize: (width, height) that every image is brought to first; None keeps its own size.
        scales: range of the random scale that is applied on top; (1, 1) is none.
        crop: (width, height) of the random crop; None takes the whole image. What is missing at
            the lower and right border is padded with black and the ignore label.
        flip: probability of a horizontal flip of the whole image.
        interpolation: of the image; labels are always nearest neighbor.
    """

    resize: tuple[int, int] | None = None
    scales: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    flip: float = 0.0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if not 0 < self.scales[0] <= self.scales[1]:
            raise UserError(f"scales must be 0 < low <= high, got {list(self.scales)}")

    def __call__(
        self,
        image: Tensor,
        labels: Tensor | None,
        generator: np.random.Generator,
        original: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor | None, Geometry]:
        """
        Args:
            image: (3, H, W) uint8.
            labels: (H, W) of any integer type, or None.
            original: (height, width) of the file where `image` is a resized copy of it.
        """
        height, width = original or image.shape[-2:]
        flipped = generator.random() < self.flip
        scale = generator.uniform(*self.scales)
        base_width, base_height = self.resize or (width, height)
        size = max(1, round(base_height * scale)), max(1, round(base_width * scale))
        crop_width, crop_height = self.crop or (size[1], size[0])
        top = int(generator.integers(max(size[0] - crop_height, 0) + 1))
        left = int(generator.integers(max(size[1] - crop_width, 0) + 1))

        def place(x: Tensor, fill: int) -> Tensor:
            x = x.flip(-1) if flipped else x
            x = x[..., top : top + crop_height, left : left + crop_width]
            missing = crop_width - x.shape[-1], crop_height - x.shape[-2]
            return F.pad(x, (0, missing[0], 0, missing[1]), value=fill) if any(missing) else x

        image = place(resize_image(image, size, self.interpolation), 0)
        if labels is not None:
            labels = place(resize_labels(labels, size), IGNORE)
        geometry = Geometry(
            *(
                torch.tensor(float(value))
                for value in (top, left, size[0] / height, size[1] / width, height, width)
            )
        )
        return image, labels, geometry
