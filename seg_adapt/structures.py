"""What flows between data, methods and engine. A target batch holds pseudo-labels at most."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

Losses = dict[str, Tensor]
"""Name to weighted 0-dim loss; their sum is what a phase back-propagates."""

Records = Mapping[str, Tensor | float]
"""Name to what is logged beside losses, such as `accuracy/domain`: 0-dim, without a graph."""


@dataclass(frozen=True)
class Phase:
    """One backward pass of an iteration.

    Args:
        group: the optimizer group that receives the gradient.
        target_logits: (N, C, h, w) of the target, with their graph: self-training adds the
            pseudo-labels' cross-entropy to this phase, without another forward pass.
    """

    group: str
    losses: Losses
    target_logits: Tensor | None = None
    records: Records = field(default_factory=dict)


@dataclass(frozen=True)
class Geometry:
    """Where each crop of a batch lies in its original image.

    An image is flipped as a whole, resized, then cropped: coordinates are those of the flipped
    frame, so a region of the image plane stays where it is under a flip.
    """

    top: Tensor  # (N,) rows of the resized image above the crop
    left: Tensor  # (N,) columns of the resized image left of the crop
    scale_y: Tensor  # (N,) resized height / original height
    scale_x: Tensor  # (N,) resized width / original width
    height: Tensor  # (N,) original height in pixels
    width: Tensor  # (N,) original width in pixels

    def rows(self, positions: Tensor) -> Tensor:
        """Original vertical coordinate (N, h), in pixels, of crop rows (h,).

        Continuous: pixel p covers [p, p + 1). Rows of padding lie outside [0, height).
        """
        return (positions[None] + 0.5 + self.top[:, None]) / self.scale_y[:, None]

    def columns(self, positions: Tensor) -> Tensor:
        """Original horizontal coordinate (N, w), in pixels, of crop columns (w,)."""
        return (positions[None] + 0.5 + self.left[:, None]) / self.scale_x[:, None]

    def to(self, device: torch.device) -> "Geometry":
        return Geometry(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @staticmethod
    def whole(count: int, height: int, width: int) -> "Geometry":
        """Of images that were neither resized nor cropped."""
        ones = torch.ones(count)
        return Geometry(0 * ones, 0 * ones, ones, ones, height * ones, width * ones)

    @staticmethod
    def stack(geometries: list["Geometry"]) -> "Geometry":
        """One geometry of N images from N 0-dim ones."""
        return Geometry(
            **{
                f.name: torch.stack([getattr(g, f.name) for g in geometries])
                for f in fields(Geometry)
            }
        )


@dataclass(frozen=True)
class TargetBatch:
    """Unlabeled images of the target domain; on a device as `SourceBatch` is."""

    images: Tensor  # (N, 3, H, W) uint8 RGB
    geometry: Geometry
    names: tuple[str, ...]
    pseudo_labels: Tensor | None = None  # (N, H, W) train ids, 255 = ignore; self-training

    def to(self, device: torch.device) -> "TargetBatch":
        pseudo_labels = self.pseudo_labels
        if pseudo_labels is not None:
            pseudo_labels = pseudo_labels.to(device).long()
        return TargetBatch(
            self.images.to(device), self.geometry.to(device), self.names, pseudo_labels
        )


@dataclass(frozen=True)
class SourceBatch:
    """Labeled images of the source domain.

    Labels travel from the loader to the device in a byte each; `to` makes them int64.
    """

    images: Tensor  # (N, 3, H, W) uint8 RGB
    labels: Tensor  # (N, H, W) train ids, 255 = ignore; uint8 or int64
    geometry: Geometry
    names: tuple[str, ...]

    def to(self, device: torch.device) -> "SourceBatch":
        labels = self.labels.to(device).long()
        return SourceBatch(self.images.to(device), labels, self.geometry.to(device), self.names)
