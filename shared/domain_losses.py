"""Losses of domain classifiers, on logits. The domain labels are fixed here, for every method."""

from collections.abc import Callable
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.registry import Registry

DOMAIN_LOSSES: Registry[Callable[[Tensor, "Domain"], Tensor]] = Registry("domain loss")


class Domain(IntEnum):
    """The one convention. A paper that swaps the labels swaps the roles, not this enum."""

    SOURCE = 0
    TARGET = 1


@DOMAIN_LOSSES.register("bce")
def domain_bce(logits: Tensor, domain: Domain) -> Tensor:
    """Mean binary cross-entropy of domain logits against one domain.

    Args:
        logits: any shape; positive means target.

    Returns:
        0-dim; 0 with a zero gradient where `logits` is empty.
    """
    if logits.numel() == 0:
        return logits.sum()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(domain)))


@DOMAIN_LOSSES.register("least_squares")
def domain_least_squares(logits: Tensor, domain: Domain) -> Tensor:
    """Mean squared distance to the domain's label (Mao et al., LSGAN, Eq. 2, without the ½).

    Args:
        logits: any shape; raw outputs, no sigmoid.
    """
    if logits.numel() == 0:
        return logits.sum()
    # In fp32 under autocast too, as the cross-entropy is.
    return (logits.float() - float(domain)).square().mean()


def domain_accuracy(source_logits: Tensor, target_logits: Tensor, threshold: float = 0.0) -> Tensor:
    """Mean of the two domains' accuracies, so that 0.5 is chance whatever their sizes.

    Args:
        source_logits, target_logits: any shape; above `threshold` means target (0 for
            cross-entropy logits, ½ for least squares).

    Returns:
        0-dim, detached; NaN where a domain is empty.
    """
    source_hits = (source_logits.detach() <= threshold).float().mean()
    target_hits = (target_logits.detach() > threshold).float().mean()
    return (source_hits + target_hits) / 2
