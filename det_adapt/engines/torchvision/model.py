"""The detector on torchvision: Detectron2's GeneralizedRCNN, weight by weight and key by key."""

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from det_adapt.engines.torchvision.backbones import Backbone, build_backbone
from det_adapt.engines.torchvision.masks import draw_masks
from det_adapt.engines.torchvision.proposals import ProposalNetwork
from det_adapt.engines.torchvision.roi_heads import DetectorHeads
from det_adapt.sap_loss import valid_areas
from det_adapt.structures import Detections, Losses, Maps, Sample
from shared.errors import UserError

Size = tuple[int, int]


class TorchvisionDetector(nn.Module):
    """Faster R-CNN or Mask R-CNN on one map; `det_adapt.engines.interface.Detector`.

    Args:
        feature: the backbone's stage that RPN and heads read.
        lower: a second one for the adversary; None without.
        pixel_mean, pixel_std: per channel, of 0 to 255, in the network's order of channels.
        bgr: that order is blue, green, red.
    """

    def __init__(
        self,
        backbone: Backbone,
        rpn: ProposalNetwork,
        roi_heads: DetectorHeads,
        *,
        feature: str,
        lower: str | None = None,
        pixel_mean: list[float],
        pixel_std: list[float],
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.feature = feature
        self.lower = lower
        self.bgr = bgr
        self.feature_channels = backbone.channels[feature]
        self.anchors = rpn.head.cls_logits.out_channels
        self.lower_channels = backbone.channels[lower] if lower else None
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "TorchvisionDetector":
        """Of Detectron2's keys; its weights are left as initialised."""
        feature = _one_map(cfg)
        backbone = build_backbone(cfg, feature)
        lower = cfg.SAP.LOWER.FEATURE or None
        for key, name in (("MODEL.RPN.IN_FEATURES", feature), ("SAP.LOWER.FEATURE", lower)):
            if name is not None and name not in backbone.channels:
                raise UserError(
                    f"{key} names '{name}', expected one of {', '.join(backbone.channels)}"
                )
        channels, stride = backbone.channels[feature], backbone.strides[feature]
        return cls(
            backbone,
            ProposalNetwork.from_config(cfg, channels, stride),
            DetectorHeads.from_config(cfg, channels, stride),
            feature=feature,
            lower=lower,
            pixel_mean=list(cfg.MODEL.PIXEL_MEAN),
            pixel_std=list(cfg.MODEL.PIXEL_STD),
            bgr=cfg.INPUT.FORMAT == "BGR",
        )

    def source(self, samples: list[Sample]) -> tuple[Losses, Maps]:
        images, sizes = self._batch(samples)
        targets = [self._target(sample) for sample in samples]
        stages = self.backbone(images)
        features = stages[self.feature]
        logits, deltas = self._rpn_head(features)
        proposals, losses = self.rpn(features, logits, deltas, sizes, targets)
        _, box_losses = self.roi_heads(features, proposals, sizes, targets)
        return losses | box_losses, self._maps(stages, logits, sizes)

    def target(self, samples: list[Sample]) -> Maps:
        images, sizes = self._batch(samples)
        stages = self.backbone(images)
        return self._maps(stages, None, sizes)

    @torch.no_grad()
    def detect(self, samples: list[Sample]) -> list[Detections]:
        images, sizes = self._batch(samples)
        features = self.backbone(images)[self.feature]
        proposals, _ = self.rpn(features, *self._rpn_head(features), sizes)
        found, _ = self.roi_heads(features, proposals, sizes)
        return [_in_file(*each) for each in zip(found, sizes, samples, strict=True)]

    def _batch(self, samples: list[Sample]) -> tuple[Tensor, list[Size]]:
        """Normalised images (N, 3, H, W), padded with 0 at the right and at the bottom; sizes."""
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

    def _rpn_head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        [logits], [deltas] = self.rpn.head([features])
        return logits, deltas

    def _maps(self, stages: dict[str, Tensor], logits: Tensor | None, sizes: list[Size]) -> Maps:
        """What belongs to the images. Their logits are recomputed where the head's 3×3 convolution
        has seen padding, or has not been run."""

        def crop(stage: str) -> list[Tensor]:
            return valid_areas(
                stages[stage],
                sizes,
                self.backbone.strides[stage],
                rounds_down=self.backbone.rounds_down,
            )

        features = crop(self.feature)
        if len(set(sizes)) > 1:
            own = [self._rpn_head(each)[0] for each in features]
        else:
            whole = self._rpn_head(stages[self.feature])[0] if logits is None else logits
            own = list(whole.split(1))
        return Maps(features, own, crop(self.lower) if self.lower else None)


def _one_map(cfg: CfgNode) -> str:
    names = list(cfg.MODEL.RPN.IN_FEATURES)
    if len(names) != 1 or names != list(cfg.MODEL.ROI_HEADS.IN_FEATURES):
        raise UserError(
            f"MODEL.RPN.IN_FEATURES is {names} and MODEL.ROI_HEADS.IN_FEATURES "
            f"{list(cfg.MODEL.ROI_HEADS.IN_FEATURES)}, expected the same one map in both, e.g. "
            "['res4'], with the torchvision engine"
        )
    return names[0]


def _in_file(found: dict[str, Tensor], size: Size, sample: Sample) -> Detections:
    """From pixels of the network's image to those of the file."""
    scale = torch.tensor([sample.width / size[1], sample.height / size[0]])
    boxes = found["boxes"] * scale.repeat(2).to(found["boxes"])
    limits = torch.tensor([sample.width, sample.height]).repeat(2).to(boxes)
    boxes = boxes.clamp(min=0).minimum(limits)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    masks = None
    if "masks" in found:
        masks = draw_masks(found["masks"][kept], boxes[kept], (sample.height, sample.width))
    detections = Detections(boxes[kept], found["scores"][kept], found["classes"][kept], masks)
    return detections.to("cpu")
