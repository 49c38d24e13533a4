"""PLCA's pixel-level cycle association (§3.2, §3.4): which pixels belong together, its losses."""

from typing import NamedTuple

import torch
from torch import Tensor

from seg_adapt.losses.pairwise_softmax import best_match, normalize
from shared.data.label_maps import IGNORE


class Pixels(NamedTuple):
    """The pixels of one image with a similarity D(a, b) = queries_a · keys_b − offset_a."""

    queries: Tensor  # (N, C)
    keys: Tensor  # (N, C)
    offset: Tensor | None = None  # (N,), None: 0


def cosine_pixels(features: Tensor) -> Pixels:
    """Eq. 1. features: (N, C)."""
    unit = normalize(features)
    return Pixels(unit, unit)


def kl_pixels(probabilities: Tensor, epsilon: float = 1e-10) -> Pixels:
    """Eq. 9, D(a, b) = −KL(P_a ‖ P_b): the pixel that chooses is the first argument.

    Args:
        probabilities: (N, C).
        epsilon: added to the probabilities before the logarithm.
    """
    log_p = (probabilities + epsilon).log()
    return Pixels(probabilities, log_p, (probabilities * log_p).sum(1))


class Cycles(NamedTuple):
    """Source pixel → most similar target pixel → its most similar source pixel."""

    starts: Tensor  # (S,) flat source indices: the labeled pixels
    middles: Tensor  # (S,) flat target indices j*, Eq. 2
    ends: Tensor  # (S,) flat source indices i*, Eq. 3
    closed: Tensor  # (S,) bool, the start's class is the end's: the set I of Eq. 4
    log_probability: Tensor  # (S,) of choosing the middle and then the end, with its graph


def find_cycles(
    source: Pixels, target: Pixels, labels: Tensor, *, epsilon: float = 1e-10, block: int = 512
) -> Cycles:
    """The cycles that start at every labeled pixel of one source image; Eqs. 2 to 6.

    Unlabeled source pixels start none and close none, but can be found.

    Args:
        labels: (N,) train ids of the source pixels, 255 = ignore.
        epsilon: added to the standard deviation of Eq. 6.
        block: rows of similarities that exist at a time.
    """
    starts = (labels != IGNORE).nonzero()[:, 0]
    arguments = {"epsilon": epsilon, "block": block}
    forth, middles = best_match(source.queries, target.keys, starts, **arguments)
    # A target pixel's way back does not depend on who found it.
    found, place = middles.unique(return_inverse=True)
    back, ends = best_match(target.queries, source.keys, found, **arguments)
    ends = ends[place]
    return Cycles(starts, middles, ends, labels[ends] == labels[starts], forth + back[place])


def _similarity(a: Pixels, rows: Tensor, b: Pixels, columns: Tensor) -> Tensor:
    """D of pairs; rows, columns: (R,)."""
    similarity = (a.queries[rows] * b.keys[columns]).sum(1)
    return similarity if a.offset is None else similarity - a.offset[rows]


def association_loss(
    pairs: list[tuple[Pixels, Pixels, Tensor]],
    *,
    direct: bool = False,
    epsilon: float = 1e-10,
    block: int = 512,
) -> tuple[Tensor, list[Cycles]]:
    """Eq. 4 (Eq. 10 on predictions): a mean over the closed cycles of all pairs together.

    Args:
        pairs: source pixels, target pixels and source labels (N,) of each pair of images.
        direct: Sim-PLCA, −D of both associations, instead of their −log-probability.
        epsilon, block: see `find_cycles`.

    Returns:
        the loss, 0 with a graph where no cycle is closed, and the cycles of each pair.
    """
    total, all_cycles = 0.0, []
    for source, target, labels in pairs:
        cycles = find_cycles(source, target, labels, epsilon=epsilon, block=block)
        closed = cycles.closed
        if direct:
            starts, middles, ends = (part[closed] for part in cycles[:3])
            strength = _similarity(source, starts, target, middles)
            strength = strength + _similarity(target, middles, source, ends)
        else:
            strength = cycles.log_probability[closed]
        total = total - strength.sum()
        all_cycles.append(cycles)
    count = sum(cycles.closed.sum() for cycles in all_cycles)
    return total / torch.as_tensor(count).clamp(min=1), all_cycles
