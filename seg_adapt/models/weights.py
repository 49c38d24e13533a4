"""Pretrained weights into a segmentor, with an account of what went where."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from seg_adapt.models.layouts import (
    CLASSIFIER,
    FULLY_CONNECTED,
    HEAD_BRANCH,
    UNTRAINED,
    Published,
    translate,
)
from seg_adapt.models.resnet import stride_layout
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.weight_files import MADE_FOR_TORCHVISION, read_weights, torchvision_weights
from shared.errors import UserError

_COUNTER = "num_batches_tracked"
_SHORTCUT = re.compile(r"stages\.layer4\.[12]\.downsample\.")


@dataclass
class LoadReport:
    """What became of every tensor, by name.

    Args:
        layout: whose layout the file had.
        matched: ours, filled.
        missing: ours, left as they were.
        unexpected: the file's, for which we have no place and no explanation.
        ignored: the file's, left out on purpose: (name, reason).
        notes: what the names give reason to suspect.
    """

    layout: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing)
        parts = [f"{len(self.matched)} of {total} tensors loaded (layout: {self.layout})"]
        if self.missing:
            parts.append(f"missing (new layers): {_summary(self.missing)}")
        reasons = dict.fromkeys(reason for _, reason in self.ignored)
        if reasons:
            texts = (
                f"{_summary([name for name, why in self.ignored if why == reason])} ({reason})"
                for reason in reasons
            )
            parts.append("ignored: " + ", ".join(texts))
        if self.unexpected:
            parts.append(f"unexpected: {_summary(self.unexpected)}")
        return "; ".join(parts + self.notes)


def _summary(names: list[str]) -> str:
    """`head.branches.*` for what begins so, per stage or other first component."""
    groups: dict[str, list[str]] = {}
    for name in names:
        name = name.removeprefix("stages.")
        groups.setdefault(name.partition(".")[0], []).append(name)
    return ", ".join(
        group[0] if len(group) == 1 else os.path.commonprefix(group).rpartition(".")[0] + ".*"
        for group in groups.values()
    )


def initialise(segmentor: Segmentor, weights: str) -> LoadReport | None:
    """`MODEL.WEIGHTS`: '' trains from scratch, 'torchvision' downloads, all else is a file."""
    if not weights:
        return None
    if weights == "torchvision":
        published = translate(torchvision_weights(segmentor.architecture))
        published.made_for = MADE_FOR_TORCHVISION
        return fill(segmentor, published, "torchvision")
    return load_weights(segmentor, weights)


def load_weights(
    segmentor: Segmentor, path: str | Path, *, require_backbone: bool = True
) -> LoadReport:
    """Fills `segmentor` from a file of ours or in a published layout.

    A head of another shape is skipped and reported.

    Args:
        require_backbone: raise UserError unless the file fills the whole backbone.
    """
    return fill(segmentor, read_weights(path), str(path), require_backbone=require_backbone)


def conventions(segmentor: Segmentor) -> dict[str, str]:
    """What the weights of this segmentor rely on and no tensor's shape shows."""
    layout = stride_layout(segmentor.stages)
    return {"preprocessing": segmentor.preprocessing.kind} | ({"layout": layout} if layout else {})


def fill(
    segmentor: Segmentor, published: Published, origin: str, *, require_backbone: bool = True
) -> LoadReport:
    """`load_weights` of what was read before; `origin` is its name in messages."""
    built = conventions(segmentor)
    for key, expected in published.made_for.items():
        if built.get(key, expected) != expected:
            raise UserError(
                f"the weights of '{origin}' were made for {key} '{expected}' and the model is "
                f"built with '{built[key]}': set MODEL.{key.upper()} {expected}"
            )
    own = segmentor.state_dict()
    report = LoadReport(published.layout, ignored=list(published.ignored.items()))
    accepted, misshapen = {}, {}
    for name, tensor in published.tensors.items():
        branch = HEAD_BRANCH.match(name)
        if name in own and tensor.dim() == 2 and tensor.numel() == own[name].numel():
            # A fully connected layer, as a convolution over the map that it was trained on.
            tensor = tensor.view_as(own[name])
        if name in own and own[name].shape == tensor.shape:
            accepted[name] = tensor
        elif name in own:
            misshapen[name] = f"shape {tuple(tensor.shape)}, here {tuple(own[name].shape)}"
        elif branch and published.two_branches and int(branch[1]) >= 2:
            report.ignored.append((name, UNTRAINED))
        elif FULLY_CONNECTED.match(name):
            report.ignored.append((name, CLASSIFIER))
        else:
            report.unexpected.append(name)
    heads = tuple(f"stages.{stage}." for stage in segmentor.head_stages)
    if require_backbone:
        _check_backbone(own, accepted, misshapen, report.unexpected, heads, origin)
    report.ignored += misshapen.items()
    segmentor.load_state_dict(accepted, strict=False)
    counted = [n for n in own if n.startswith("stages.") and not n.endswith(_COUNTER)]
    report.matched = [name for name in counted if name in accepted]
    report.missing = [name for name in counted if name not in accepted]
    if published.two_branches and "stages.head.branches.2.weight" in accepted:
        report.notes.append(
            "AdaptSegNet's and DAST's own code never trained the third and fourth branch: "
            "MODEL.ASPP.RATES [6, 12] leaves them out"
        )
    return report


def _check_backbone(
    own: dict[str, Tensor],
    accepted: dict[str, Tensor],
    misshapen: dict[str, str],
    unexpected: list[str],
    heads: tuple[str, ...],
    origin: str,
) -> None:
    def backbone(names: Iterable[str]) -> list[str]:
        return [
            name
            for name in names
            if name.startswith("stages.") and not name.startswith(heads) and not _optional(name)
        ]

    if wrong := backbone(misshapen):
        raise UserError(
            f"'{origin}' does not fit: {wrong[0]} has {misshapen[wrong[0]]} ({len(wrong)} such "
            "tensors): it is of another MODEL.ARCHITECTURE or MODEL.WIDTH"
        )
    wanted = backbone(own)
    missing = [name for name in wanted if name not in accepted]
    if len(missing) == len(wanted):
        raise UserError(f"'{origin}' fills nothing of the backbone: is it of another architecture?")
    if missing:
        raise UserError(
            f"'{origin}' fills {len(wanted) - len(missing)} of {len(wanted)} backbone tensors, "
            f"not {missing[0]}: is it of another architecture?"
        )
    if any(_SHORTCUT.match(name) for name in unexpected):
        raise UserError(
            f"'{origin}' has a projection shortcut in layer4's last block, as DAST's released "
            "models have: build the model with last_shortcut"
        )
    # Whole blocks, that is: a file may hold a bias where we have none (Caffe's ResNet-50 conv1).
    if left := [name for name in backbone(unexpected) if name.endswith(".conv1.weight")]:
        raise UserError(
            f"'{origin}' holds {len(left)} blocks that this backbone has no place for, such as "
            f"{left[0]}: is it of another architecture?"
        )


def _optional(name: str) -> bool:
    """Counters, which old files lack, and the shortcut that only DAST's released models have."""
    return name.endswith(_COUNTER) or bool(_SHORTCUT.match(name))
