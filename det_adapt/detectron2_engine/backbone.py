"""Backbones of ours for Detectron2, by MODEL.BACKBONE.NAME: build_vgg16_backbone and
build_timm_fpn_backbone."""

from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from det_adapt.timm_body import pyramid_levels, timm_body
from det_adapt.vgg16 import STRIDES, vgg16_stages


class Stages(Backbone):
    """Modules that run one after another.

    Args:
        channels, strides: of the stages.
        names: those whose maps are given.
        freeze_at: the first stages, which are not trained.
    """

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        channels: Mapping[str, int],
        strides: Mapping[str, int],
        names: Sequence[str],
        freeze_at: int,
    ) -> None:
        super().__init__()
        self._stages = list(stages)
        self._out_features = list(names)
        self._out_feature_channels = dict(channels)
        self._out_feature_strides = dict(strides)
        for number, (name, stage) in enumerate(stages.items(), start=1):
            self.add_module(name, stage)
            stage.requires_grad_(number > freeze_at)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name of images (N, 3, H, W)."""
        maps = {}
        for name in self._stages:
            images = maps[name] = getattr(self, name)(images)
        return {name: maps[name] for name in self._out_features}


class VGG16(Stages):
    """conv1_1 to conv5_3; gives the maps conv3, conv4 and conv5, at strides 4, 8 and 16.

    Args:
        width: multiplies every channel count.
        freeze_at: the first stages, which are not trained; 2 as in Faster R-CNN.
    """

    rounds_down = True  # its pools drop what does not fill a cell

    def __init__(self, width: float = 1.0, freeze_at: int = 2) -> None:
        stages, channels = vgg16_stages(width)
        super().__init__(stages, channels, STRIDES, ["conv3", "conv4", "conv5"], freeze_at)


@BACKBONE_REGISTRY.register()
def build_vgg16_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VGG16:
    return VGG16(cfg.MODEL.VGG.WIDTH, cfg.MODEL.BACKBONE.FREEZE_AT)


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    levels, fpn = timm_body(cfg), cfg.MODEL.FPN
    names = pyramid_levels(cfg, levels.strides)
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    body = Stages(levels.stages, levels.channels, levels.strides, names, freeze_at)
    return FPN(body, names, fpn.OUT_CHANNELS, fpn.NORM, LastLevelMaxPool(), fuse_type=fpn.FUSE_TYPE)
