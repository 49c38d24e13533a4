"""The adversarial loss of the pyramid; knows neither engine nor task."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.domain_losses import Domain, domain_accuracy
from shared.errors import UserError
from shared.grad_reverse import grad_reverse
from shared.sap.module import SpatialAttentionPyramid

Maps = Tensor | Sequence[Tensor]
"""(N, C, H, W), or per image (1, C, H, W) where images have sizes of their own."""


def sap_losses(
    module: SpatialAttentionPyramid,
    source: tuple[Maps, Maps | None],
    target: tuple[Maps, Maps | None],
    *,
    weight: float,
    reduction: str = "sum",
    grl_scale: float = 1.0,
) -> tuple[dict[str, Tensor], Tensor]:
    """Eqs. 4 and 6 by gradient reversal: λ · (CE of the source + CE of the target).

    The domains go through the module one after the other. Features and guide are both reversed,
    so backbone and task head learn to hide the domain that the module learns to tell.

    Args:
        source, target: (features f̂, guide P̂) as `SpatialAttentionPyramid` takes them, or one map
            per image, cropped to its valid area.
        weight: λ; scales what the module learns as well.
        reduction: 'sum' adds the domains' mean cross-entropies, which the published λ were used
            with; 'mean' halves that (Eq. 4).
        grl_scale: scales the reversed gradient only.

    Returns:
        {"sap": weighted loss}, and the domain accuracy, the mean over domains, 0.5 = chance.
    """
    if reduction not in ("sum", "mean"):
        raise UserError(f"SAP.LOSS_REDUCTION is '{reduction}', expected one of sum, mean")
    source_logits = _reversed_logits(module, *source, grl_scale)
    target_logits = _reversed_logits(module, *target, grl_scale)
    loss = _cross_entropy(source_logits, Domain.SOURCE) + _cross_entropy(
        target_logits, Domain.TARGET
    )
    if reduction == "mean":
        loss = loss / 2
    accuracy = domain_accuracy(_margin(source_logits), _margin(target_logits))
    return {"sap": weight * loss}, accuracy


def _reversed_logits(
    module: SpatialAttentionPyramid, features: Maps, guide: Maps | None, scale: float
) -> Tensor:
    """Domain logits (N, 2)."""

    def logits(features: Tensor, guide: Tensor | None) -> Tensor:
        reversed_guide = None if guide is None else grad_reverse(guide, scale)
        return module(grad_reverse(features, scale), reversed_guide).logits

    if isinstance(features, Tensor):
        return logits(features, guide)
    guides = [None] * len(features) if guide is None else guide
    if module.joins_images:
        guides = [None if each is None else grad_reverse(each, scale) for each in guides]
        return module.joint_logits([grad_reverse(each, scale) for each in features], guides)
    return torch.cat([logits(*maps) for maps in zip(features, guides, strict=True)])


def _cross_entropy(logits: Tensor, domain: Domain) -> Tensor:
    return F.cross_entropy(logits, torch.full_like(logits[:, 0], domain, dtype=torch.long))


def _margin(logits: Tensor) -> Tensor:
    return logits[:, Domain.TARGET] - logits[:, Domain.SOURCE]
