"""Architectures by name, from plain keyword arguments."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from seg_adapt.models.aspp import ASPP, ASPPL
from seg_adapt.models.dilated_frontend import frontend_stages
from seg_adapt.models.preprocessing import Preprocessing
from seg_adapt.models.psp import PyramidPooling, psp_classifier
from seg_adapt.models.resnet import resnet_stages
from seg_adapt.models.segmentor import AUXILIARY, Segmentor
from seg_adapt.models.vgg16 import fc6_fc7_dilated, pool5, vgg16_stages
from shared.errors import UserError
from shared.registry import Registry

# name: f(num_classes, width, layout, rates, aspp_bias, last_shortcut, frontend_padding)
# -> Segmentor arguments
ARCHITECTURES: Registry[Callable[..., dict[str, Any]]] = Registry("architecture")


def _resnet(
    depth: int,
    *,
    num_classes: int,
    width: float,
    layout: str,
    rates: Sequence[int],
    aspp_bias: bool,
    last_shortcut: bool,
    **_: Any,
) -> dict[str, Any]:
    stages, channels = resnet_stages(depth, width=width, layout=layout, last_shortcut=last_shortcut)
    stages["head"] = ASPP(channels["layer4"], num_classes, rates, aspp_bias)
    return {
        "stages": stages,
        "channels": channels | {"head": num_classes},
        "aligned": True,
        "feature_stage": "layer4",
        "head_stages": ("head",),
    }


def _pspnet(
    depth: int, *, num_classes: int, width: float, layout: str, last_shortcut: bool, **_: Any
) -> dict[str, Any]:
    """PSPNet (Zhao et al., 2017), which ROAD uses, on torchvision's stem of one 7×7."""
    stages, channels = resnet_stages(depth, width=width, layout=layout, last_shortcut=last_shortcut)
    stages["ppm"] = PyramidPooling(channels["layer4"])
    channels["ppm"] = stages["ppm"].out_channels
    stages["head"] = psp_classifier(channels["ppm"], max(1, round(512 * width)), num_classes)
    stages[AUXILIARY] = psp_classifier(channels["layer3"], max(1, round(256 * width)), num_classes)
    return {
        "stages": stages,
        "channels": channels | {"head": num_classes},
        "aligned": True,
        "feature_stage": "layer4",
        "head_stages": ("ppm", "head", AUXILIARY),
        "auxiliary_from": "layer3",
        "auxiliary_weight": 0.4,
    }


for _depth in (18, 50, 101):
    ARCHITECTURES.add(f"resnet{_depth}", partial(_resnet, _depth))
    ARCHITECTURES.add(f"pspnet_resnet{_depth}", partial(_pspnet, _depth))


def _vgg16(
    large_fov: bool,
    *,
    num_classes: int,
    width: float,
    rates: Sequence[int],
    aspp_bias: bool,
    **_: Any,
) -> dict[str, Any]:
    """DeepLab-v2's VGG-16 (Chen et al., 2017), which ROAD uses, with ASPP-L or LargeFOV.

    LargeFOV is one branch of rate 12, whatever `rates` says, after an average over 3×3.
    """
    stages, channels = vgg16_stages(aligned=True, width=width)
    hidden = max(1, round(1024 * width))
    head = OrderedDict(pool5=pool5())
    if large_fov:
        head["pool5a"], rates = nn.AvgPool2d(3, stride=1, padding=1), (12,)
    head["classifier"] = ASPPL(channels["conv5"], num_classes, rates, aspp_bias, hidden)
    stages["head"] = nn.Sequential(head)
    return {
        "stages": stages,
        "channels": channels | {"head": num_classes},
        "aligned": True,
        "feature_stage": "conv5",
        "head_stages": ("head",),
    }


ARCHITECTURES.add("vgg16", partial(_vgg16, False))
ARCHITECTURES.add("vgg16_largefov", partial(_vgg16, True))


@ARCHITECTURES.register("vgg16_fc7_d4")
def _vgg16_fc7_d4(
    *, num_classes: int, width: float, rates: Sequence[int], aspp_bias: bool, **_: Any
) -> dict[str, Any]:
    """AdaptSegNet's VGG-16 (Tsai et al., 2018), which DAST uses."""
    stages, channels = vgg16_stages(aligned=False, width=width)
    channels["fc"] = max(1, round(1024 * width))
    stages["fc"] = fc6_fc7_dilated(channels["conv5"], channels["fc"])
    stages["head"] = ASPP(channels["fc"], num_classes, rates, aspp_bias)
    return {
        "stages": stages,
        "channels": channels | {"head": num_classes},
        "aligned": False,
        "feature_stage": "conv5",
        "head_stages": ("fc", "head"),
    }


