"""SAPNet on torchvision: Detectron2's GeneralizedRCNN, weight by weight and key by key."""

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from det_adapt.config import sap_plan
from det_adapt.sap_loss import SapLoss, valid_areas
from det_adapt.structures import Detections, Losses, Maps, Sample
from det_adapt.torchvision_engine.backbones import build_backbone
from det_adapt.torchvision_engine.masks import draw_masks
from det_adapt.torchvision_engine.proposals import ProposalNetwork
from det_adapt.torchvision_engine.roi_heads import DetectorHeads
from shared.errors import UserError

Size = tuple[int, int]


class SapRCNN(nn.Module):
    """Faster or Mask R-CNN on one map, a `det_adapt.engines.Detector`, and its adversary `sap`.

    Parts have the names that they have in Detectron2's engine. `sap` is None where the run has no
    target domain; it draws its weights last, so that the detector starts the same without it.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.feature = _one_map(cfg)
        self.lower_feature = cfg.SAP.LOWER.FEATURE or None
        self.bgr = cfg.INPUT.FORMAT == "BGR"
        self.backbone = build_backbone(cfg, self.feature)
        channels = self.backbone.channels
        for key, name in (
            ("MODEL.RPN.IN_FEATURES", self.feature),
            ("SAP.LOWER.FEATURE", self.lower_feature),
        ):
            if name is not None and name not in channels:
                raise UserError(f"{key} names '{name}', expected one of {', '.join(channels)}")
        self.feature_channels = channels[self.feature]
        self.lower_channels = channels[self.lower_feature] if self.lower_feature else None
        stride = self.backbone.strides[self.feature]
        self.rpn = ProposalNetwork(cfg, self.feature_channels, stride)
        self.roi_heads = DetectorHeads(cfg, self.feature_channels, stride)
        self.anchors = self.rpn.head.cls_logits.out_channels
        for name in ("PIXEL_MEAN", "PIXEL_STD"):
            values = torch.tensor(list(cfg.MODEL[name]), dtype=torch.float32)
            self.register_buffer(name.lower(), values.view(3, 1, 1), persistent=False)
        plan, self.sap = sap_plan(cfg), None
        if plan is not None:
            self.sap = SapLoss(plan, self.feature_channels, self.anchors, self.lower_channels)

    def forward(
        self, source: list[Sample], target: list[Sample] | None, iteration: int = 0
    ) -> tuple[Losses, dict[str, Tensor]]:
        """Training: the weighted losses of a pair, and what is logged beside them.

        Args:
            iteration: from 0, of the schedule of λ.
        """
        losses, maps = self.source(source)
        if self.sap is None or target is None:
            return losses, {}
        sap_losses, logs = self.sap(maps, self.target(target), iteration)
        return losses | sap_losses, logs

    def source(self, samples: list[Sample]) -> tuple[Losses, Maps]:
        images, sizes = self.batch_images(samples)
        targets = [self._target(sample) for sample in samples]
        stages = self.backbone(images)
        features = stages[self.feature]
        [logits], [deltas] = self.rpn.head([features])
        proposals, losses = self.rpn(features, logits, deltas, sizes, targets)
        _, box_losses = self.roi_heads(features, proposals, sizes, targets)
        return losses | box_losses, self._maps(stages, logits, sizes)

    def target(self, samples: list[Sample]) -> Maps:
        images, sizes = self.batch_images(samples)
        return self._maps(self.backbone(images), None, sizes)

    @torch.no_grad()
    def detect(self, samples: list[Sample]) -> list[Detections]:
        images, sizes = self.batch_images(samples)
        features = self.backbone(images)[self.feature]
        [logits], [deltas] = self.rpn.head([features])
        proposals, _ = self.rpn(features, logits, deltas, sizes)
        detections, _ = self.roi_heads(features, proposals, sizes)
        return [_in_file(*each) for each in zip(detections, sizes, samples, strict=True)]

    def batch_images(self, samples: list[Sample]) -> tuple[Tensor, list[Size]]:
        """Normalized images (N, 3, H, W), padded with 0 at the right and at the bottom; sizes."""
        sizes = [tuple(sample.image.shape[-2:]) for sample in samples]
        shape = [max(sides) for sides in zip(*sizes, strict=True)]
        batch = self.pixel_mean.new_zeros(len(samples), 3, *shape)
        for padded, sample, (height, width) in zip(batch, samples, sizes, strict=True):
            image = sample.image.to(batch)
            image = image.flip(0) if self.bgr else image
            padded[:, :height, :width] = (image - self.pixel_mean) / self.pixel_std
        return batch, sizes

    def _target(self, sample: Sample) -> dict[str, Tensor]:
        """What torchvision calls a target, its classes from 1 on."""
        device = self.pixel_mean.device
        target = {"boxes": sample.boxes.to(device), "labels": sample.classes.to(device) + 1}
        if self.roi_heads.mask_head is not None:
            if sample.masks is None:
                raise UserError(
                    f"MODEL.MASK_ON is True, and '{sample.name}' has no instance masks: train on a "
                    "dataset that has them, or set MODEL.MASK_ON False"
                )
            target["masks"] = sample.masks.to(device)
        return target

    def _maps(self, stages: dict[str, Tensor], logits: Tensor | None, sizes: list[Size]) -> Maps:
        """What belongs to the images. Their logits are recomputed where the head's 3×3 convolution
        has seen padding, or has not been run."""

        def crop(stage: str) -> list[Tensor]:
            stride, rounds_down = self.backbone.strides[stage], self.backbone.rounds_down
            return valid_areas(stages[stage], sizes, stride, rounds_down=rounds_down)

        features = crop(self.feature)
        if len(set(sizes)) > 1:
            guides = [self.rpn.head([each])[0][0] for each in features]
        else:
            whole = self.rpn.head([stages[self.feature]])[0][0] if logits is None else logits
            guides = list(whole.split(1))
        return Maps(features, guides, crop(self.lower_feature) if self.lower_feature else None)


def _one_map(cfg: CfgNode) -> str:
    names = list(cfg.MODEL.RPN.IN_FEATURES)
    if len(names) != 1 or names != list(cfg.MODEL.ROI_HEADS.IN_FEATURES):
        raise UserError(
            f"MODEL.RPN.IN_FEATURES is {names} and MODEL.ROI_HEADS.IN_FEATURES "
            f"{list(cfg.MODEL.ROI_HEADS.IN_FEATURES)}, expected the same one map in both, e.g. "
            "['res4'], with the torchvision engine"
        )
    return names[0]


def _in_file(detected: dict[str, Tensor], size: Size, sample: Sample) -> Detections:
    """From pixels of the network's image to those of the file."""
    scale = torch.tensor([sample.width / size[1], sample.height / size[0]])
    boxes = detected["boxes"] * scale.repeat(2).to(detected["boxes"])
    limits = torch.tensor([sample.width, sample.height]).repeat(2).to(boxes)
    boxes = boxes.clamp(min=0).minimum(limits)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    masks = None
    if "masks" in detected:
        masks = draw_masks(detected["masks"][kept], boxes[kept], (sample.height, sample.width))
    detections = Detections(boxes[kept], detected["scores"][kept], detected["classes"][kept], masks)
    return detections.to("cpu")
