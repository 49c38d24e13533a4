"""Backbones as named stages: torchvision's blocks in Detectron2's arrangement."""

from collections import OrderedDict
from collections.abc import Callable

from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from det_adapt.vgg16 import STRIDES, vgg16_stages
from shared.errors import UserError

_RESNET_BLOCKS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
_GROUPS = 32  # of GroupNorm, as in Detectron2
Norm = Callable[[int], nn.Module]


class Backbone(nn.ModuleDict):
    """Stages by name, run one after the other; the first `freeze_at` of them are never trained.

    Args:
        channels, strides: of each stage's output; strides in pixels.
        rounds_down: of odd sizes, a stage's pool drops the rest (VGG); ResNets keep it.
    """

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
        """images: (N, 3, H, W) normalised. Every stage's output, by name."""
        outputs = {}
        for name, stage in self.items():
            images = outputs[name] = stage(images)
        return outputs


def resnet_backbone(
    last: str,
    *,
    depth: int = 50,
    stem_channels: int = 64,
    res2_channels: int = 256,
    groups: int = 1,
    width_per_group: int = 64,
    norm: str = "FrozenBN",
    stride_in_1x1: bool = False,
    freeze_at: int = 2,
) -> Backbone:
    """Stages stem, res2, … up to `last`, one of res2, res3, res4, whose stride is 16 (C4).

    Args:
        stem_channels, res2_channels: outputs; each later stage has twice as many.
        groups, width_per_group: of res2's 3×3 convolutions in bottlenecks (depth 50 and more).
        norm: FrozenBN | BN | GN. Frozen stages have FrozenBN in place of BN.
        stride_in_1x1: a bottleneck's stride on its first convolution, as in Caffe's weights;
            torchvision's have it on the 3×3.
        freeze_at: 0 trains all, 1 freezes the stem, 2 the stem and res2, …
    """
    if depth not in _RESNET_BLOCKS:
        raise UserError(
            f"MODEL.RESNETS.DEPTH is {depth}, expected one of {', '.join(map(str, _RESNET_BLOCKS))}"
        )
    block, counts = _RESNET_BLOCKS[depth]
    if res2_channels % block.expansion:
        raise UserError(
            f"MODEL.RESNETS.RES2_OUT_CHANNELS is {res2_channels}, expected a multiple of "
            f"{block.expansion} at depth {depth}"
        )
    names = ["res2", "res3", "res4"]
    if last not in names:
        raise UserError(f"a ResNet has no stage '{last}', expected one of {', '.join(names)}")

    def norm_of(number: int) -> Norm:
        return _norm("FrozenBN" if norm == "BN" and number < freeze_at else norm)

    stages: dict[str, nn.Module] = {"stem": _stem(stem_channels, norm_of(0))}
    channels, strides = {"stem": stem_channels}, {"stem": 4}
    before, out, bottleneck = stem_channels, res2_channels, groups * width_per_group
    for number, name in enumerate(names[: names.index(last) + 1], start=1):
        stride = 1 if number == 1 else 2
        stages[name] = resnet_stage(
            block,
            counts[number - 1],
            before,
            out,
            bottleneck=bottleneck,
            groups=groups,
            stride=stride,
            norm=norm_of(number),
            stride_in_1x1=stride_in_1x1,
        )
        channels[name] = out
        strides[name] = 4 * 2 ** (number - 1)
        before, out, bottleneck = out, 2 * out, 2 * bottleneck
    return Backbone(
        stages, channels=channels, strides=strides, rounds_down=False, freeze_at=freeze_at
    )


def res5_head(
    res2_channels: int, *, groups: int, width_per_group: int, norm: str, stride_in_1x1: bool
) -> nn.Sequential:
    """C4's head over regions: three bottlenecks at any depth, 4 · RES2 to 8 · RES2 channels."""
    return resnet_stage(
        Bottleneck,
        3,
        4 * res2_channels,
        8 * res2_channels,
        bottleneck=8 * groups * width_per_group,
        groups=groups,
        stride=2,
        norm=_norm(norm),
        stride_in_1x1=stride_in_1x1,
    )


def resnet_stage(
    block: type[BasicBlock | Bottleneck],
    count: int,
    in_channels: int,
    out_channels: int,
    *,
    bottleneck: int,
    groups: int,
    stride: int,
    norm: Norm,
    stride_in_1x1: bool,
) -> nn.Sequential:
    """`count` of torchvision's blocks; the first has the stride and any projection."""
    planes = out_channels // block.expansion
    widths = {}
    if block is Bottleneck:
        # torchvision rounds planes · base_width / 64 down: the half survives the division.
        widths = {"groups": groups, "base_width": 64 * (bottleneck // groups + 0.5) / planes}
    blocks = []
    for _ in range(count):
        shortcut = None
        if in_channels != out_channels:
            shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels)
            )
        blocks.append(block(in_channels, planes, stride, shortcut, norm_layer=norm, **widths))
        if stride_in_1x1 and block is Bottleneck:
            blocks[-1].conv1.stride, blocks[-1].conv2.stride = (stride, stride), (1, 1)
        in_channels, stride = out_channels, 1
    return _initialised(nn.Sequential(*blocks))


def vgg16_backbone(*, width: float = 1.0, freeze_at: int = 2) -> Backbone:
    """Stages conv1 … conv5, whose stride is 16; `vgg16_stages` and a number of frozen ones."""
    stages, channels = vgg16_stages(width)
    return Backbone(
        stages, channels=channels, strides=STRIDES, rounds_down=True, freeze_at=freeze_at
    )


def build_backbone(cfg: CfgNode, last: str) -> Backbone:
    """The backbone of `MODEL.BACKBONE` up to stage `last`."""
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    if not 0 <= freeze_at <= 5:
        raise UserError(
            f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, expected 0 to 5, the number of stages that "
            "are not trained"
        )
    if cfg.MODEL.BACKBONE.NAME == "build_vgg16_backbone":
        return vgg16_backbone(width=cfg.MODEL.VGG.WIDTH, freeze_at=freeze_at)
    if cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone":
        return resnet_backbone(
            last,
            depth=cfg.MODEL.RESNETS.DEPTH,
            stem_channels=cfg.MODEL.RESNETS.STEM_OUT_CHANNELS,
            freeze_at=freeze_at,
            **resnet_widths(cfg),
        )
    raise UserError(
        f"MODEL.BACKBONE.NAME is '{cfg.MODEL.BACKBONE.NAME}', expected build_vgg16_backbone or "
        "build_resnet_backbone"
    )


def resnet_widths(cfg: CfgNode) -> dict:
    """What a ResNet's stages and its res5 over regions have in common."""
    resnets = cfg.MODEL.RESNETS
    return {
        "res2_channels": resnets.RES2_OUT_CHANNELS,
        "groups": resnets.NUM_GROUPS,
        "width_per_group": resnets.WIDTH_PER_GROUP,
        "norm": resnets.NORM,
        "stride_in_1x1": resnets.STRIDE_IN_1X1,
    }


def _stem(channels: int, norm: Norm) -> nn.Sequential:
    return _initialised(
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

    norms = {"FrozenBN": FrozenBatchNorm2d, "BN": nn.BatchNorm2d, "GN": group_norm}
    if name not in norms:
        raise UserError(f"MODEL.RESNETS.NORM is '{name}', expected one of {', '.join(norms)}")
    return norms[name]


def _initialised(stage: nn.Sequential) -> nn.Sequential:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return stage
