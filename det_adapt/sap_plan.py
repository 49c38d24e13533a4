"""Which pyramids a run of SAPNet has, on which maps, and what their losses weigh."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fvcore.common.config import CfgNode as Node

from shared.errors import UserError
from shared.sap import SapOptions
from shared.schedules import cosine


@dataclass(frozen=True)
class SapPlan:
    """The pyramids of a run."""

    upper: SapOptions  # on the map, or on each chosen map, that the RPN reads
    lower: SapOptions | None = None  # on SAP.LOWER.FEATURE; None without
    features: tuple[str, ...] = ()  # the chosen maps; (): the one map
    weights: tuple[float, ...] = ()  # of each one's loss; (): one over their number
    loss_end: float = 1.0  # share of each λ that a cosine over `iterations` ends at; 1: constant
    iterations: int = 1

    def levels(self, read: Sequence[str]) -> dict[str, float]:
        """The maps that have a pyramid each, and the weight of its loss.

        Args:
            read: the maps that the RPN reads.

        Raises:
            UserError: there are several, and none was chosen; or a choice that does not fit.
        """
        names = list(self.features or read)
        if len(read) > 1 and not self.features:
            raise UserError(
                f"the RPN reads {', '.join(read)}: choose the maps that a pyramid pools, in "
                f"SAP.FEATURES or SapPlan(features=…), e.g. [{', '.join(read[1:4])}]"
            )
        if not set(names) <= set(read) or len(set(names)) < len(names):
            raise UserError(
                f"SAP.FEATURES is {names}, expected different ones of {', '.join(read)}, the maps "
                "that the RPN reads (MODEL.RPN.IN_FEATURES)"
            )
        if self.lower is not None and len(read) > 1:
            raise UserError(
                "SAP.LOWER.FEATURE is for a detector of one map: with a feature pyramid, name all "
                "maps in SAP.FEATURES"
            )
        weights = list(self.weights) or [1 / len(names)] * len(names)
        positive = (type(w) in (int, float) and 0 < w < math.inf for w in weights)
        if len(weights) != len(names) or not all(positive):
            raise UserError(
                f"SAP.FEATURE_WEIGHTS is {weights}, expected a number above 0 for each of "
                f"{', '.join(names)}, or [] for one over their number"
            )
        return dict(zip(names, weights, strict=True))

    def weight_share(self, iteration: int) -> float:
        """What each λ is multiplied by; `iteration` counts from 0, the released code's from 1."""
        return cosine(iteration + 1, self.iterations, self.loss_end)


def sap_plan(cfg: Node) -> SapPlan | None:
    """What `cfg.SAP` asks for; None where it is off."""
    upper = SapOptions.from_config(cfg)
    if not cfg.SAP.ENABLED:
        return None
    node, lower = cfg.SAP.LOWER, None
    if node.FEATURE:
        lower = replace(
            upper,
            levels=tuple(node.LEVELS),
            loss_weight=node.LOSS_WEIGHT,
            embed_kernel=node.EMBED_KERNEL or upper.embed_kernel,
            guide_kernel=node.GUIDE_KERNEL or upper.guide_kernel,
        )
    return SapPlan(
        upper,
        lower,
        tuple(cfg.SAP.FEATURES),
        tuple(cfg.SAP.FEATURE_WEIGHTS),
        loss_end=cfg.SAP.LOSS_END,
        iterations=cfg.SOLVER.MAX_ITER,
    )
