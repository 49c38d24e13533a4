"""Spatial aggregation (§3.3): every pixel becomes a mixture of its image's pixels."""

import torch.nn.functional as F
from torch import Tensor

from seg_adapt.losses.association.kernels import attend


def aggregate_features(
    features: Tensor, *, alpha: float = 0.5, epsilon: float = 1e-10, block: int = 512
) -> Tensor:
    """Eqs. 7 and 8 by cosine similarity with contrast normalisation; the pixel itself included.

    Args:
        features: (N, C), the pixels of one image.
        alpha: share of the mixture that is not the pixel itself, in (0, 1].
        epsilon, block: see `kernels.best_match`.
    """
    return attend(features, alpha=alpha, epsilon=epsilon, block=block)


def aggregate_probabilities(
    probabilities: Tensor, *, alpha: float = 0.5, epsilon: float = 1e-10
) -> Tensor:
    """Eqs. 7 and 8 by −KL(P_j ‖ P_j'), without contrast normalisation as in the released code.

    −KL is Σ_c P_j(c) log P_j'(c) but for a constant of j, which the softmax drops: this is dot
    product attention with P as queries and values and log P as keys.

    Args:
        probabilities: (N, C), the pixels of one image.
        alpha: see `aggregate_features`.
        epsilon: added to the probabilities before the logarithm.
    """
    # Channels of zeros change no product, and CUDA's kernel of linear memory asks for multiples.
    values = F.pad(probabilities, (0, -probabilities.shape[1] % 8))[None, None]
    keys = F.pad((probabilities + epsilon).log(), (0, -probabilities.shape[1] % 8))[None, None]
    mixed = F.scaled_dot_product_attention(values, keys, values, scale=1.0)
    return (1 - alpha) * probabilities + alpha * mixed[0, 0, :, : probabilities.shape[1]]
