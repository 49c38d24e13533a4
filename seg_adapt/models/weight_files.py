"""Files of pretrained weights: reading ours and others', downloading torchvision's."""

import pickle
import re
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor
from torchvision.models import (
    ResNet18_Weights,
    ResNet50_Weights,
    ResNet101_Weights,
    VGG16_Weights,
)

from seg_adapt.models.layouts import Published, translate
from shared.errors import MissingFileError, UserError

_TORCHVISION = {
    "resnet18": ResNet18_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
    "vgg16": VGG16_Weights.IMAGENET1K_V1,
}
MADE_FOR_TORCHVISION = {"preprocessing": "torchvision", "layout": "torchvision"}
# Files whose names alone tell conventions that their keys do not.
_MADE_FOR = (
    (r"resnet101-caffe.*", {"preprocessing": "caffe", "layout": "caffe"}),
    (r"vgg16-00b39a1b.*", {"preprocessing": "caffe"}),
    (r"(resnet(18|50|101)|vgg16)-[0-9a-f]{8}\.pth", MADE_FOR_TORCHVISION),
)
_NESTED = ("segmentor", "method", "weights", "state_dict", "model")


def read_weights(path: str | Path) -> Published:
    """A weights file in our names."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"no weights file '{path}' (looked for {path.absolute()}): set MODEL.WEIGHTS to a file "
            "that exists, to 'torchvision' to download ImageNet weights, or to '' to train from "
            "scratch"
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{path}' is damaged or holds more than tensors, which could run code when it is "
            "loaded: fetch it again, or save its state_dict() alone where you trust it"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read '{path}' as weights: {_first_line(error)}") from error
    state, made_for = _state_dict(stored)
    if not state:
        raise UserError(
            f"'{path}' holds no tensors by name, at its top or under {', '.join(_NESTED)}: "
            "expected a state dict"
        )
    try:
        published = translate(state)
    except UserError as error:
        raise UserError(f"'{path}': {error}") from error
    published.made_for |= made_for or next(
        (known for pattern, known in _MADE_FOR if re.fullmatch(pattern, path.name)), {}
    )
    return published


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _state_dict(stored: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by name, through any nesting, and the conventions that our own files note."""
    if not isinstance(stored, dict):
        return {}, {}
    for key in _NESTED:
        if isinstance(stored.get(key), dict):
            return _state_dict(stored[key])[0], stored.get("made_for", {})
    return {n: t for n, t in stored.items() if isinstance(n, str) and isinstance(t, Tensor)}, {}


def torchvision_weights(architecture: str) -> dict[str, Tensor]:
    """torchvision's ImageNet state dict for the backbone of `architecture`, downloaded once."""
    backbone = next((part for part in architecture.split("_") if part in _TORCHVISION), None)
    if backbone is None:
        raise UserError(
            f"torchvision has no weights for '{architecture}': available for "
            f"{', '.join(_TORCHVISION)}; or set MODEL.WEIGHTS to a file"
        )
    weights = _TORCHVISION[backbone]
    try:
        return weights.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError, HTTPException) as error:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
        raise UserError(
            f"cannot get {file.name} ({_first_line(error)}): fetch {weights.url} yourself and "
            f"put it at {file}, or set MODEL.WEIGHTS to where you put it"
        ) from error