@ARCHITECTURES.register("vgg16_frontend")
def _vgg16_frontend(
    *, num_classes: int, width: float, frontend_padding: str, **_: Any
) -> dict[str, Any]:
    """Yu & Koltun's front-end (2016), which FCNs in the Wild uses."""
    stages, channels = frontend_stages(num_classes, width=width, padding=frontend_padding)
    return {
        "stages": stages,
        "channels": channels,
        "aligned": False,
        "feature_stage": "conv5",
        "head_stages": ("fc6", "fc7", "head"),
    }


def build_segmentor(
    *,
    architecture: str,
    num_classes: int,
    width: float = 1.0,
    layout: str = "torchvision",
    rates: Sequence[int] = (6, 12, 18, 24),
    aspp_bias: bool = True,
    bn: str = "train",
    bn_affine: bool = True,
    preprocessing: str = "torchvision",
    align_corners: bool = False,
    freeze_stages: Sequence[str] = (),
    last_shortcut: bool = False,
    frontend_padding: str = "padded",
) -> Segmentor:
    """A segmentor at output stride 8, from scratch.

    Args:
        architecture: a name in `ARCHITECTURES`.
        width: multiplies every channel count but the number of classes.
        layout: ResNets only, see `resnet_stages`.
        rates: ASPP dilations, one branch each.
        aspp_bias: whether the classifiers have a bias.
        preprocessing: "caffe" or "torchvision", see `Preprocessing`.
        last_shortcut: ResNets only; to read DAST's released checkpoints, see `resnet_stages`.
        frontend_padding: of `vgg16_frontend`, see `frontend_stages`.

    `bn`, `bn_affine`, `align_corners` and `freeze_stages` are those of `Segmentor`.
    """
    assemble = ARCHITECTURES.get(architecture)
    _check_sizes(num_classes, width)
    parts = assemble(
        num_classes=num_classes,
        width=width,
        layout=layout,
        rates=tuple(rates),
        aspp_bias=aspp_bias,
        last_shortcut=last_shortcut,
        frontend_padding=frontend_padding,
    )
    return Segmentor(
        **parts,
        preprocessing=Preprocessing(preprocessing),
        num_classes=num_classes,
        output_stride=8,
        align_corners=align_corners,
        bn=bn,
        bn_affine=bn_affine,
        freeze_stages=freeze_stages,
        architecture=architecture,
    )


def build_classifier(
    *,
    architecture: str,
    num_classes: int,
    width: float = 1.0,
    layout: str = "torchvision",
    preprocessing: str = "torchvision",
) -> Segmentor:
    """The undilated backbone of `architecture` under global pooling: logits (N, K, 1, 1).

    For pre-training: its backbone has the segmentor's state-dict keys, so `load_weights` reads it.
    """
    ARCHITECTURES.get(architecture)
    _check_sizes(num_classes, width)
    if "resnet" in architecture:
        depth = int(architecture.rpartition("resnet")[2])
        stages, channels = resnet_stages(depth, width=width, layout=layout, dilated=False)
        feature_stage, stride, aligned = "layer4", 32, True
    else:
        aligned = architecture in ("vgg16", "vgg16_largefov")
        stages, channels = vgg16_stages(aligned=aligned, width=width, dilated=False)
        feature_stage, stride = "conv5", 16
    stages["head"] = nn.Sequential(
        OrderedDict(
            pool=nn.AdaptiveAvgPool2d(1), fc=nn.Conv2d(channels[feature_stage], num_classes, 1)
        )
    )
    return Segmentor(
        stages,
        preprocessing=Preprocessing(preprocessing),
        num_classes=num_classes,
        channels=channels | {"head": num_classes},
        output_stride=stride,
        aligned=aligned,
        align_corners=False,
        feature_stage=feature_stage,
        head_stages=("head",),
        architecture=architecture,
    )


def _check_sizes(num_classes: int, width: float) -> None:
    if num_classes < 1:
        raise UserError(f"num_classes must be at least 1, got {num_classes}")
    if width <= 0:
        raise UserError(f"width must be positive, got {width}")
