"""Files in the published layouts: tensors of full size that share one stored value."""

from pathlib import Path

import torch
import torchvision
from conftest import network

from seg_adapt.models.preprocessing import Preprocessing
from seg_adapt.models.segmentor import Segmentor

ARCHITECTURE = {"resnet101": torchvision.models.resnet101, "vgg16": torchvision.models.vgg16}


def unfilled(architecture: str = "resnet101", **options) -> Segmentor:
    """A full-size segmentor whose parameters are NaN until a file fills them."""
    with torch.device("meta"):
        segmentor = network(architecture, **{"num_classes": 19} | options)
    segmentor.to_empty(device="cpu")
    for parameter in segmentor.parameters():
        parameter.data.fill_(torch.nan)
    segmentor.preprocessing = Preprocessing(options.get("preprocessing", "torchvision"))
    return segmentor


def shapes(architecture: str) -> dict[str, torch.Size]:
    """torchvision's names and shapes, without the counters that files of that time lack."""
    with torch.device("meta"):
        state = ARCHITECTURE[architecture]().state_dict()
    return {n: t.shape for n, t in state.items() if not n.endswith("num_batches_tracked")}


def aspp(prefix: str, channels: int, classes: int = 19) -> dict[str, tuple[int, ...]]:
    names = {}
    for branch in range(4):
        names[f"{prefix}.conv2d_list.{branch}.weight"] = (classes, channels, 3, 3)
        names[f"{prefix}.conv2d_list.{branch}.bias"] = (classes,)
    return names


def resnet_trunk() -> dict[str, tuple[int, ...]]:
    return {n: s for n, s in shapes("resnet101").items() if not n.startswith("fc.")}


def fabricate(names: dict) -> dict[str, torch.Tensor]:
    return {n: torch.tensor(float(i)).expand(s) for i, (n, s) in enumerate(names.items(), 1)}


def write(path: Path, names: dict, nest: str | None = None) -> dict[str, torch.Tensor]:
    state = fabricate(names)
    torch.save({nest: state} if nest else state, path)
    return state


VGG_CONVS = [f"conv{s}_{i}" for s, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]


def torchvision_convs() -> list[str]:
    return [n.removesuffix(".weight") for n in shapes("vgg16") if n.startswith("f") and "we" in n]


def trained_vgg(split: bool) -> tuple[dict, list[str], tuple[str, str]]:
    """AdaptSegNet's VGG: torchvision's features without pools 4 and 5, then fc6 and fc7."""
    kept = [f"features.{index}" for index in [*range(23), *range(24, 30)]]
    if split:
        renamed = [f"layer1.{i}" for i in range(16)] + [f"layer2.{i}" for i in range(5)]
        renamed += [f"layer3.{i}" for i in range(len(kept) - 21)]
        fc = ("layer4.0", "layer4.2")
    else:
        renamed = [f"features.{index}" for index in range(len(kept))]
        fc = ("features.29", "features.31")
    convs = [renamed[kept.index(name)] for name in torchvision_convs()]
    names = {}
    for new, old in zip(convs, torchvision_convs(), strict=True):
        for kind in ("weight", "bias"):
            names[f"{new}.{kind}"] = shapes("vgg16")[f"{old}.{kind}"]
    for name, channels in zip(fc, (512, 1024), strict=True):
        names |= {f"{name}.weight": (1024, channels, 3, 3), f"{name}.bias": (1024,)}
    return names | aspp("classifier", 1024), convs, fc
