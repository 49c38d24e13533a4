"""Weights into a network, with an account of what went where.

What `MODEL.WEIGHTS` may be:

    torchvision     ImageNet weights of the backbone, downloaded once
    timm            timm's own weights of a network of timm, downloaded once
    pip:NAME        of one: the file that an installed package holds, see `timm_networks.py`
    FILE            a state dict: of a run, torchvision, Detectron2 or a published repository
    ''              none: trained from scratch
    RUN             detection: the folder of the source-only run that an adaptation starts from
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torchvision import models

from shared import checkpoint
from shared.errors import MissingFileError, UserError

# Where files keep their tensors: runs and converted weights of this toolbox, then other code's.
_NESTED = ("segmentor", "method", "detector", "weights", "state_dict", "model")
_MODEL_ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
COUNTER = "num_batches_tracked"  # of BatchNorm; old files lack it


@dataclass
class LoadReport:
    """What became of every tensor, by name.

    Args:
        layout: whose layout the file had, where that is known.
        matched: the network's, filled.
        missing: the network's, left as they were.
        misshapen: the network's, left as they were because the file's have another shape: name to
            both shapes.
        unexpected: the file's, for which the network has no place.
        ignored: the file's, left out on purpose: name to reason.
        notes: further sentences for the user.
    """

    layout: str = ""
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    misshapen: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.misshapen)
        layout = f" (layout: {self.layout})" if self.layout else ""
        parts = [f"{len(self.matched)} of {total} tensors loaded{layout}"]
        if self.missing:
            parts.append(f"missing (new layers): {_summary(self.missing)}")
        if self.misshapen:
            example = next(iter(self.misshapen.values()))
            parts.append(f"of another shape: {_summary(self.misshapen)} (the first: {example})")
        if self.ignored:
            by_reason: dict[str, list[str]] = {}
            for name, reason in self.ignored.items():
                by_reason.setdefault(reason, []).append(name)
            texts = (f"{_summary(names)} ({reason})" for reason, names in by_reason.items())
            parts.append("ignored: " + ", ".join(texts))
        if self.unexpected:
            parts.append(f"unexpected: {_summary(self.unexpected)}")
        return "; ".join(parts + self.notes)


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    check: Callable[[LoadReport], None],
    *,
    report: LoadReport | None = None,
    uncounted: tuple[str, ...] = (),
) -> LoadReport:
    """Copies the `tensors`, under the network's names, that it has a place for.

    Args:
        check: raises where too little fits; called before anything is copied.
        report: what is known of the file already; completed here.
        uncounted: beginnings of names that are filled, but not reported.
    """
    report = report or LoadReport()
    own = network.state_dict()
    report.unexpected += [n for n in tensors if n not in own and not n.endswith(COUNTER)]
    accepted = {}
    for name, tensor in own.items():
        fits = name in tensors and tensors[name].shape == tensor.shape
        if fits:
            accepted[name] = tensors[name]
        if name.endswith(COUNTER) or name.startswith(uncounted):
            continue
        if fits:
            report.matched.append(name)
        elif name in tensors:
            shapes = tuple(tensors[name].shape), tuple(tensor.shape)
            report.misshapen[name] = "{}, here {}".format(*shapes)
        else:
            report.missing.append(name)
    check(report)
    network.load_state_dict(accepted, strict=False)
    return report


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by name, through any nesting, and the file's whole content."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"no weights file '{path}' (looked for {path.absolute()}): set MODEL.WEIGHTS to a file "
            "that exists, to 'torchvision' to download ImageNet weights, or to '' to train from "
            "scratch"
        )
    stored = checkpoint.load(path)
    tensors = _tensors(stored)
    name = checkpoint.not_finite(tensors)
    if name is not None:
        raise UserError(f"'{path}' holds numbers that are not finite ({name}): train again")
    if not tensors:
        raise UserError(
            f"'{path}' holds no tensors by name, at its top or under {', '.join(_NESTED)}: "
            "expected a state dict"
        )
    return tensors, stored


def download(name: str) -> dict[str, Tensor]:
    """The ImageNet state dict of torchvision's classifier `name`, downloaded once."""
    weights = models.get_model_weights(name).IMAGENET1K_V1
    try:
        return weights.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError, HTTPException) as error:
        raise _not_fetched(weights.url, error) from error


def fetch(address: str) -> Path:
    """The file at an address, downloaded once, to where torch keeps its own.

    Args:
        address: `detectron2://` is Detectron2's model zoo.
    """
    url = address.replace("detectron2://", _MODEL_ZOO, 1)
    file = _place(url)
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), progress=False)
        except (OSError, RuntimeError, ValueError, HTTPException) as error:
            raise _not_fetched(url, error) from error
    return file


def _place(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _not_fetched(url: str, error: Exception) -> UserError:
    file = _place(url)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(
        f"cannot get {file.name} ({reason}): fetch {url} yourself and put it at {file}, or set "
        "MODEL.WEIGHTS to where you put it"
    )


def _tensors(stored: Any) -> dict[str, Tensor]:
    if not isinstance(stored, dict):
        return {}
    for key in _NESTED:
        if isinstance(stored.get(key), dict):
            return _tensors(stored[key])
    return {n: t for n, t in stored.items() if isinstance(n, str) and isinstance(t, Tensor)}


def _summary(names: Iterable[str]) -> str:
    """`head.branches.*` for names that begin so, grouped by their first two modules."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(".".join(name.split(".")[:-1][:2]) or name, []).append(name)
    return ", ".join(
        group[0] if len(group) == 1 else os.path.commonprefix(group).rpartition(".")[0] + ".*"
        for group in groups.values()
    )
