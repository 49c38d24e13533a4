"""`MODEL.WEIGHTS` into a detector, with an account of what went where."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision import models

from det_adapt.engines.torchvision.names import from_detectron2, from_imagenet
from shared.checkpoint import load
from shared.errors import UserError

_NESTED = ("detector", "model", "state_dict")
_COUNTER = "num_batches_tracked"


@dataclass
class LoadReport:
    """What became of every tensor, by this engine's names.

    Args:
        matched: ours, filled.
        missing: ours, left as they were.
        misshapen: ours, left as they were: the file's have another shape, as those of other
            classes do.
        unexpected: the file's, for which there is no place.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.misshapen)
        parts = [f"{len(self.matched)} of {total} tensors loaded"]
        kinds = {
            "missing (new layers)": self.missing,
            "of another shape": self.misshapen,
            "unexpected": self.unexpected,
        }
        parts += [f"{kind}: {_summary(names)}" for kind, names in kinds.items() if names]
        return "; ".join(parts)


def initialise(detector: nn.Module, cfg: CfgNode) -> LoadReport | None:
    """Fills `detector` as `MODEL.WEIGHTS` says: '' trains from scratch, 'torchvision' downloads
    ImageNet's, all else is a file of either engine's, or torchvision's own."""
    if not cfg.MODEL.WEIGHTS:
        return None
    return fill(detector, stored_weights(cfg), cfg.MODEL.WEIGHTS)


def stored_weights(cfg: CfgNode) -> dict[str, Tensor]:
    """What MODEL.WEIGHTS names, under either engine's names."""
    weights = cfg.MODEL.WEIGHTS
    state = download(imagenet_name(cfg)) if weights == "torchvision" else _read(weights)
    if "layer1.0.conv1.weight" in state or "features.0.weight" in state:
        _check_conventions(cfg)
        state = from_imagenet(state)
    return state


def fill(
    detector: nn.Module,
    state: Mapping[str, Tensor],
    origin: str,
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = from_detectron2,
) -> LoadReport:
    """Copies the tensors of `state`, under either engine's names, that have a place.

    Args:
        origin: names the file in messages.
        rename: gives them the names of the detector's engine.

    Raises:
        UserError: the backbone is not filled whole.
    """
    state = rename(state)
    own = detector.state_dict()
    unexpected = [name for name in state if name not in own and not name.endswith(_COUNTER)]
    report = LoadReport(unexpected=unexpected)
    accepted = {}
    for name, tensor in own.items():
        if name not in state:
            if not name.endswith(_COUNTER):
                report.missing.append(name)
        elif state[name].shape != tensor.shape:
            report.misshapen.append(name)
        else:
            accepted[name] = state[name]
            report.matched.append(name)
    for name in report.misshapen + report.missing:
        if name.startswith("backbone."):
            found = f"shape {tuple(state[name].shape)}" if name in state else "nothing"
            raise UserError(
                f"'{origin}' does not fit MODEL.BACKBONE: {name} needs {tuple(own[name].shape)}, "
                f"the file has {found}; it is of another backbone, depth or width"
            )
    detector.load_state_dict(accepted, strict=False)
    return report


def imagenet_name(cfg: CfgNode) -> str:
    """torchvision's name of the classifier that `MODEL.BACKBONE` was taken from."""
    if cfg.MODEL.BACKBONE.NAME == "build_vgg16_backbone":
        return "vgg16"
    return f"resnet{cfg.MODEL.RESNETS.DEPTH}"


def download(name: str) -> dict[str, Tensor]:
    """The ImageNet state dict of torchvision's classifier `name`, downloaded once."""
    weights = models.get_model_weights(name).IMAGENET1K_V1
    try:
        return weights.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError, HTTPException) as error:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot get {file.name} ({reason}): fetch {weights.url} yourself and put it at "
            f"{file}, or set MODEL.WEIGHTS to where you put it"
        ) from error


def _check_conventions(cfg: CfgNode) -> None:
    wrong = {}
    if cfg.INPUT.FORMAT != "RGB":
        wrong["INPUT.FORMAT"] = (cfg.INPUT.FORMAT, "RGB")
    resnet = cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone"
    if resnet and cfg.MODEL.RESNETS.DEPTH >= 50 and cfg.MODEL.RESNETS.STRIDE_IN_1X1:
        wrong["MODEL.RESNETS.STRIDE_IN_1X1"] = (True, False)
    for key, (value, expected) in wrong.items():
        raise UserError(f"{key} is {value}, and torchvision's weights were made for {expected}")


def _read(path: str) -> dict[str, Tensor]:
    state = _tensors(load(path))
    if not state:
        raise UserError(
            f"'{path}' holds no tensors by name, at its top or under {', '.join(_NESTED)}: "
            "expected a checkpoint of a detector, or torchvision's ImageNet weights"
        )
    return state


def _tensors(stored: Any) -> dict[str, Tensor]:
    if not isinstance(stored, dict):
        return {}
    for key in _NESTED:
        if isinstance(stored.get(key), dict):
            return _tensors(stored[key])
    return {name: value for name, value in stored.items() if isinstance(value, Tensor)}


def _summary(names: list[str]) -> str:
    """`roi_heads.box_head.*` for names that begin so, grouped by their first two components."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return ", ".join(
        group[0] if len(group) == 1 else os.path.commonprefix(group).rpartition(".")[0] + ".*"
        for group in groups.values()
    )
