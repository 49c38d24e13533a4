"""PLCA's pixel-level cycle association and spatial aggregation."""

from seg_adapt.losses.association.aggregation import aggregate_features, aggregate_probabilities
from seg_adapt.losses.association.cycles import (
    Cycles,
    Pixels,
    association_loss,
    cosine_pixels,
    find_cycles,
    kl_pixels,
)

__all__ = [
    "Cycles",
    "Pixels",
    "aggregate_features",
    "aggregate_probabilities",
    "association_loss",
    "cosine_pixels",
    "find_cycles",
    "kl_pixels",
]
