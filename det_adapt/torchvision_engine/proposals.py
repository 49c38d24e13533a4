"""Anchors and region proposals: torchvision's RPN with Detectron2's conventions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)
from torchvision.ops import batched_nms, clip_boxes_to_image

from det_adapt.structures import Losses
from shared.errors import UserError

Size = tuple[int, int]


class CellAnchors(AnchorGenerator):
    """Anchors centered on the corners of maps' cells: not rounded, ratios running faster.

    torchvision's own are rounded, have sizes running faster and strides that depend on how the
    image's size was rounded.

    Args:
        sizes: of each map, square roots of the areas, in pixels; or of all, in one list.
        ratios: height / width, likewise.
        strides: of the maps, in pixels.
        offset: of the first center, as a fraction of the stride.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[Sequence[float]],
        *,
        strides: Sequence[int],
        offset: float = 0.0,
    ) -> None:
        per_map = []
        for key, lists in (("SIZES", sizes), ("ASPECT_RATIOS", ratios)):
            if len(lists) not in (1, len(strides)):
                raise UserError(
                    f"MODEL.ANCHOR_GENERATOR.{key} has {len(lists)} lists, expected one, e.g. "
                    f"{[list(lists[0])]}, or one for each of the {len(strides)} maps of "
                    "MODEL.RPN.IN_FEATURES"
                )
            whole = lists if len(lists) > 1 else list(lists) * len(strides)
            per_map.append(tuple(tuple(each) for each in whole))
        super().__init__(*per_map)
        counts = self.num_anchors_per_location()
        if len(set(counts)) > 1:
            raise UserError(
                f"MODEL.ANCHOR_GENERATOR gives {', '.join(map(str, counts))} anchors per cell of "
                "the maps, expected as many on all: one head reads them"
            )
        self.strides = list(strides)
        self.offset = offset

    def generate_anchors(
        self,
        scales: tuple[float, ...],
        aspect_ratios: tuple[float, ...],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """(A, 4) boxes about the origin, x1 y1 x2 y2."""
        anchors = []
        for size in scales:
            for ratio in aspect_ratios:
                width = math.sqrt(size * size / ratio)
                height = ratio * width
                anchors.append((-width / 2, -height / 2, width / 2, height / 2))
        return torch.tensor(anchors, dtype=dtype, device=device)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """(h · w · A, 4) anchors of each map (N, C, h, w): rows, columns, then the cell's own."""
        device = features[0].device
        self.set_cell_anchors(torch.float32, device)
        strides = [torch.tensor(stride, device=device) for stride in self.strides]
        sizes = [list(each.shape[-2:]) for each in features]
        anchors = self.grid_anchors(sizes, [[stride, stride] for stride in strides])
        return [
            each + self.offset * stride for each, stride in zip(anchors, self.strides, strict=True)
        ]


class ProposalNetwork(RegionProposalNetwork):
    """Proposals and their losses, from the output of `head`, which the caller runs.

    Args:
        channels: of every map that proposals are made from.
        strides: of these maps, in pixels.
    """

    def __init__(self, cfg: CfgNode, channels: int, strides: Sequence[int]) -> None:
        rpn, generator = cfg.MODEL.RPN, cfg.MODEL.ANCHOR_GENERATOR
        anchors = CellAnchors(
            generator.SIZES, generator.ASPECT_RATIOS, strides=strides, offset=generator.OFFSET
        )
        background, foreground = rpn.IOU_THRESHOLDS
        super().__init__(
            anchors,
            _head(channels, rpn.CONV_DIMS[0], anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=foreground,
            bg_iou_thresh=background,
            batch_size_per_image=rpn.BATCH_SIZE_PER_IMAGE,
            positive_fraction=rpn.POSITIVE_FRACTION,
            pre_nms_top_n={"training": rpn.PRE_NMS_TOPK_TRAIN, "testing": rpn.PRE_NMS_TOPK_TEST},
            post_nms_top_n={"training": rpn.POST_NMS_TOPK_TRAIN, "testing": rpn.POST_NMS_TOPK_TEST},
            nms_thresh=rpn.NMS_THRESH,
        )
        self.options = rpn
        self.smallest_side = cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE

    def forward(
        self,
        features: list[Tensor],
        logits: list[Tensor],
        deltas: list[Tensor],
        sizes: list[Size],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], Losses]:
        """Proposals (n, 4) per image by descending score, and the losses where there are targets.

        Args:
            features: per map (N, C, h, w). logits: (N, A, h, w). deltas: (N, 4A, h, w).
            sizes: images' (height, width) without padding, in pixels.
            targets: per image {"boxes": (n, 4), …}.
        """
        anchors = self.anchor_generator(features)
        counts = [len(each) for each in anchors]
        anchors = torch.cat(anchors)
        scores, offsets = concat_box_prediction_layers(
            [each.float() for each in logits], [each.float() for each in deltas]
        )
        losses = {} if targets is None else self._losses(anchors, scores, offsets, sizes, targets)
        with torch.no_grad():
            boxes = self.box_coder.decode_single(offsets, anchors.repeat(len(sizes), 1))
            proposals = self._best(
                boxes.view(len(sizes), -1, 4), scores.view(len(sizes), -1), counts, sizes
            )
        return proposals, losses

    def _losses(
        self,
        anchors: Tensor,
        scores: Tensor,
        offsets: Tensor,
        sizes: list[Size],
        targets: list[dict[str, Tensor]],
    ) -> Losses:
        """Sums over the sampled anchors, ÷ by the number asked for: fewer samples weigh no more."""
        per_image = [anchors] * len(targets)
        labels, matched = self.assign_targets_to_anchors(per_image, targets)
        border = self.options.BOUNDARY_THRESH
        if border >= 0:
            labels = [
                label.where(_inside(anchors, size, border), -1)
                for label, size in zip(labels, sizes, strict=True)
            ]
        positive, negative = (torch.cat(chosen).bool() for chosen in self.fg_bg_sampler(labels))
        true_offsets = self.box_coder.encode_single(
            torch.cat(matched)[positive], anchors.repeat(len(targets), 1)[positive]
        )
        box = F.smooth_l1_loss(
            offsets[positive], true_offsets, beta=self.options.SMOOTH_L1_BETA, reduction="sum"
        )
        sampled = positive | negative
        objectness = F.binary_cross_entropy_with_logits(
            scores[sampled, 0], torch.cat(labels)[sampled], reduction="sum"
        )
        scale = self.options.LOSS_WEIGHT / (self.options.BATCH_SIZE_PER_IMAGE * len(targets))
        return {
            "loss_rpn_cls": scale * objectness,
            "loss_rpn_loc": scale * self.options.BBOX_REG_LOSS_WEIGHT * box,
        }

    def _best(
        self, boxes: Tensor, scores: Tensor, counts: list[int], sizes: list[Size]
    ) -> list[Tensor]:
        """The best of each map, without those that overlap a better one of the same map.

        Args:
            boxes: (N, K, 4). scores: (N, K) before the sigmoid, under which large ones would tie.
            counts: anchors of each map, Σ = K.
        """
        top = self._get_top_n_idx(scores, counts)
        levels = torch.repeat_interleave(torch.tensor(counts)).to(scores.device)
        proposals = []
        for boxes_of_image, scores_of_image, chosen, size in zip(
            boxes, scores, top, sizes, strict=True
        ):
            candidates, ranks = boxes_of_image[chosen], scores_of_image[chosen]
            own_levels = levels[chosen]
            finite = candidates.isfinite().all(dim=1) & ranks.isfinite()
            candidates = clip_boxes_to_image(candidates, size)
            sides = candidates[:, 2:] - candidates[:, :2]
            usable = finite & (sides > self.smallest_side).all(dim=1)
            candidates, ranks = candidates[usable], ranks[usable]
            kept = batched_nms(candidates, ranks, own_levels[usable], self.nms_thresh)
            proposals.append(candidates[kept[: self.post_nms_top_n()]])
        return proposals


def _head(channels: int, width: int, anchors: int) -> RPNHead:
    """torchvision's, its 3×3 convolution `width` wide, which it cannot be told; -1: `channels`."""
    head = RPNHead(channels if width == -1 else width, anchors)
    if width not in (-1, channels):
        first = nn.Conv2d(channels, width, 3, padding=1)
        nn.init.normal_(first.weight, std=0.01)
        nn.init.zeros_(first.bias)
        head.conv[0][0] = first
    return head


def _inside(boxes: Tensor, size: Size, border: float) -> Tensor:
    """(n,) bool: boxes (n, 4) that reach no further than `border` pixels out of the image."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    left_and_top = (x1 >= -border) & (y1 >= -border)
    return left_and_top & (x2 < width + border) & (y2 < height + border)
