"""Backbones by name: stages of torchvision's blocks in Detectron2's arrangement."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from det_adapt.timm_body import TIMM, pyramid_levels, timm_body
from det_adapt.torchvision_engine.feature_pyramid import FeaturePyramid, Norm
from det_adapt.vgg16 import STRIDES, vgg16_stages
from shared.errors import UserError
from shared.registry import Registry

_RESNET_BLOCKS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
_GROUPS = 32  # of GroupNorm, as in Detectron2
BACKBONES: Registry[Callable[[CfgNode], nn.Module]] = Registry(
    "MODEL.BACKBONE.NAME of the torchvision engine"
)


class Backbone(nn.ModuleDict):
    """Stages by name, run one after the other; the first `freeze_at` of them are never trained.

    Args:
        channels, strides: of each stage's output; strides in pixels.
        rounds_down: of odd sizes, a stage's pool drops the rest (VGG); ResNets keep it.
    """

    divisor = 1  # images may have any size

    def __init__(
        self,
        stages: dict[str, nn.Module],
        *,
        channels: dict[str, int],
        strides: dict[str, int],
        rounds_down: bool,
        freeze_at: int,
    ) -> None:
        super().__init__(stages)
        self.channels = channels
        self.strides = strides
        self.rounds_down = rounds_down
        for stage in list(stages)[:freeze_at]:
            self[stage].requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (N, 3, H, W) normalized. Every stage's output, by name."""
        outputs = {}
        for name, stage in self.items():
            images = outputs[name] = stage(images)
        return outputs


def build_backbone(cfg: CfgNode) -> nn.Module:
    """The backbone of `MODEL.BACKBONE.NAME`: images (N, 3, H, W) to maps by name, with the
    attributes of `Backbone`."""
    return BACKBONES.get(cfg.MODEL.BACKBONE.NAME)(cfg)


@BACKBONES.register("build_resnet_backbone")
def _build_resnet(cfg: CfgNode) -> Backbone:
    """Up to the deepest stage that is read."""
    return _resnet(cfg, cfg.MODEL.RPN.IN_FEATURES[-1])


@BACKBONES.register("build_resnet_fpn_backbone")
def _build_resnet_pyramid(cfg: CfgNode) -> FeaturePyramid:
    return _pyramid(cfg, _resnet(cfg, "res5"), cfg.MODEL.FPN.IN_FEATURES)


@BACKBONES.register("build_vgg16_backbone")
def _build_vgg16(cfg: CfgNode) -> Backbone:
    stages, channels = vgg16_stages(cfg.MODEL.VGG.WIDTH)
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    return Backbone(
        stages, channels=channels, strides=STRIDES, rounds_down=True, freeze_at=freeze_at
    )


