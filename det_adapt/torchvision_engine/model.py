"""SAPNet on torchvision: Detectron2's GeneralizedRCNN, weight by weight and key by key."""

import math

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from det_adapt.adversaries import adversarial_losses, as_in_tests, needs
from det_adapt.config import da_faster_options
from det_adapt.da_faster import DaFasterLoss
from det_adapt.sap_loss import SapLoss, valid_areas
from det_adapt.sap_plan import sap_plan
from det_adapt.structures import Detections, Losses, Maps, Sample
from det_adapt.timm_body import pixel_statistics
from det_adapt.torchvision_engine.backbones import Backbone, build_backbone
from det_adapt.torchvision_engine.masks import draw_masks
from det_adapt.torchvision_engine.proposals import ProposalNetwork
from det_adapt.torchvision_engine.roi_heads import DetectorHeads
from shared.errors import UserError

Size = tuple[int, int]


class SapRCNN(nn.Module):
    """Faster or Mask R-CNN, a `det_adapt.engines.Detector`, and its adversaries.

    Parts have the names that they have in Detectron2's engine. `sap` and `da_faster` are None where
    the run does not adapt by them; they draw their weights last, so that the detector starts the
    same without them.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.bgr = cfg.INPUT.FORMAT == "BGR"
        _check_named(cfg)
        self.backbone = build_backbone(cfg)
        channels, strides = self.backbone.channels, self.backbone.strides
        _check_maps(cfg, self.backbone)
        self.read, self.pooled = cfg.MODEL.RPN.IN_FEATURES, cfg.MODEL.ROI_HEADS.IN_FEATURES
        lower = cfg.SAP.LOWER.FEATURE
        self.feature_channels = channels[self.read[0]]
        self.lower_channels = channels[lower] if lower else None
        self.rpn = ProposalNetwork(
            cfg, self.feature_channels, [strides[name] for name in self.read]
        )
        self.roi_heads = DetectorHeads(
            cfg, channels[self.pooled[0]], [strides[name] for name in self.pooled]
        )
        self.anchors = self.rpn.head.cls_logits.out_channels
        for name, values in zip(("mean", "std"), pixel_statistics(cfg), strict=True):
            values = torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(f"pixel_{name}", values, persistent=False)
        plan, heads = sap_plan(cfg), da_faster_options(cfg)
        self.sap = self.da_faster = None
        if plan is not None:
            at = (lower, self.lower_channels)
            self.sap = SapLoss(plan, self.read, self.feature_channels, self.anchors, at)
        if heads is not None:
            region_channels = self.roi_heads.box_predictor.cls_score.in_features
            self.da_faster = DaFasterLoss(heads, self.read, self.feature_channels, region_channels)

    @property
    def adversaries(self) -> list[nn.Module]:
        return [each for each in (self.sap, self.da_faster) if each is not None]

    def forward(
        self, source: list[Sample], target: list[Sample] | None, iteration: int = 0
    ) -> tuple[Losses, dict[str, Tensor]]:
        """Training: the weighted losses of a pair, and what is logged beside them.

        Args:
            iteration: from 0, of the schedule of λ.
        """
        losses, maps = self.source(source)
        if target is None:
            return losses, {}
        others, logs = adversarial_losses(self.adversaries, maps, self.target(target), iteration)
        return losses | others, logs

    def source(self, samples: list[Sample]) -> tuple[Losses, Maps]:
        images, sizes = self.batch_images(samples)
        targets = [self._target(sample) for sample in samples]
        maps = self.backbone(images)
        features = [maps[name] for name in self.read]
        logits, deltas = self.rpn.head(features)
        proposals, losses = self.rpn(features, logits, deltas, sizes, targets)
        _, box_losses = self.roi_heads(self._pooled(maps), proposals, sizes, targets)
        known = dict(zip(self.read, logits, strict=True))
        return losses | box_losses, self._maps(maps, known, sizes, proposals)

    def target(self, samples: list[Sample]) -> Maps:
        images, sizes = self.batch_images(samples)
        maps, known, proposals = self.backbone(images), {}, []
        if needs(self.adversaries).regions:
            features = [maps[name] for name in self.read]
            logits, deltas = self.rpn.head(features)
            known = dict(zip(self.read, logits, strict=True))
            with as_in_tests(self.rpn):
                proposals, _ = self.rpn(features, logits, deltas, sizes)
        return self._maps(maps, known, sizes, proposals)

    @torch.no_grad()
    def detect(self, samples: list[Sample]) -> list[Detections]:
        images, sizes = self.batch_images(samples)
        maps = self.backbone(images)
        features = [maps[name] for name in self.read]
        proposals, _ = self.rpn(features, *self.rpn.head(features), sizes)
        detections, _ = self.roi_heads(self._pooled(maps), proposals, sizes)
        return [_in_file(*each) for each in zip(detections, sizes, samples, strict=True)]

    def batch_images(self, samples: list[Sample]) -> tuple[Tensor, list[Size]]:
        """Normalized images (N, 3, H, W), padded with 0 at the right and at the bottom; sizes."""
        sizes = [tuple(sample.image.shape[-2:]) for sample in samples]
        divisor = self.backbone.divisor
        shape = [math.ceil(max(sides) / divisor) * divisor for sides in zip(*sizes, strict=True)]
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

    def _pooled(self, maps: dict[str, Tensor]) -> list[Tensor]:
        return [maps[name] for name in self.pooled]

    def _maps(
        self,
        maps: dict[str, Tensor],
        logits: dict[str, Tensor],
        sizes: list[Size],
        proposals: list[Tensor],
    ) -> Maps:
        """What belongs to the images, of what the adversaries ask for. Logits are recomputed where
        the head's 3×3 convolution has seen padding, or has not been run."""
        wanted = needs(self.adversaries)
        stride, rounds_down = self.backbone.strides, self.backbone.rounds_down
        crops = {
            name: valid_areas(maps[name], sizes, stride[name], rounds_down=rounds_down)
            for name in wanted.features
        }
        guides = {}
        for name in wanted.guides:
            whole = maps[name]
            if len(set(sizes)) > 1 or crops[name][0].shape[-2:] != whole.shape[-2:]:
                guides[name] = [self.rpn.head([each])[0][0] for each in crops[name]]
            else:
                known = logits[name] if name in logits else self.rpn.head([whole])[0][0]
                guides[name] = list(known.split(1))
        regions = ()
        if wanted.regions:
            best = [own[: wanted.regions] for own in proposals]
            regions = self.roi_heads.vectors(self._pooled(maps), best)
        return Maps(crops, guides, regions)


