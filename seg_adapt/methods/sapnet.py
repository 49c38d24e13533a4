"""SAPNet: Li et al., "Spatial Attention Pyramid Network for Unsupervised Domain Adaptation",
ECCV 2020, for semantic segmentation. The pyramid and its loss are `shared/sap`'s; the stage on the
source alone that comes first is the engine's (`SOURCE_STAGE`)."""

from dataclasses import dataclass

import numpy as np

from seg_adapt.methods.base import METHODS, Method, parameter_group
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.options import LayerRates
from seg_adapt.structures import Phase, SourceBatch, TargetBatch
from shared.sap import SapOptions, SpatialAttentionPyramid, draw_pyramid, sap_losses


@dataclass(frozen=True)
class SapNetOptions(SapOptions):
    feature_stage: str = ""  # where the features are taken; empty: deepest pre-trained map


@METHODS.register("sapnet")
class SapNet(Method):
    """Hides the domain from a pyramid of pooled features, guided by the predictions (Eq. 6)."""

    options_type = SapNetOptions

    def build(self, segmentor: Segmentor) -> None:
        self.feature_stage = self.options.feature_stage or segmentor.feature_stage
        channels = segmentor.channels_at(self.feature_stage)
        self.discriminator = SpatialAttentionPyramid(channels, segmentor.num_classes, self.options)

    def groups(self, rates: LayerRates) -> dict[str, list[dict]]:
        # One optimizer: the reversed gradient reaches both players in a single backward.
        pyramid = parameter_group(self.discriminator, lr_mult=self.options.lr_mult)
        return {"model": [*self.segmentor.parameter_groups(rates), pyramid]}

    def phase(self, source: SourceBatch, target: TargetBatch) -> Phase:
        outputs = self.segmentor.outputs(source.images, self.feature_stage)
        target_features, predict = self.segmentor.split(target.images, self.feature_stage)
        target_logits = predict(target_features)
        losses, accuracy = sap_losses(
            self.discriminator,
            (outputs.features, outputs.logits),
            (target_features, target_logits),
            weight=self.options.loss_weight,
            reduction=self.options.loss_reduction,
            grl_scale=self.options.grl_scale,
        )
        losses = self.supervised(outputs, source.labels) | losses
        return Phase("model", losses, target_logits, {"accuracy/domain": accuracy})

    def pictures(self, source: SourceBatch, target: TargetBatch) -> dict[str, np.ndarray]:
        """Fig. 2: target images, the mask of every level and its mean weight."""
        if not self.options.pyramid:
            return {}
        features, predict = self.segmentor.split(target.images, self.feature_stage)
        guide = predict(features)
        images = list(target.images.permute(0, 2, 3, 1).cpu().numpy())
        outputs = self.discriminator(features, guide)
        return {"attention_pyramid": draw_pyramid(images, outputs, self.options.levels)}
