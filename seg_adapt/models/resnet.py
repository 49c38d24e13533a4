"""DeepLab-v2's ResNets as named stages: torchvision's own, patched."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

_BLOCKS = {
    18: (BasicBlock, [2, 2, 2, 2]),
    50: (Bottleneck, [3, 4, 6, 3]),
    101: (Bottleneck, [3, 4, 23, 3]),
}
_LAYERS = ("layer1", "layer2", "layer3", "layer4")


class _ScaledResNet(ResNet):
    """torchvision's ResNet with every channel count multiplied by `width`."""

    def __init__(self, depth: int, width: float) -> None:
        self._width = width
        block, layers = _BLOCKS[depth]
        super().__init__(block, layers, num_classes=1)
        if width != 1:
            stem = self._scaled(64)
            self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.bn1 = nn.BatchNorm2d(stem)

    def _scaled(self, channels: int) -> int:
        return max(1, round(channels * self._width))

    def _make_layer(self, block, planes, *args, **kwargs) -> nn.Sequential:
        if planes == 64:
            self.inplanes = self._scaled(64)
        return super()._make_layer(block, self._scaled(planes), *args, **kwargs)


def _stride_on_first_conv(stage: nn.Sequential) -> None:
    first = stage[0]
    if isinstance(first, Bottleneck):
        first.conv1.stride, first.conv2.stride = first.conv2.stride, (1, 1)


def _dilate(stage: nn.Sequential, dilation: int) -> None:
    """Trades the stage's stride for a dilation of all its 3×3 convolutions, first block included.

    torchvision's own option leaves the first block one step behind and has none for BasicBlock.
    """
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)


def _add_shortcut(block: nn.Module) -> None:
    """A projection in place of the identity, as the last block of DAST's released ResNet has."""
    channels = block.conv1.in_channels
    projection = nn.Conv2d(channels, channels, 1, bias=False)
    nn.init.normal_(projection.weight, std=0.01)
    block.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))


def resnet_stages(
    depth: int,
    *,
    width: float = 1.0,
    layout: str = "torchvision",
    output_stride: int = 8,
    last_shortcut: bool = False,
) -> tuple[dict[str, nn.Module], dict[str, int]]:
    """Stages stem, layer1 … layer4, and the number of channels each returns.

    The stem's pooling rounds up: 512×1024 becomes 65×129 and 321×321 41×41 at output stride 8.

    Args:
        width: multiplies every channel count.
        layout: where a bottleneck's stride sits: "caffe" on the first 1×1, "torchvision" on the
            3×3. Without effect on depth 18.
        output_stride: 8 with dilations 2 and 4, 16 with dilation 2 in layer4, or 32 without; the
            parameters are the same.
        last_shortcut: give layer4's last block a projection shortcut, to read DAST's checkpoints.
    """
    net = _ScaledResNet(depth, width)
    net.maxpool.ceil_mode = True
    if layout == "caffe":
        for stage in (net.layer2, net.layer3, net.layer4):
            _stride_on_first_conv(stage)
    if output_stride == 8:
        _dilate(net.layer3, 2)
    if output_stride < 32:
        _dilate(net.layer4, 32 // output_stride)
    if last_shortcut:
        _add_shortcut(net.layer4[-1])

    stem = nn.Sequential(
        OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool)
    )
    stages = {"stem": stem, **{name: getattr(net, name) for name in _LAYERS}}
    channels = {"stem": net.conv1.out_channels}
    for name in _LAYERS:
        last = stages[name][-1]
        channels[name] = (last.conv3 if isinstance(last, Bottleneck) else last.conv2).out_channels
    return stages, channels


def stride_layout(stages: nn.ModuleDict) -> str | None:
    """The `layout` these stages were built with; None where they have no bottleneck."""
    if "layer2" not in stages or not isinstance(stages["layer2"][0], Bottleneck):
        return None
    return "caffe" if stages["layer2"][0].conv1.stride == (2, 2) else "torchvision"


def resnet_strides(output_stride: int) -> dict[str, int]:
    """Input pixels per cell of each stage of `resnet_stages`."""
    natural = {"stem": 4, "layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
    return {name: min(stride, output_stride) for name, stride in natural.items()}


def resnet_blocks(stages: Mapping[str, nn.Module]) -> dict[str, tuple[str, ...]]:
    """The residual blocks of each stage of `resnet_stages`."""
    return {name: tuple(n for n, _ in stages[name].named_children()) for name in _LAYERS}