@BACKBONES.register(TIMM)
def _build_timm_pyramid(cfg: CfgNode) -> FeaturePyramid:
    levels = timm_body(cfg)
    body = Backbone(
        levels.stages,
        channels=levels.channels,
        strides=levels.strides,
        rounds_down=False,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return _pyramid(cfg, body, pyramid_levels(cfg, levels.strides))


def _pyramid(cfg: CfgNode, body: Backbone, names: Sequence[str]) -> FeaturePyramid:
    fpn = cfg.MODEL.FPN
    return FeaturePyramid(body, names, fpn.OUT_CHANNELS, _norm(fpn.NORM) if fpn.NORM else None)


def res5_head(resnets: CfgNode) -> nn.Sequential:
    """C4's head over regions: three bottlenecks at any depth, 4 · RES2 to 8 · RES2 channels."""
    width = resnets.RES2_OUT_CHANNELS
    return _stage(resnets, Bottleneck, 3, 4 * width, 8 * width, 2, _norm(resnets.NORM))


def _resnet(cfg: CfgNode, last: str) -> Backbone:
    """Stages stem, res2, … up to `last`, one of res2, res3, res4 (stride 16, C4) and res5.

    Stages that are not trained have FrozenBN in place of BN.
    """
    resnets, freeze_at = cfg.MODEL.RESNETS, cfg.MODEL.BACKBONE.FREEZE_AT
    depth, out = resnets.DEPTH, resnets.RES2_OUT_CHANNELS
    if depth not in _RESNET_BLOCKS:
        raise UserError(
            f"MODEL.RESNETS.DEPTH is {depth}, expected one of {', '.join(map(str, _RESNET_BLOCKS))}"
        )
    block, counts = _RESNET_BLOCKS[depth]
    if out % block.expansion:
        raise UserError(
            f"MODEL.RESNETS.RES2_OUT_CHANNELS is {out}, expected a multiple of "
            f"{block.expansion} at depth {depth}"
        )
    names = ["res2", "res3", "res4", "res5"]
    if last not in names:
        raise UserError(f"a ResNet has no stage '{last}', expected one of {', '.join(names)}")

    def norm(number: int) -> Norm:
        frozen = resnets.NORM == "BN" and number < freeze_at
        return _norm("FrozenBN" if frozen else resnets.NORM)

    channels, strides = {"stem": resnets.STEM_OUT_CHANNELS}, {"stem": 4}
    stages: dict[str, nn.Module] = {"stem": _stem(channels["stem"], norm(0))}
    before = channels["stem"]
    for number, name in enumerate(names[: names.index(last) + 1], start=1):
        stride = 1 if number == 1 else 2
        count = counts[number - 1]
        stages[name] = _stage(resnets, block, count, before, out, stride, norm(number))
        channels[name], strides[name] = out, 4 * 2 ** (number - 1)
        before, out = out, 2 * out
    return Backbone(
        stages, channels=channels, strides=strides, rounds_down=False, freeze_at=freeze_at
    )


def _stage(
    resnets: CfgNode,
    block: type[BasicBlock | Bottleneck],
    count: int,
    in_channels: int,
    out_channels: int,
    stride: int,
    norm: Norm,
) -> nn.Sequential:
    """`count` of torchvision's blocks; the first has the stride and any projection.

    A bottleneck's 3×3 convolution has NUM_GROUPS · WIDTH_PER_GROUP channels in res2 and twice as
    many in each stage after it.
    """
    planes = out_channels // block.expansion
    widths = {}
    if block is Bottleneck:
        width = resnets.WIDTH_PER_GROUP * (out_channels // resnets.RES2_OUT_CHANNELS)
        # torchvision rounds planes · base_width / 64 down: the half survives the division.
        widths = {"groups": resnets.NUM_GROUPS, "base_width": 64 * (width + 0.5) / planes}
    blocks = []
    for _ in range(count):
        shortcut = None
        if in_channels != out_channels:
            shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels)
            )
        blocks.append(block(in_channels, planes, stride, shortcut, norm_layer=norm, **widths))
        if resnets.STRIDE_IN_1X1 and block is Bottleneck:
            # As in Caffe's weights; torchvision's have the stride on the 3×3 convolution.
            blocks[-1].conv1.stride, blocks[-1].conv2.stride = (stride, stride), (1, 1)
        in_channels, stride = out_channels, 1
    return _initialized(nn.Sequential(*blocks))


def _stem(channels: int, norm: Norm) -> nn.Sequential:
    return _initialized(
        nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
                bn1=norm(channels),
                relu=nn.ReLU(inplace=True),
                maxpool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
    )


def _norm(name: str) -> Norm:
    def group_norm(channels: int) -> nn.GroupNorm:
        if channels % _GROUPS:
            raise UserError(
                f"MODEL.RESNETS.NORM GN has {_GROUPS} groups, and a layer has {channels} channels: "
                f"set the widths of MODEL.RESNETS to multiples of {_GROUPS}"
            )
        return nn.GroupNorm(_GROUPS, channels)

    return {"FrozenBN": FrozenBatchNorm2d, "BN": nn.BatchNorm2d, "GN": group_norm}[name]


def _initialized(stage: nn.Sequential) -> nn.Sequential:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return stage
