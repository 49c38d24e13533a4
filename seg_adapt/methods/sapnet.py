"""SAPNet: Li et al., "Spatial Attention Pyramid Network for Unsupervised Domain Adaptation",
ECCV 2020, for semantic segmentation. The pyramid and its loss are `shared/sap`'s; the stage on the
source alone that comes first is the engine's (`SOURCE_STAGE`)."""

import numpy as np
from fvcore.common.config import CfgNode

from seg_adapt.methods.base import METHODS, Method, ModelOptions
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.structures import Phase, SourceBatch, TargetBatch
from shared.sap import (
    SapOptions,
    SpatialAttentionPyramid,
    add_sap_keys,
    draw_pyramid,
    sap_losses,
    sap_options,
)


@METHODS.register("sapnet")
class SapNet(Method):
    """Hides the domain from a pyramid of pooled features, guided by the predictions (Eq. 6).

    Args:
        feature_stage: cut of the features f̂; empty: the deepest pre-trained map.
    """

    def __init__(
        self,
        segmentor: Segmentor,
        options: ModelOptions | None = None,
        sap: SapOptions | None = None,
        *,
        feature_stage: str = "",
    ) -> None:
        super().__init__(segmentor, options)
        self.sap = sap or SapOptions()
        self.feature_stage = feature_stage or segmentor.feature_stage
        channels = segmentor.channels_at(self.feature_stage)
        self.discriminator = SpatialAttentionPyramid(channels, segmentor.num_classes, self.sap)

    @classmethod
    def add_keys(cls, cfg: CfgNode) -> None:
        add_sap_keys(cfg, SapOptions())  # explained in shared/sap/options.py
        cfg.SAP.FEATURE_STAGE = ""  # where the features are taken; empty: deepest pre-trained map

    @classmethod
    def from_config(cls, cfg: CfgNode, segmentor: Segmentor) -> "SapNet":
        return cls(
            segmentor,
            ModelOptions.from_config(cfg),
            sap_options(cfg),
            feature_stage=cfg.SAP.FEATURE_STAGE,
        )

    def groups(self) -> dict[str, list[dict]]:
        # One optimizer: the reversed gradient reaches both players in a single backward.
        pyramid = self.new_groups([self.discriminator], lr_mult=self.sap.lr_mult)
        return {"model": self.segmentor_groups() + pyramid}

    def phase(self, source: SourceBatch, target: TargetBatch) -> Phase:
        outputs = self.segmentor.outputs(source.images, self.feature_stage)
        target_features = self.segmentor.run(target.images, until=self.feature_stage)
        target_logits = self.segmentor.run(target_features, after=self.feature_stage)
        losses, accuracy = sap_losses(
            self.discriminator,
            (outputs.features, outputs.logits),
            (target_features, target_logits),
            weight=self.sap.loss_weight,
            reduction=self.sap.loss_reduction,
            grl_scale=self.sap.grl_scale,
        )
        losses = self.supervised(outputs, source.labels) | losses
        return Phase("model", losses, target_logits, {"accuracy/domain": accuracy})

    def pictures(self, source: SourceBatch, target: TargetBatch) -> dict[str, np.ndarray]:
        """Fig. 2: target images, the mask of every level and its mean weight."""
        if not self.sap.pyramid:
            return {}
        features = self.segmentor.run(target.images, until=self.feature_stage)
        guide = self.segmentor.run(features, after=self.feature_stage)
        images = list(target.images.permute(0, 2, 3, 1).cpu().numpy())
        outputs = self.discriminator(features, guide)
        return {"attention_pyramid": draw_pyramid(images, outputs, self.sap.levels)}
