"""What flows between data, detectors and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

Losses = dict[str, Tensor]
"""Name to weighted 0-dim loss; their sum is what a step back-propagates."""


@dataclass(frozen=True)
class Sample:
    """One image as the network sees it. A target's has neither boxes nor classes nor masks."""

    image: Tensor  # (3, h, w) uint8 RGB, resized, perhaps flipped
    name: str
    height: int  # of the file, in pixels
    width: int
    boxes: Tensor | None = None  # (n, 4) float32 x1 y1 x2 y2 in the resized image
    classes: Tensor | None = None  # (n,) int64 in [0, C)
    masks: Tensor | None = None  # (n, h, w) bool, only if asked for


class Maps(NamedTuple):
    """What the adversary sees of N images, each cropped to its valid area: padding tells domains.

    By the backbone's name of the map, one entry per image: images of one batch may differ in size.
    """

    features: dict[str, list[Tensor]]  # f̂, N × (1, Ĉ, h, w)
    logits: dict[str, list[Tensor]]  # P̂ of those that the RPN reads: N × (1, A, h, w), no sigmoid
    regions: Sequence[Tensor] = ()  # N × (n, D), the box head's of proposals; () unless asked for


@dataclass(frozen=True)
class Detections:
    """What was found in one image, in pixels of the file, by descending score."""

    boxes: Tensor  # (n, 4) float32 x1 y1 x2 y2; a pixel p covers [p, p + 1)
    scores: Tensor  # (n,) float32
    classes: Tensor  # (n,) int64 in [0, C)
    masks: Tensor | None = None  # (n, height, width) bool

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: Tensor | slice) -> "Detections":
        """Those of an index (k,), a bool mask (n,) or a slice."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v[which] for k, v in chosen.items() if v is not None})

    def to(self, device: torch.device | str) -> "Detections":
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in moved.items() if v is not None})
