"""Heads over regions: torchvision's, with Detectron2's pooling, losses and order of classes."""

import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image

from det_adapt.engines.torchvision.masks import mask_loss
from det_adapt.engines.torchvision.regions import (
    BoxPredictor,
    RegionPool,
    build_box_head,
    build_mask_head,
)
from det_adapt.structures import Losses

Size = tuple[int, int]


class DetectorHeads(RoIHeads):
    """Classes, boxes and masks of regions.

    Args:
        box_head: pooled regions to vectors (R, D), or, with masks made from the same, to maps
            (R, D, r, r), of which the classifier sees the mean.
        mask_pool: of the mask head's own regions; None: it is given `box_head`'s maps (C4).
        mask_head: pooled regions to logits (R, C, 2r, 2r); None: no masks.
        append_ground_truth: train on the true boxes as well as on proposals.
        beta: of smooth L1, in weighted offsets; 0: L1.
    """

    def __init__(
        self,
        *,
        box_pool: RegionPool,
        box_head: nn.Module,
        box_predictor: BoxPredictor,
        mask_pool: RegionPool | None = None,
        mask_head: nn.Module | None = None,
        iou_threshold: float = 0.5,
        batch_size: int = 512,
        positive_fraction: float = 0.25,
        box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0),
        append_ground_truth: bool = True,
        beta: float = 0.0,
        box_loss_weight: float = 1.0,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections_per_image: int = 100,
    ) -> None:
        super().__init__(
            box_pool,
            box_head,
            box_predictor,
            iou_threshold,
            iou_threshold,
            batch_size,
            positive_fraction,
            box_weights,
            score_threshold,
            nms_threshold,
            detections_per_image,
            mask_roi_pool=mask_pool,
            mask_head=mask_head,
        )
        self.append_ground_truth = append_ground_truth
        self.beta = beta
        self.box_loss_weight = box_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, channels: int, stride: int) -> "DetectorHeads":
        heads, box = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
        box_head, box_channels = build_box_head(cfg, channels)
        mask_head = mask_pool = None
        if cfg.MODEL.MASK_ON and heads.NAME == "Res5ROIHeads":
            mask_head = build_mask_head(cfg, box_channels)
        elif cfg.MODEL.MASK_ON:
            mask_head = build_mask_head(cfg, channels)
            mask_pool = RegionPool.from_config(cfg.MODEL.ROI_MASK_HEAD, stride)
        return cls(
            box_pool=RegionPool.from_config(box, stride),
            box_head=box_head,
            box_predictor=BoxPredictor(box_channels, heads.NUM_CLASSES),
            mask_pool=mask_pool,
            mask_head=mask_head,
            iou_threshold=heads.IOU_THRESHOLDS[0],
            batch_size=heads.BATCH_SIZE_PER_IMAGE,
            positive_fraction=heads.POSITIVE_FRACTION,
            box_weights=tuple(box.BBOX_REG_WEIGHTS),
            append_ground_truth=heads.PROPOSAL_APPEND_GT,
            beta=box.SMOOTH_L1_BETA,
            box_loss_weight=box.BBOX_REG_LOSS_WEIGHT,
            score_threshold=heads.SCORE_THRESH_TEST,
            nms_threshold=heads.NMS_THRESH_TEST,
            detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        )

    def forward(
        self,
        features: Tensor,
        proposals: list[Tensor],
        sizes: list[Size],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], Losses]:
        """Losses where there are targets, otherwise detections.

        Args:
            features: (N, C, h, w).
            proposals: per image (n, 4), in pixels.
            sizes: images' (height, width) without padding, in pixels.
            targets: per image {"boxes": (n, 4), "labels": (n,) in [1, C], "masks": (n, H, W) bool}.

        Returns:
            Per image {"boxes": (k, 4), "scores": (k,), "classes": (k,) in [0, C), "masks":
            (k, M, M) probabilities within the box}, by descending score; and the losses.
        """
        if targets is not None:
            return [], self._losses(features, proposals, targets)
        logits, offsets = self.box_predictor(_vectors(self._regions(features, proposals)))
        detections = self.postprocess_detections(logits, offsets, proposals, sizes)
        if self.mask_head is not None:
            boxes = [found["boxes"] for found in detections]
            masks = self.mask_head(self._mask_regions(features, boxes)).float().sigmoid()
            classes = torch.cat([found["classes"] for found in detections])
            masks = masks[torch.arange(len(masks), device=masks.device), classes]
            for found, own in zip(detections, masks.split([len(b) for b in boxes]), strict=True):
                found["masks"] = own
        return detections, {}

    def add_gt_proposals(self, proposals: list[Tensor], gt_boxes: list[Tensor]) -> list[Tensor]:
        # An image without any proposal has nothing else to train on, and torchvision's matcher
        # refuses it.
        return [
            torch.cat((own, true)) if self.append_ground_truth or not len(own) else own
            for own, true in zip(proposals, gt_boxes, strict=True)
        ]

    def _losses(
        self, features: Tensor, proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> Losses:
        """Means over all sampled regions, of the box loss too, which only objects have."""
        with torch.no_grad():
            proposals, matched, labels, wanted = self.select_training_samples(proposals, targets)
        regions = self._regions(features, proposals)
        logits, offsets = self.box_predictor(_vectors(regions))
        logits, offsets = logits.float(), offsets.float()
        label = torch.cat(labels)
        objects = label > 0
        classes = label[objects] - 1
        # torchvision counts the background as class 0; Detectron2, and the weights, as class C.
        known = torch.where(objects, label - 1, logits.shape[1] - 1)
        count = max(len(label), 1)
        box = F.smooth_l1_loss(
            offsets[objects, classes], torch.cat(wanted)[objects], beta=self.beta, reduction="sum"
        )
        losses = {
            "loss_cls": F.cross_entropy(logits, known, reduction="sum") / count,
            "loss_box_reg": self.box_loss_weight * box / count,
        }
        if self.mask_head is not None:
            boxes = [own[each > 0] for own, each in zip(proposals, labels, strict=True)]
            instances = [own[each > 0] for own, each in zip(matched, labels, strict=True)]
            shared = self.mask_roi_pool is None
            mask_regions = regions[objects] if shared else self._mask_regions(features, boxes)
            losses["loss_mask"] = mask_loss(
                self.mask_head(mask_regions).float(),
                classes,
                boxes,
                instances,
                [target["masks"] for target in targets],
            )
        return losses

    def postprocess_detections(
        self, class_logits: Tensor, offsets: Tensor, proposals: list[Tensor], sizes: list[Size]
    ) -> list[dict[str, Tensor]]:
        """Per class: boxes above the score threshold, NMS; then the best of all classes."""
        rows = [len(own) for own in proposals]
        scores = class_logits.float().softmax(dim=1)[:, :-1]
        boxes = self.box_coder.decode_single(offsets.float().flatten(1), torch.cat(proposals))
        boxes = boxes.view_as(offsets)
        detections = []
        for boxes_of_image, scores_of_image, size in zip(
            boxes.split(rows), scores.split(rows), sizes, strict=True
        ):
            finite = boxes_of_image.isfinite().flatten(1).all(dim=1)
            likely = (scores_of_image > self.score_thresh) & finite[:, None]
            candidates = clip_boxes_to_image(boxes_of_image[likely], size)
            ranks, classes = scores_of_image[likely], likely.nonzero()[:, 1]
            kept = batched_nms(candidates, ranks, classes, self.nms_thresh)
            kept = kept[: self.detections_per_img]
            detections.append(
                {"boxes": candidates[kept], "scores": ranks[kept], "classes": classes[kept]}
            )
        return detections

    def _regions(self, features: Tensor, boxes: list[Tensor]) -> Tensor:
        return self.box_head(self.box_roi_pool(features, boxes))

    def _mask_regions(self, features: Tensor, boxes: list[Tensor]) -> Tensor:
        if self.mask_roi_pool is None:
            return self._regions(features, boxes)
        return self.mask_roi_pool(features, boxes)


def _vectors(regions: Tensor) -> Tensor:
    return regions.mean(dim=(2, 3)) if regions.dim() == 4 else regions
