"""VGG-16's convolutions as named stages, its head, and torchvision's names; knows no engine."""

import torch
from torch import nn
from torchvision.models import vgg

STRIDES = {"conv1": 1, "conv2": 2, "conv3": 4, "conv4": 8, "conv5": 16}


def vgg16_stages(width: float = 1.0) -> tuple[dict[str, nn.Sequential], dict[str, int]]:
    """Stages conv1 … conv5, each ending at its last ReLU, and their channels.

    A pool (2×2, rounding down) opens the stage after it: `conv5` is conv5_3, at stride 16, and
    there is no pool5.

    Args:
        width: multiplies every channel count.
    """
    scaled = [entry if entry == "M" else max(1, round(entry * width)) for entry in vgg.cfgs["D"]]
    stages = {name: nn.Sequential() for name in STRIDES}
    channels: dict[str, int] = {}
    names = iter(STRIDES)
    name = next(names)
    for module in vgg.make_layers(scaled)[:-1]:
        if isinstance(module, nn.MaxPool2d):
            name = next(names)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
            channels[name] = module.out_channels
        stages[name].append(module)
    return stages, channels


def add_dropout(head: nn.Sequential, probability: float) -> None:
    """Puts dropout between the fully connected layers of a box head, whose ReLUs are `fc_relu1`, …;
    no parameter changes its name."""
    rectifiers = [name for name, _ in head.named_children() if name.startswith("fc_relu")]
    for name in rectifiers[:-1] if probability else ():
        setattr(head, name, nn.Sequential(head.get_submodule(name), nn.Dropout(probability)))


def renamed_vgg16(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's VGG-16 in the names of a Faster R-CNN: its convolutions as the backbone, its
    first two fully connected layers as the box head."""
    places = {}
    number = 0
    for stage, modules in vgg16_stages(1 / 64)[0].items():
        for index, module in enumerate(modules):
            if isinstance(module, nn.Conv2d):
                places[f"features.{number}"] = f"backbone.{stage}.{index}"
            number += 1
    places["classifier.0"] = "roi_heads.box_head.fc1"
    places["classifier.3"] = "roi_heads.box_head.fc2"
    renamed = {}
    for name, tensor in state.items():
        module, _, parameter = name.rpartition(".")
        if module in places:
            renamed[f"{places[module]}.{parameter}"] = tensor
    return renamed
