"""Attention: over positions, over pyramid levels, and by a discriminator's output."""

import torch
from torch import Tensor


def spatial_mask(scores: Tensor) -> Tensor:
    """ω = softmax over all positions of a map (SAPNet, Li et al. 2020, Eq. 1).

    Args:
        scores: (N, 1, H, W) mask logits.

    Returns:
        (N, 1, H, W); every image's sum over positions is 1.
    """
    return scores.flatten(1).softmax(dim=1).view_as(scores)


def level_attention(vectors: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Sums pyramid levels by a softmax over levels, channel by channel (SAPNet, Eq. 3).

    Args:
        vectors, scores: (N, L, C).

    Returns:
        𝒱 = Σ V·φ (N, C), and the weights φ (N, L, C), whose sum over levels is 1.
    """
    weights = scores.softmax(dim=1)
    return (vectors * weights).sum(dim=1), weights


def discriminator_attention(features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """f′ = f + f ⊙ α, α = |tanh D(f)|: more weight where domains differ (DAST, Yu et al. 2021).

    Args:
        features: (N, C, H, W).
        logits: D(f), (N, 1, H, W).

    Returns:
        f′, and the attention α in [0, 1) (N, 1, H, W).
    """
    attention = torch.tanh(logits).abs()
    return features + features * attention, attention
