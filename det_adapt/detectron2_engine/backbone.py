"""VGG-16 for Detectron2: MODEL.BACKBONE.NAME build_vgg16_backbone."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor

from det_adapt.vgg16 import STRIDES, vgg16_stages


class VGG16(Backbone):
    """conv1_1 to conv5_3; gives the maps conv3, conv4 and conv5, at strides 4, 8 and 16.

    Args:
        width: multiplies every channel count.
        freeze_at: the first stages, which are not trained; 2 as in Faster R-CNN.
    """

    rounds_down = True  # its pools drop what does not fill a cell

    def __init__(self, width: float = 1.0, freeze_at: int = 2) -> None:
        super().__init__()
        stages, channels = vgg16_stages(width)
        self._out_features = ["conv3", "conv4", "conv5"]
        self._out_feature_channels = channels
        self._out_feature_strides = STRIDES
        for number, (name, stage) in enumerate(stages.items(), start=1):
            self.add_module(name, stage)
            stage.requires_grad_(number > freeze_at)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name of images (N, 3, H, W)."""
        maps = {}
        for name in STRIDES:
            images = maps[name] = getattr(self, name)(images)
        return {name: maps[name] for name in self._out_features}


@BACKBONE_REGISTRY.register()
def build_vgg16_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VGG16:
    return VGG16(cfg.MODEL.VGG.WIDTH, cfg.MODEL.BACKBONE.FREEZE_AT)
