"""SAPNet's adversary for detectors: features and RPN logits of both domains to a loss (Eq. 6).

Knows no engine: an engine supplies `Maps`, cropped to each image's valid area.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from det_adapt.config import SapPlan
from det_adapt.structures import Losses, Maps
from shared.errors import UserError
from shared.sap import SapOptions, SpatialAttentionPyramid, sap_losses


class SapLoss(nn.Module):
    """The pyramid on the RPN's map, and a second one on a lower map where the plan has it.

    Args:
        feature_channels: Ĉ of the RPN's map.
        anchors: A, the RPN's logits per cell, the guide of both pyramids.
        lower_channels: of the lower map; needed with `plan.lower`.
    """

    def __init__(
        self, plan: SapPlan, feature_channels: int, anchors: int, lower_channels: int | None = None
    ) -> None:
        super().__init__()
        self.plan = plan
        self.upper = SpatialAttentionPyramid(
            feature_channels, anchors, plan.upper, synchronized=True
        )
        self.lower = None
        if plan.lower is not None:
            self.lower = SpatialAttentionPyramid(
                lower_channels, anchors, plan.lower, synchronized=True
            )

    def forward(
        self, source: Maps, target: Maps, iteration: int = 0
    ) -> tuple[Losses, dict[str, Tensor]]:
        """{"loss_sap": λ · (CE of the source + CE of the target)} and {"accuracy/domain": share of
        images whose domain is recognized, mean over domains}; a lower pyramid adds its own.

        Args:
            iteration: from 0, of the schedule of λ.
        """
        share = self.plan.weight_share(iteration)
        loss, accuracy = _losses(
            self.upper,
            self.plan.upper,
            share,
            (source.features, source.logits),
            (target.features, target.logits),
        )
        losses, logs = {"loss_sap": loss}, {"accuracy/domain": accuracy}
        if self.lower is not None:
            losses["loss_sap_lower"], logs["accuracy/domain_lower"] = _losses(
                self.lower,
                self.plan.lower,
                share,
                (source.lower, source.logits),
                (target.lower, target.logits),
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
