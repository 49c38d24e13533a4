"""Architectures by name, from the options of the node `MODEL`."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from seg_adapt.models.aspp import ASPP, ASPPL
from seg_adapt.models.dilated_frontend import frontend_stages
from seg_adapt.models.parts import AUXILIARY, Parts
from seg_adapt.models.preprocessing import Preprocessing
from seg_adapt.models.psp import PyramidPooling, psp_classifier
from seg_adapt.models.resnet import resnet_blocks, resnet_stages, resnet_strides
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.timm_backbone import timm_parts
from seg_adapt.models.vgg16 import fc6_fc7_dilated, pool5, vgg16_stages
from seg_adapt.options import ModelOptions
from shared.errors import UserError
from shared.registry import Registry
from shared.timm_networks import PREFIX

# name: the parts for the options and a number of classes
ARCHITECTURES: Registry[Callable[[ModelOptions, int], Parts]] = Registry("architecture")


def _resnet(depth: int, options: ModelOptions, num_classes: int) -> Parts:
    stages, channels, trunk = _resnet_trunk(depth, options)
    stages["head"] = ASPP(channels["layer4"], num_classes, options.aspp.rates, options.aspp.bias)
    return Parts(stages, channels | {"head": num_classes}, **trunk)


def _resnet_trunk(
    depth: int, options: ModelOptions
) -> tuple[dict[str, nn.Module], dict[str, int], dict[str, Any]]:
    """Stages, their channels, and what `Parts` says of them."""
    output_stride = options.output_stride or 8
    if output_stride not in (8, 16, 32):
        raise UserError(f"MODEL.OUTPUT_STRIDE is {output_stride}, a ResNet can have 8, 16 or 32")
    stages, channels = resnet_stages(
        depth,
        width=options.width,
        layout=options.layout,
        output_stride=output_stride,
        last_shortcut=options.last_shortcut,
    )
    trunk = {
        "feature_stage": "layer4",
        "blocks": resnet_blocks(stages),
        "output_stride": output_stride,
        "strides": resnet_strides(output_stride),
    }
    return stages, channels, trunk


def _pspnet(depth: int, options: ModelOptions, num_classes: int) -> Parts:
    """PSPNet (Zhao et al., 2017), which ROAD uses, on torchvision's stem of one 7×7."""
    stages, channels, trunk = _resnet_trunk(depth, options)
    hidden, hidden_auxiliary = (max(1, round(c * options.width)) for c in (512, 256))
    stages["ppm"] = PyramidPooling(channels["layer4"])
    channels["ppm"] = stages["ppm"].out_channels
    stages["head"] = psp_classifier(channels["ppm"], hidden, num_classes)
    stages[AUXILIARY] = psp_classifier(channels["layer3"], hidden_auxiliary, num_classes)
    return Parts(
        stages,
        channels | {"head": num_classes},
        head_stages=("ppm", "head", AUXILIARY),
        auxiliary_from="layer3",
        auxiliary_weight=0.4,
        **trunk,
    )


for _depth in (18, 50, 101):
    ARCHITECTURES.add(f"resnet{_depth}", partial(_resnet, _depth))
    ARCHITECTURES.add(f"pspnet_resnet{_depth}", partial(_pspnet, _depth))


def _vgg16(large_fov: bool, options: ModelOptions, num_classes: int) -> Parts:
    """DeepLab-v2's VGG-16 (Chen et al., 2017), which ROAD uses, with ASPP-L or LargeFOV.

    LargeFOV is one branch of rate 12, whatever MODEL.ASPP.RATES says, after an average over 3×3.
    """
    stages, channels = vgg16_stages(aligned=True, width=options.width)
    hidden, rates = max(1, round(1024 * options.width)), options.aspp.rates
    head = OrderedDict(pool5=pool5())
    if large_fov:
        head["pool5a"], rates = nn.AvgPool2d(3, stride=1, padding=1), (12,)
    head["classifier"] = ASPPL(channels["conv5"], num_classes, rates, options.aspp.bias, hidden)
    stages["head"] = nn.Sequential(head)
    return Parts(stages, channels | {"head": num_classes}, feature_stage="conv5")


ARCHITECTURES.add("vgg16", partial(_vgg16, False))
ARCHITECTURES.add("vgg16_largefov", partial(_vgg16, True))


@ARCHITECTURES.register("vgg16_fc7_d4")
def _vgg16_fc7_d4(options: ModelOptions, num_classes: int) -> Parts:
    """AdaptSegNet's VGG-16 (Tsai et al., 2018), which DAST uses."""
    stages, channels = vgg16_stages(aligned=False, width=options.width)
    channels["fc"] = max(1, round(1024 * options.width))
    stages["fc"] = fc6_fc7_dilated(channels["conv5"], channels["fc"])
    stages["head"] = ASPP(channels["fc"], num_classes, options.aspp.rates, options.aspp.bias)
    return Parts(
        stages,
        channels | {"head": num_classes},
        feature_stage="conv5",
        head_stages=("fc", "head"),
        aligned=False,
    )


@ARCHITECTURES.register("vgg16_frontend")
def _vgg16_frontend(options: ModelOptions, num_classes: int) -> Parts:
    """Yu & Koltun's front-end (2016), which FCNs in the Wild uses."""
    stages, channels = frontend_stages(
        num_classes, width=options.width, padding=options.frontend.padding
    )
    return Parts(
        stages,
        channels,
        feature_stage="conv5",
        head_stages=("fc6", "fc7", "head"),
        aligned=False,
    )


def build_segmentor(options: ModelOptions, num_classes: int) -> Segmentor:
    """A segmentor from scratch: `options.weights` is not read."""
    if num_classes < 1:
        raise UserError(f"num_classes must be at least 1, got {num_classes}")
    name = options.architecture
    build = timm_parts if name.startswith(PREFIX) else ARCHITECTURES.get(name)
    parts = build(options, num_classes)
    segmentor = Segmentor(
        parts,
        num_classes,
        Preprocessing(parts.preprocessing or options.preprocessing),
        architecture=name,
        align_corners=options.align_corners,
        bn=options.bn,
    )
    stride = segmentor.stride_at(segmentor.feature_stage)
    if options.output_stride not in (0, stride):
        raise UserError(
            f"MODEL.OUTPUT_STRIDE is {options.output_stride}, but that of {name} is {stride} and "
            "cannot be changed so: leave it at 0"
        )
    segmentor.freeze(options.freeze_stages, bn_affine=options.bn_affine)
    return segmentor
