"""SAPNet on Detectron2: MODEL.META_ARCHITECTURE SAPRCNN."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from det_adapt.adversaries import adversarial_losses, as_in_tests, needs
from det_adapt.config import da_faster_options
from det_adapt.da_faster import DaFasterLoss, DaFasterOptions
from det_adapt.detectron2_engine.catalog import register_datasets
from det_adapt.engines import check_losses
from det_adapt.sap_loss import SapLoss, valid_areas
from det_adapt.sap_plan import SapPlan, sap_plan
from det_adapt.structures import Detections, Losses, Maps, Sample
from det_adapt.timm_body import pixel_statistics
from det_adapt.vgg16 import add_dropout
from det_adapt.weight_names import to_detectron2
from shared.errors import UserError

Inputs = list[dict[str, Any]]
"""Detectron2's: a dictionary per image; a target's has no "instances"."""


@META_ARCH_REGISTRY.register()
class SAPRCNN(GeneralizedRCNN):
    """A Faster or Mask R-CNN that hides the domain from spatial attention pyramids (SAPNet's Eq. 6)
    or DA-Faster's heads.

    In training it takes a pair, so that Detectron2's trainers run as they are; its inference is
    Detectron2's. The target has no losses of the task. Its checkpoints are those of either engine.

    Args:
        plan, da_faster: the pyramids and DA-Faster's heads; both None: an R-CNN without adversary,
            which takes Detectron2's own batches.
        lower_feature: the backbone's map of the plan's lower pyramid.
        arguments: GeneralizedRCNN's.
    """

    @configurable
    def __init__(
        self,
        *,
        plan: SapPlan | None = None,
        lower_feature: str = "",
        da_faster: DaFasterOptions | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        shapes, self.read = self.backbone.output_shape(), self.proposal_generator.in_features
        if lower_feature and lower_feature not in shapes:
            raise UserError(
                f"SAP.LOWER.FEATURE is '{lower_feature}', but the backbone gives "
                f"{', '.join(shapes)}: a ResNet's are named in MODEL.RESNETS.OUT_FEATURES"
            )
        self.feature_channels = shapes[self.read[0]].channels
        self.anchors = self.proposal_generator.anchor_generator.num_anchors[0]
        self.lower_channels = shapes[lower_feature].channels if lower_feature else None
        self.sap = self.da_faster = None
        if plan is not None:
            at = (lower_feature, self.lower_channels)
            self.sap = SapLoss(plan, self.read, self.feature_channels, self.anchors, at)
        if da_faster is not None:
            kinds = Res5ROIHeads | StandardROIHeads
            if not isinstance(self.roi_heads, kinds) or isinstance(self.roi_heads, CascadeROIHeads):
                raise UserError(
                    f"DA_FASTER reads what one box head makes of regions, and MODEL.ROI_HEADS.NAME "
                    f"is {type(self.roi_heads).__name__}: use StandardROIHeads or Res5ROIHeads"
                )
            region_channels = self.roi_heads.box_predictor.cls_score.in_features
            self.da_faster = DaFasterLoss(
                da_faster, self.read, self.feature_channels, region_channels
            )

    @property
    def adversaries(self) -> list[nn.Module]:
        return [each for each in (self.sap, self.da_faster) if each is not None]

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        # Whoever builds the model of a run meets its classes in the catalogs as well.
        register_datasets(cfg)
        plan = sap_plan(cfg)
        feature = cfg.SAP.LOWER.FEATURE if plan is not None else ""
        parts = super().from_config(cfg)
        if cfg.MODEL.ROI_BOX_HEAD.DROPOUT:
            add_dropout(parts["roi_heads"].box_head, cfg.MODEL.ROI_BOX_HEAD.DROPOUT)
        mean, std = pixel_statistics(cfg)
        own = {"plan": plan, "lower_feature": feature, "da_faster": da_faster_options(cfg)}
        return parts | own | {"pixel_mean": mean, "pixel_std": std}

    def forward(self, batched_inputs: Inputs | tuple[Inputs, Inputs | None]) -> Any:
        """Training: the losses of (source, target), or of a list, the source alone, where there is
        no adversary; FloatingPointError where they are not finite. Evaluation: Detectron2's."""
        if not self.training:
            return super().forward(batched_inputs)
        alone = isinstance(batched_inputs, list)
        source, target = (batched_inputs, None) if alone else batched_inputs
        if not self.adversaries:
            losses = super().forward(source)
            check_losses(losses)
            return losses
        if target is None:
            raise UserError(
                "an adversary trains on pairs (source, target), got a batch of the source alone: "
                "take det_adapt.PairedTrainLoader(cfg), as det_adapt.SapTrainer does, or set "
                "SAP.ENABLED and DA_FASTER.ENABLED False"
            )
        storage = get_event_storage()
        losses, source_maps = self._source(source)
        target_maps = self._target(target)
        others, logs = adversarial_losses(self.adversaries, source_maps, target_maps, storage.iter)
        for name, value in logs.items():
            storage.put_scalar(name, value.item())
        losses |= others
        check_losses(losses)
        return losses

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Also of the torchvision engine's detector, which has other names."""
        return super().load_state_dict(to_detectron2(state_dict), *args, **kwargs)

    def source(self, samples: list[Sample]) -> tuple[Losses, Maps]:
        return self._source(self.inputs(samples))

    def target(self, samples: list[Sample]) -> Maps:
        return self._target(self.inputs(samples))

    def detect(self, samples: list[Sample]) -> list[Detections]:
        return [_detections(output["instances"]) for output in self(self.inputs(samples))]

    def inputs(self, samples: Sequence[Sample]) -> Inputs:
        """Samples as Detectron2's dictionaries."""
        return to_inputs(samples, self.input_format)

    def _source(self, inputs: Inputs) -> tuple[Losses, Maps]:
        # The RPN keeps its logits to itself; calling its head again would cost it a second time.
        generator = self.proposal_generator
        with (
            _outputs_of(self.backbone) as features,
            _outputs_of(generator.rpn_head) as predictions,
            _outputs_of(generator) as proposed,
        ):
            losses = super().forward(inputs)
        [(logits, _)], [(proposals, _)] = predictions, proposed
        known = dict(zip(self.read, logits, strict=True))
        return losses, self._maps(features[0], known, inputs, proposals)

    def _target(self, inputs: Inputs) -> Maps:
        images = self.preprocess_image(inputs)
        features, known, proposals = self.backbone(images.tensor), {}, []
        if needs(self.adversaries).regions:
            generator = self.proposal_generator
            with _outputs_of(generator.rpn_head) as predictions, as_in_tests(generator):
                proposals, _ = generator(images, features)
            [(logits, _)] = predictions
            known = dict(zip(self.read, logits, strict=True))
        return self._maps(features, known, inputs, proposals)

    def _maps(
        self,
        features: dict[str, Tensor],
        logits: dict[str, Tensor],
        inputs: Inputs,
        proposals: list[Instances],
    ) -> Maps:
        """What belongs to the images, of what the adversaries ask for."""
        wanted = needs(self.adversaries)
        sizes = [tuple(entry["image"].shape[-2:]) for entry in inputs]
        crops = {name: self._crops(features, name, sizes) for name in wanted.features}
        guides = {}
        for name in wanted.guides:
            whole = logits[name] if name in logits else self._logits(features[name])
            # The head's 3×3 convolution looks into the padding: there, the guide is that of the
            # crop.
            guides[name] = [
                guide if guide.shape[-2:] == crop.shape[-2:] else self._logits(crop)
                for guide, crop in zip(whole.split(1), crops[name], strict=True)
            ]
        regions = ()
        if wanted.regions:
            boxes = [own.proposal_boxes[: wanted.regions] for own in proposals]
            regions = self._vectors(features, boxes)
        return Maps(crops, guides, regions)

    def _vectors(self, features: dict[str, Tensor], boxes: list[Boxes]) -> list[Tensor]:
        """Per image (n, D), what the box predictor sees of its boxes."""
        heads = self.roi_heads
        maps = [features[name] for name in heads.in_features]
        if isinstance(heads, Res5ROIHeads):
            vectors = heads.res5(heads.pooler(maps, boxes)).mean(dim=(2, 3))
        else:
            vectors = heads.box_head(heads.box_pooler(maps, boxes))
        return list(vectors.split([len(own) for own in boxes]))

    def _crops(
        self, features: dict[str, Tensor], name: str, sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        stride = self.backbone.output_shape()[name].stride
        rounds_down = getattr(self.backbone, "rounds_down", False)
        return valid_areas(features[name], sizes, stride, rounds_down=rounds_down)

    def _logits(self, feature: Tensor) -> Tensor:
        """The RPN's objectness (N, A, h, w) of its map (N, Ĉ, h, w)."""
        return self.proposal_generator.rpn_head([feature])[0][0]


def to_inputs(samples: Sequence[Sample], channels: str) -> Inputs:
    """Samples as Detectron2 takes them.

    Args:
        channels: INPUT.FORMAT, RGB or BGR.
    """
    return [_to_input(sample, channels) for sample in samples]


def _to_input(sample: Sample, channels: str) -> dict[str, Any]:
    image = sample.image.flip(0) if channels == "BGR" else sample.image
    entry = {
        "image": image,
        "height": sample.height,
        "width": sample.width,
        "image_id": sample.name,
    }
    if sample.boxes is not None:
        instances = Instances(tuple(image.shape[-2:]))
        instances.gt_boxes = Boxes(sample.boxes)
        instances.gt_classes = sample.classes
        if sample.masks is not None:
            instances.gt_masks = BitMasks(sample.masks)
        entry["instances"] = instances
    return entry


def _detections(instances: Instances) -> Detections:
    own = instances.to("cpu")
    masks = own.pred_masks if own.has("pred_masks") else None
    return Detections(own.pred_boxes.tensor, own.scores, own.pred_classes, masks)


@contextmanager
def _outputs_of(module: nn.Module) -> Iterator[list[Any]]:
    """What every forward of `module` within the context returned."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