def _check_named(cfg: CfgNode) -> None:
    for key in ("RPN", "ROI_HEADS"):
        if not cfg.MODEL[key].IN_FEATURES:
            raise UserError(f"MODEL.{key}.IN_FEATURES is []: name a map, e.g. ['res4']")


def _check_maps(cfg: CfgNode, backbone: nn.Module) -> None:
    """UserError where a key does not name maps of the backbone, the finest first, of regions one
    after another; without a feature pyramid, the same one for both."""
    known = list(backbone.channels)
    read, pooled = list(cfg.MODEL.RPN.IN_FEATURES), list(cfg.MODEL.ROI_HEADS.IN_FEATURES)
    lower = [cfg.SAP.LOWER.FEATURE] if cfg.SAP.LOWER.FEATURE else []
    if isinstance(backbone, Backbone) and (len(read) > 1 or read != pooled):
        raise UserError(
            f"MODEL.RPN.IN_FEATURES is {read} and MODEL.ROI_HEADS.IN_FEATURES {pooled}, expected "
            "the same one map in both, e.g. ['res4'], with the torchvision engine, or maps of a "
            "feature pyramid (MODEL.BACKBONE.NAME build_resnet_fpn_backbone)"
        )
    named = {
        "MODEL.RPN.IN_FEATURES": read,
        "MODEL.ROI_HEADS.IN_FEATURES": pooled,
        "SAP.LOWER.FEATURE": lower,
    }
    for key, names in named.items():
        for name in names:
            if name not in known:
                raise UserError(f"{key} names '{name}', expected one of {', '.join(known)}")
    start = known.index(pooled[0])
    if pooled != known[start : start + len(pooled)] or read != sorted(read, key=known.index):
        raise UserError(
            f"MODEL.ROI_HEADS.IN_FEATURES is {pooled} and MODEL.RPN.IN_FEATURES {read}, expected "
            f"the finest map first, of regions one after another, of {', '.join(known)}"
        )


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
