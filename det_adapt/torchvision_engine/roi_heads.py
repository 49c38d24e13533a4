"""Heads over regions: torchvision's, with Detectron2's pooling, losses and order of classes."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image

from det_adapt.structures import Losses
from det_adapt.torchvision_engine.backbones import res5_head
from det_adapt.torchvision_engine.feature_pyramid import RegionPool
from det_adapt.torchvision_engine.masks import mask_loss
from det_adapt.vgg16 import add_dropout
from shared.errors import UserError

Size = tuple[int, int]


class BoxPredictor(nn.Module):
    """C + 1 class logits, the background's last, and C times four box offsets."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(channels, num_classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 * num_classes)
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """vectors: (R, D). Logits (R, C + 1) and offsets (R, C, 4)."""
        return self.cls_score(vectors), self.bbox_pred(vectors).unflatten(1, (-1, 4))


class DetectorHeads(RoIHeads):
    """Classes, boxes and masks of regions.

    `box_head` maps pooled regions to vectors (R, D) or, with Res5ROIHeads, to maps (R, D, r, r), of
    which the classifier sees the mean and from which the masks are made as well: `mask_roi_pool` is
    then None. `mask_head` maps regions to logits (R, C, 2r, 2r); None without masks.

    Args:
        channels: of every map that regions are pooled from.
        strides: of these maps, in pixels, each twice the one before.
    """

    def __init__(self, cfg: CfgNode, channels: int, strides: Sequence[int]) -> None:
        heads, box = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
        box_head, box_channels = _box_head(cfg, channels)
        mask_head = mask_pool = None
        if cfg.MODEL.MASK_ON and heads.NAME == "Res5ROIHeads":
            mask_head = _mask_head(cfg, box_channels)
        elif cfg.MODEL.MASK_ON:
            mask_head = _mask_head(cfg, channels)
            mask_pool = RegionPool(cfg.MODEL.ROI_MASK_HEAD, strides)
        super().__init__(
            RegionPool(box, strides),
            box_head,
            BoxPredictor(box_channels, heads.NUM_CLASSES),
            fg_iou_thresh=heads.IOU_THRESHOLDS[0],
            bg_iou_thresh=heads.IOU_THRESHOLDS[0],
            batch_size_per_image=heads.BATCH_SIZE_PER_IMAGE,
            positive_fraction=heads.POSITIVE_FRACTION,
            bbox_reg_weights=tuple(box.BBOX_REG_WEIGHTS),
            score_thresh=heads.SCORE_THRESH_TEST,
            nms_thresh=heads.NMS_THRESH_TEST,
            detections_per_img=cfg.TEST.DETECTIONS_PER_IMAGE,
            mask_roi_pool=mask_pool,
            mask_head=mask_head,
        )
        self.append_ground_truth = heads.PROPOSAL_APPEND_GT
        self.beta = box.SMOOTH_L1_BETA
        self.box_loss_weight = box.BBOX_REG_LOSS_WEIGHT

    def forward(
        self,
        features: list[Tensor],
        proposals: list[Tensor],
        sizes: list[Size],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], Losses]:
        """Losses where there are targets, otherwise detections.

        Args:
            features: per map (N, C, h, w).
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
            boxes = [each["boxes"] for each in detections]
            pool = self._regions if self.mask_roi_pool is None else self.mask_roi_pool
            masks = self.mask_head(pool(features, boxes)).float().sigmoid()
            classes = torch.cat([each["classes"] for each in detections])
            masks = masks[torch.arange(len(masks), device=masks.device), classes]
            for each, own in zip(detections, masks.split([len(b) for b in boxes]), strict=True):
                each["masks"] = own
        return detections, {}

    def vectors(self, features: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Per image (n, D), what the box predictor sees of boxes (n, 4)."""
        vectors = _vectors(self._regions(features, boxes))
        return list(vectors.split([len(own) for own in boxes]))

    def add_gt_proposals(self, proposals: list[Tensor], gt_boxes: list[Tensor]) -> list[Tensor]:
        # An image without any proposal has nothing else to train on, and torchvision's matcher
        # refuses it.
        return [
            torch.cat((own, true)) if self.append_ground_truth or not len(own) else own
            for own, true in zip(proposals, gt_boxes, strict=True)
        ]

    def _losses(
        self, features: list[Tensor], proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> Losses:
        """Means over all sampled regions, of the box loss too, which only objects have."""
        with torch.no_grad():
            proposals, matched, labels, true_offsets = self.select_training_samples(
                proposals, targets
            )
        regions = self._regions(features, proposals)
        logits, offsets = self.box_predictor(_vectors(regions))
        logits, offsets = logits.float(), offsets.float()
        label = torch.cat(labels)
        objects = label > 0
        classes = label[objects] - 1
        # torchvision counts the background as class 0; Detectron2, and the weights, as class C.
        true_classes = torch.where(objects, label - 1, logits.shape[1] - 1)
        count = max(len(label), 1)
        box = F.smooth_l1_loss(
            offsets[objects, classes],
            torch.cat(true_offsets)[objects],
            beta=self.beta,
            reduction="sum",
        )
        losses = {
            "loss_cls": F.cross_entropy(logits, true_classes, reduction="sum") / count,
            "loss_box_reg": self.box_loss_weight * box / count,
        }
        if self.mask_head is not None:
            boxes = [own[each > 0] for own, each in zip(proposals, labels, strict=True)]
            instances = [own[each > 0] for own, each in zip(matched, labels, strict=True)]
            if self.mask_roi_pool is None:
                mask_regions = regions[objects]
            else:
                mask_regions = self.mask_roi_pool(features, boxes)
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

    def _regions(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return self.box_head(self.box_roi_pool(features, boxes))


def _vectors(regions: Tensor) -> Tensor:
    return regions.mean(dim=(2, 3)) if regions.dim() == 4 else regions


def _box_head(cfg: CfgNode, channels: int) -> tuple[nn.Module, int]:
    """The head of `MODEL.ROI_HEADS.NAME` and the number of channels that it returns."""
    box = cfg.MODEL.ROI_BOX_HEAD
    if cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads":
        expected = 4 * cfg.MODEL.RESNETS.RES2_OUT_CHANNELS
        if channels != expected:
            raise UserError(
                f"MODEL.ROI_HEADS.NAME Res5ROIHeads reads a map of {expected} channels, "
                f"MODEL.ROI_HEADS.IN_FEATURES has {channels}: name res4, or use StandardROIHeads"
            )
        return res5_head(cfg.MODEL.RESNETS), 2 * expected
    if box.NUM_FC < 1:
        raise UserError(
            f"MODEL.ROI_BOX_HEAD.NUM_FC is {box.NUM_FC}, expected at least 1 with "
            "StandardROIHeads: 2 as in VGG-16"
        )
    inputs = channels * box.POOLER_RESOLUTION**2
    layers = OrderedDict(flatten=nn.Flatten())
    for number in range(1, box.NUM_FC + 1):
        layer = nn.Linear(inputs, box.FC_DIM)
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
        layers |= {f"fc{number}": layer, f"fc_relu{number}": nn.ReLU(inplace=True)}
        inputs = box.FC_DIM
    head = nn.Sequential(layers)
    add_dropout(head, box.DROPOUT)
    return head, box.FC_DIM


def _mask_head(cfg: CfgNode, channels: int) -> nn.Sequential:
    head, width = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM
    predictor = MaskRCNNPredictor(
        width if head.NUM_CONV else channels, width, cfg.MODEL.ROI_HEADS.NUM_CLASSES
    )
    nn.init.kaiming_normal_(predictor.conv5_mask.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(predictor.conv5_mask.bias)
    nn.init.normal_(predictor.mask_fcn_logits.weight, std=0.001)
    nn.init.zeros_(predictor.mask_fcn_logits.bias)
    convolutions = MaskRCNNHeads(channels, [width] * head.NUM_CONV, 1)
    return nn.Sequential(OrderedDict(convolutions=convolutions, predictor=predictor))
