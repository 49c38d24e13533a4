"""DeepLab's VGG-16 trunks as named stages: torchvision's convolutions, other pools."""

from collections import OrderedDict

from torch import nn
from torchvision.models import vgg


def _pool(stride: int, aligned: bool) -> nn.MaxPool2d:
    # Caffe rounds pooled sizes up: 321 -> 161 -> 81 -> 41.
    if aligned:
        return nn.MaxPool2d(3, stride, padding=1, ceil_mode=True)
    return nn.MaxPool2d(2, stride)


def vgg16_stages(
    *, aligned: bool, width: float = 1.0
) -> tuple[dict[str, nn.Module], dict[str, int]]:
    """Stages conv1 … conv5 of output stride 8, conv5 dilated by 2, and the channels each returns.

    Each ends at its last ReLU. A pool opens the stage after it, so that `conv5` is conv5_3; pool5
    is left to the head.

    Args:
        aligned: 3×3 pools with padding 1 and strides 2, 2, 2, 1 (DeepLab-v2: output cell i is
            centered on input pixel 8i). Otherwise 2×2 pools, and none before conv5 (AdaptSegNet).
        width: multiplies every channel count.
    """
    scaled = [entry if entry == "M" else max(1, round(entry * width)) for entry in vgg.cfgs["D"]]
    stages = {f"conv{number}": OrderedDict() for number in range(1, 6)}
    channels = {}
    number, index = 1, 1
    for module in vgg.make_layers(scaled):
        if isinstance(module, nn.MaxPool2d):
            number, index = number + 1, 1
            if number < 5:
                stages[f"conv{number}"][f"pool{number - 1}"] = _pool(2, aligned)
            elif number == 5 and aligned:
                stages["conv5"]["pool4"] = _pool(1, aligned)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
            if number == 5:
                module.dilation = module.padding = (2, 2)
            stages[f"conv{number}"][f"conv{number}_{index}"] = module
            channels[f"conv{number}"] = module.out_channels
        else:
            stages[f"conv{number}"][f"relu{number}_{index}"] = module
            index += 1
    return {name: nn.Sequential(modules) for name, modules in stages.items()}, channels


def pool5() -> nn.MaxPool2d:
    """DeepLab-v2's last pool: 3×3, stride 1."""
    return _pool(1, aligned=True)


def fc6_fc7_dilated(in_channels: int, channels: int = 1024) -> nn.Sequential:
    """AdaptSegNet's fc6 and fc7: 3×3, dilation 4, PyTorch's default initialization, no dropout."""
    return nn.Sequential(
        OrderedDict(
            fc6=nn.Conv2d(in_channels, channels, 3, padding=4, dilation=4),
            relu6=nn.ReLU(inplace=True),
            fc7=nn.Conv2d(channels, channels, 3, padding=4, dilation=4),
            relu7=nn.ReLU(inplace=True),
        )
    )
