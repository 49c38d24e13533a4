"""Pooling by windows of many sizes, weighted by a mask per size.

Average pooling with stride 2 is A f Bᵀ with a banded matrix per axis, hence linear, and Eq. 2 can
be read from its other side: Σ (A f Bᵀ) ⊙ ω = Σ f ⊙ (Aᵀ ω B). Only the masks, of one channel, are
ever multiplied by the bands; the pooled maps, of hundreds, are never made.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 2


def window_size(kernel: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a level's window: kⁿ, on each axis no more than the map has."""
    return min(kernel, height), min(kernel, width)


def pooled_size(kernel: int, height: int, width: int) -> tuple[int, int]:
    """Size (H_n, W_n) of a level: windows that lie inside the map, stride 2, no padding."""
    rows, columns = window_size(kernel, height, width)
    return (height - rows) // STRIDE + 1, (width - columns) // STRIDE + 1


def window_means(length: int, window: int, like: Tensor) -> Tensor:
    """Banded matrix that averages the windows of one axis: (windows, length), rows sum to 1.

    Args:
        length, window: in cells; window <= length.
        like: gives type and device.
    """
    starts = torch.arange(0, length - window + 1, STRIDE, device=like.device)[:, None]
    cells = torch.arange(length, device=like.device)
    inside = (cells >= starts) & (cells < starts + window)
    return inside.to(like.dtype) / window


def average_vectors(features: Tensor, masks: Sequence[Tensor], levels: Sequence[int]) -> Tensor:
    """Eq. 2 with average pooling: Vⁿ = Σ over positions of avgpool_kⁿ(f) · ωⁿ.

    Args:
        features: (N, C, H, W).
        masks: per level (N, 1, H_n, W_n).
        levels: kⁿ.

    Returns:
        (N, L, C).
    """
    height, width = features.shape[-2:]
    spread = []
    for kernel, mask in zip(levels, masks, strict=True):
        rows, columns = window_size(kernel, height, width)
        down = window_means(height, rows, features)
        across = window_means(width, columns, features)
        spread.append(down.T @ mask[:, 0] @ across)
    return torch.stack(spread, dim=1).flatten(2) @ features.flatten(2).transpose(1, 2)


def maximum_vectors(features: Tensor, masks: Sequence[Tensor], levels: Sequence[int]) -> Tensor:
    """Eq. 2 with maximum pooling, the paper's ablation. Shapes as in `average_vectors`."""
    vectors = []
    for kernel, mask in zip(levels, masks, strict=True):
        window = window_size(kernel, *features.shape[-2:])
        vectors.append((F.max_pool2d(features, window, STRIDE) * mask).sum(dim=(2, 3)))
    return torch.stack(vectors, dim=1)
