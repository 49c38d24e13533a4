"""SAPNet's adversary for detectors: features and RPN logits of both domains to a loss (Eq. 6).

Knows no engine: an engine supplies `Maps`, cropped to each image's valid area.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from det_adapt.sap_plan import SapPlan
from det_adapt.structures import Losses, Maps
from shared.errors import UserError
from shared.sap import SapOptions, SpatialAttentionPyramid, sap_losses


@dataclass(frozen=True)
class Pooled:
    """What a pyramid sees, by the names of the backbone's maps."""

    features: str
    guide: str  # the map whose objectness guides it
    options: SapOptions


class SapLoss(nn.Module):
    """A pyramid on every map of the RPN that the plan chooses, and one on a lower map where the
    plan has it.

    The pyramid of a single map is called `upper`, the lower one `lower`, those of several by their
    map. Each has weights of its own.

    Args:
        read: the maps that the RPN reads.
        feature_channels: Ĉ of these.
        anchors: A, the RPN's logits per cell, the guide of every pyramid.
        lower: name and channels of the lower map; needed with `plan.lower`.

    Attributes:
        pooled: what each pyramid sees, by its name.
    """

    regions = 0  # see `Adversary`

    def __init__(
        self,
        plan: SapPlan,
        read: Sequence[str],
        feature_channels: int,
        anchors: int,
        lower: tuple[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.pooled: dict[str, Pooled] = {}
        levels = plan.levels(read)
        for level, weight in levels.items():
            name = level if len(levels) > 1 else "upper"
            options = replace(plan.upper, loss_weight=plan.upper.loss_weight * weight)
            self._add(name, feature_channels, anchors, Pooled(level, level, options))
        if plan.lower is not None:
            name, channels = lower
            self._add("lower", channels, anchors, Pooled(name, read[0], plan.lower))

    @property
    def features(self) -> list[str]:
        """Names of the maps that are pooled."""
        return list(dict.fromkeys(pooled.features for pooled in self.pooled.values()))

    @property
    def guides(self) -> list[str]:
        """Names of the maps whose objectness guides."""
        return list(dict.fromkeys(pooled.guide for pooled in self.pooled.values()))

    @property
    def has_masks(self) -> bool:
        """False in the ablation without a pyramid."""
        return all(pooled.options.pyramid for pooled in self.pooled.values())

    def _add(self, name: str, channels: int, anchors: int, pooled: Pooled) -> None:
        pyramid = SpatialAttentionPyramid(channels, anchors, pooled.options, synchronized=True)
        self.add_module(name, pyramid)
        self.pooled[name] = pooled

    def forward(
        self, source: Maps, target: Maps, iteration: int = 0
    ) -> tuple[Losses, dict[str, Tensor]]:
        """{"loss_sap": λ · (CE of the source + CE of the target)} and {"accuracy/domain": share of
        images whose domain is recognized, mean over domains}, of `upper`; with "_lower", "_p3" and
        so on those of the others.

        Args:
            iteration: from 0, of the schedule of λ.
        """
        share = self.plan.weight_share(iteration)
        losses, logs = {}, {}
        for name, pooled in self.pooled.items():
            ending = "" if name == "upper" else f"_{name}"
            losses[f"loss_sap{ending}"], logs[f"accuracy/domain{ending}"] = _losses(
                self.get_submodule(name),
                pooled.options,
                share,
                *(
                    (maps.features[pooled.features], maps.logits[pooled.guide])
                    for maps in (source, target)
                ),
            )
        return losses, logs


def valid_areas(
    maps: Tensor, sizes: Sequence[tuple[int, int]], stride: int, *, rounds_down: bool
) -> list[Tensor]:
    """Each image's part of a padded batch's map: as large as the map of the image alone.

    Args:
        maps: (N, C, H, W) of images that were padded at the right and at the bottom.
        sizes: (height, width) of each image in pixels, without padding.
        rounds_down: the backbone's pools drop what does not fill a cell (VGG); ResNets keep it.

    Returns:
        N × (1, C, h, w).
    """
    cells = math.floor if rounds_down else math.ceil
    crops = []
    for image, (height, width) in zip(maps.split(1), sizes, strict=True):
        rows, columns = cells(height / stride), cells(width / stride)
        if rows < 1 or columns < 1:
            raise UserError(
                f"an image of {width}x{height} pixels is smaller than a cell of {stride}: raise "
                "INPUT.MIN_SIZE_TRAIN"
            )
        crops.append(image[..., :rows, :columns])
    return crops


def _losses(
    pyramid: SpatialAttentionPyramid,
    options: SapOptions,
    share: float,
    source: tuple[list[Tensor], list[Tensor]],
    target: tuple[list[Tensor], list[Tensor]],
) -> tuple[Tensor, Tensor]:
    losses, accuracy = sap_losses(
        pyramid,
        source,
        target,
        weight=options.loss_weight * share,
        reduction=options.loss_reduction,
        grl_scale=options.grl_scale,
    )
    return losses["sap"], accuracy
