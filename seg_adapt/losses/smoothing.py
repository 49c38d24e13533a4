"""PLCA's adaptive label smoothing (§3.5)."""

import torch.nn.functional as F
from torch import Tensor


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """l = −1/C Σ_c log P(c): how far each prediction is from the uniform one.

    Args:
        logits: (N, C, h, w).

    Returns:
        (N, h, w), at least log C.
    """
    return -F.log_softmax(logits, dim=1).mean(dim=1)


def adaptive_label_smoothing(logits: Tensor, gamma: float = 10.0) -> Tensor:
    """Eq. 13 as the mean of (l − γ)² / 2γ.

    Its gradient is that of the released code's (l/γ − 1) · l with the factor held constant, whose
    value may fall while l moves away from γ and says nothing in a log.

    Args:
        logits: (N, C, h, w); every position counts, labelled or not.
        gamma: the l that predictions are drawn to.
    """
    return (uniform_cross_entropy(logits) - gamma).square().mean() / (2 * gamma)
