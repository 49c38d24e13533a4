"""Thin networks of every architecture."""

import torch
from conftest import network

from seg_adapt.models.segmentor import Segmentor

PSPNETS = ("pspnet_resnet18", "pspnet_resnet50", "pspnet_resnet101")
ALIGNED = ("resnet18", "resnet50", "resnet101", *PSPNETS, "vgg16", "vgg16_largefov")
ARCHITECTURES = (*ALIGNED, "vgg16_fc7_d4")


def thin(architecture: str = "resnet18", **options) -> Segmentor:
    torch.manual_seed(0)
    return network(architecture, 5, width=1 / 16, **options)


def noise(height: int = 40, width: int = 56) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, height, width), generator=generator, dtype=torch.uint8)
