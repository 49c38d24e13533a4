"""What happens to one region: pooling its part of the map, and the heads that read it."""

from collections import OrderedDict

from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import roi_align, roi_pool

from det_adapt.engines.torchvision.backbones import res5_head, resnet_widths
from shared.errors import UserError


class RegionPool(nn.Module):
    """The map under each box, as `resolution` × `resolution` cells.

    Args:
        stride: of the map, in pixels.
        sampling_ratio: samples per cell and axis of RoIAlign; 0: as many as the box has map cells.
        kind: ROIAlignV2, which shifts boxes by half a cell, onto the cells' centres; or ROIPool.
    """

    def __init__(
        self, resolution: int, stride: int, *, sampling_ratio: int = 0, kind: str = "ROIAlignV2"
    ) -> None:
        super().__init__()
        if kind not in ("ROIAlignV2", "ROIPool"):
            raise UserError(f"POOLER_TYPE is '{kind}', expected ROIAlignV2 or ROIPool")
        self.resolution = resolution
        self.stride = stride
        self.sampling_ratio = sampling_ratio
        self.kind = kind

    @classmethod
    def from_config(cls, head: CfgNode, stride: int) -> "RegionPool":
        """Of `MODEL.ROI_BOX_HEAD` or `MODEL.ROI_MASK_HEAD`."""
        return cls(
            head.POOLER_RESOLUTION,
            stride,
            sampling_ratio=head.POOLER_SAMPLING_RATIO,
            kind=head.POOLER_TYPE,
        )

    def forward(self, features: Tensor, boxes: list[Tensor]) -> Tensor:
        """features: (N, C, h, w); boxes: per image (n, 4) in pixels. (Σn, C, r, r)."""
        if self.kind == "ROIPool":
            return roi_pool(features, boxes, self.resolution, 1 / self.stride)
        return roi_align(
            features,
            boxes,
            self.resolution,
            1 / self.stride,
            self.sampling_ratio,
            aligned=True,
        )


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


def build_box_head(cfg: CfgNode, channels: int) -> tuple[nn.Module, int]:
    """The head of `MODEL.ROI_HEADS.NAME` and the number of channels that it returns."""
    name, box = cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD
    if name == "Res5ROIHeads":
        widths = resnet_widths(cfg)
        expected = 4 * widths["res2_channels"]
        if channels != expected:
            raise UserError(
                f"MODEL.ROI_HEADS.NAME Res5ROIHeads reads a map of {expected} channels, "
                f"MODEL.ROI_HEADS.IN_FEATURES has {channels}: name res4, or use StandardROIHeads"
            )
        return res5_head(**widths), 2 * expected
    if name == "StandardROIHeads":
        if box.NUM_FC < 1:
            raise UserError(
                f"MODEL.ROI_BOX_HEAD.NUM_FC is {box.NUM_FC}, expected at least 1 with "
                "StandardROIHeads: 2 as in VGG-16"
            )
        return _fc_head(channels * box.POOLER_RESOLUTION**2, box.NUM_FC, box.FC_DIM), box.FC_DIM
    raise UserError(f"MODEL.ROI_HEADS.NAME is '{name}', expected Res5ROIHeads or StandardROIHeads")


def _fc_head(inputs: int, count: int, width: int) -> nn.Sequential:
    layers = OrderedDict(flatten=nn.Flatten())
    for number in range(1, count + 1):
        layer = nn.Linear(inputs, width)
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
        layers[f"fc{number}"] = layer
        layers[f"fc_relu{number}"] = nn.ReLU(inplace=True)
        inputs = width
    return nn.Sequential(layers)


def build_mask_head(cfg: CfgNode, channels: int) -> nn.Sequential:
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
