"""Anchors and region proposals: torchvision's RPN with Detectron2's conventions."""

import math

import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor
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
    """Anchors of one map, centred on its cells' corners: not rounded, ratios running faster.

    torchvision's own are rounded, have sizes running faster and a stride that depends on how the
    image's size was rounded.

    Args:
        sizes: square roots of the areas, in pixels.
        ratios: height / width.
        stride: of the map, in pixels.
        offset: of the first centre, as a fraction of the stride.
    """

    def __init__(
        self, sizes: list[float], ratios: list[float], *, stride: int, offset: float = 0.0
    ) -> None:
        super().__init__((tuple(sizes),), (tuple(ratios),))
        self.stride = stride
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

    def forward(self, features: Tensor) -> Tensor:
        """(h · w · A, 4) anchors of a map (N, C, h, w): rows, columns, then the cell's own."""
        self.set_cell_anchors(torch.float32, features.device)
        stride = torch.tensor(self.stride, device=features.device)
        [anchors] = self.grid_anchors([list(features.shape[-2:])], [[stride, stride]])
        return anchors + self.offset * self.stride


class ProposalNetwork(RegionProposalNetwork):
    """Proposals and their losses, from the output of `head`, which the caller runs.

    Args:
        stride: of the map that proposals are made from, in pixels.
        batch_size, positive_fraction: anchors per image that are trained on.
        iou_thresholds: below the first an anchor is background, from the second on an object.
        pre_nms, post_nms: proposals kept in training and in evaluation, before and after NMS.
        beta: of smooth L1, in normalised offsets; 0: L1.
        loss_weight, box_loss_weight: of both losses; of the box loss once more.
    """

    def __init__(
        self,
        channels: int,
        anchors: CellAnchors,
        *,
        batch_size: int = 256,
        positive_fraction: float = 0.5,
        iou_thresholds: tuple[float, float] = (0.3, 0.7),
        pre_nms: tuple[int, int] = (12000, 6000),
        post_nms: tuple[int, int] = (2000, 1000),
        nms_threshold: float = 0.7,
        beta: float = 0.0,
        loss_weight: float = 1.0,
        box_loss_weight: float = 1.0,
    ) -> None:
        background, object_ = iou_thresholds
        super().__init__(
            anchors,
            RPNHead(channels, anchors.num_anchors_per_location()[0]),
            object_,
            background,
            batch_size,
            positive_fraction,
            dict(zip(("training", "testing"), pre_nms, strict=True)),
            dict(zip(("training", "testing"), post_nms, strict=True)),
            nms_threshold,
        )
        self.batch_size = batch_size
        self.beta = beta
        self.loss_weight = loss_weight
        self.box_loss_weight = box_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, channels: int, stride: int) -> "ProposalNetwork":
        rpn, generator = cfg.MODEL.RPN, cfg.MODEL.ANCHOR_GENERATOR
        if len(generator.SIZES) != 1 or len(generator.ASPECT_RATIOS) != 1:
            raise UserError(
                f"MODEL.ANCHOR_GENERATOR has {len(generator.SIZES)} lists of SIZES and "
                f"{len(generator.ASPECT_RATIOS)} of ASPECT_RATIOS, expected one of each, for the "
                "one map that proposals come from, e.g. [[128, 256, 512]]"
            )
        anchors = CellAnchors(
            generator.SIZES[0],
            generator.ASPECT_RATIOS[0],
            stride=stride,
            offset=generator.OFFSET,
        )
        return cls(
            channels,
            anchors,
            batch_size=rpn.BATCH_SIZE_PER_IMAGE,
            positive_fraction=rpn.POSITIVE_FRACTION,
            iou_thresholds=tuple(rpn.IOU_THRESHOLDS),
            pre_nms=(rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
            post_nms=(rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
            nms_threshold=rpn.NMS_THRESH,
            beta=rpn.SMOOTH_L1_BETA,
            loss_weight=rpn.LOSS_WEIGHT,
            box_loss_weight=rpn.BBOX_REG_LOSS_WEIGHT,
        )

    def forward(
        self,
        features: Tensor,
        logits: Tensor,
        deltas: Tensor,
        sizes: list[Size],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], Losses]:
        """Proposals (n, 4) per image by descending score, and the losses where there are targets.

        Args:
            features: (N, C, h, w). logits: (N, A, h, w). deltas: (N, 4A, h, w).
            sizes: images' (height, width) without padding, in pixels.
            targets: per image {"boxes": (n, 4), …}.
        """
        anchors = self.anchor_generator(features)
        scores, offsets = concat_box_prediction_layers([logits.float()], [deltas.float()])
        losses = {} if targets is None else self._losses(anchors, scores, offsets, targets)
        with torch.no_grad():
            boxes = self.box_coder.decode_single(offsets, anchors.repeat(len(sizes), 1))
            proposals = self._best(
                boxes.view(len(sizes), -1, 4), scores.view(len(sizes), -1), sizes
            )
        return proposals, losses

    def _losses(
        self, anchors: Tensor, scores: Tensor, offsets: Tensor, targets: list[dict[str, Tensor]]
    ) -> Losses:
        """Sums over the sampled anchors, ÷ by the number asked for: fewer samples weigh no more."""
        per_image = [anchors] * len(targets)
        labels, matched = self.assign_targets_to_anchors(per_image, targets)
        positive, negative = (torch.cat(chosen).bool() for chosen in self.fg_bg_sampler(labels))
        wanted = self.box_coder.encode_single(
            torch.cat(matched)[positive], anchors.repeat(len(targets), 1)[positive]
        )
        box = F.smooth_l1_loss(offsets[positive], wanted, beta=self.beta, reduction="sum")
        sampled = positive | negative
        objectness = F.binary_cross_entropy_with_logits(
            scores[sampled, 0], torch.cat(labels)[sampled], reduction="sum"
        )
        scale = self.loss_weight / (self.batch_size * len(targets))
        return {
            "loss_rpn_cls": scale * objectness,
            "loss_rpn_loc": scale * self.box_loss_weight * box,
        }

    def _best(self, boxes: Tensor, scores: Tensor, sizes: list[Size]) -> list[Tensor]:
        """boxes: (N, K, 4), scores: (N, K) before the sigmoid, under which large ones would tie."""
        top = self._get_top_n_idx(scores, [scores.shape[1]])
        proposals = []
        for boxes_of_image, scores_of_image, chosen, size in zip(
            boxes, scores, top, sizes, strict=True
        ):
            candidates, ranks = boxes_of_image[chosen], scores_of_image[chosen]
            finite = candidates.isfinite().all(dim=1) & ranks.isfinite()
            candidates = clip_boxes_to_image(candidates, size)
            sides = candidates[:, 2:] - candidates[:, :2]
            usable = finite & (sides > 0).all(dim=1)
            candidates, ranks = candidates[usable], ranks[usable]
            one_level = torch.zeros_like(ranks, dtype=torch.int64)
            kept = batched_nms(candidates, ranks, one_level, self.nms_thresh)
            proposals.append(candidates[kept[: self.post_nms_top_n()]])
        return proposals
