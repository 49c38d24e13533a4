"""Attention: over positions, over pyramid levels, and by a discriminator's output."""

import torch
from torch import Tensor


def spatial_attention(features: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Pools a map by a softmax over all of its positions (SAPNet, Li et al. 2020, Eqs. 1–2).

    Args:
        features: (N, C, H, W).
        scores: (N, 1, H, W) mask logits.

    Returns:
        V = Σ f·ω (N, C), and the mask ω (N, 1, H, W), whose sum over positions is 1.
    """
    mask = scores.flatten(1).softmax(dim=1).view_as(scores)
    return (features * mask).sum(dim=(2, 3)), mask


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
