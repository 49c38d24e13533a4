"""Pretrained weights into a segmentor: files of ours, published ones, torchvision's."""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from torch import Tensor

from seg_adapt.models.layouts import (
    BEYOND,
    CLASSIFIER,
    FULLY_CONNECTED,
    HEAD_BRANCH,
    UNTRAINED,
    Published,
    translate,
)
from seg_adapt.models.preprocessing import CUSTOM
from seg_adapt.models.resnet import stride_layout
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.timm_backbone import timm_name_of
from shared.errors import UserError
from shared.timm_networks import PREFIX, packaged_weights, timm_weights
from shared.weights import COUNTER, LoadReport, download, fill, read_state_dict

_PACKAGE = "pip:"
_CLASSIFIERS = ("resnet18", "resnet50", "resnet101", "vgg16")
_MADE_FOR_TORCHVISION = {"preprocessing": "torchvision", "layout": "torchvision"}
# Files whose names alone tell conventions that their keys do not.
_MADE_FOR = (
    (r"resnet101-caffe.*", {"preprocessing": "caffe", "layout": "caffe"}),
    (r"vgg16-00b39a1b.*", {"preprocessing": "caffe"}),
    (r"(resnet(18|50|101)|vgg16)-[0-9a-f]{8}\.pth", _MADE_FOR_TORCHVISION),
)
_SHORTCUT = re.compile(r"stages\.layer4\.[12]\.downsample\.")


def load_pretrained(segmentor: Segmentor, weights: str) -> LoadReport | None:
    """`MODEL.WEIGHTS`, as `shared.weights` lists it; '' trains from scratch and has no report."""
    if not weights:
        return None
    if weights == "timm":
        _check_timm(segmentor, weights)
        return _fill_from_timm(segmentor, timm_weights(segmentor.architecture), weights)
    if weights.startswith(_PACKAGE):
        _check_timm(segmentor, weights)
        state = packaged_weights(weights.removeprefix(_PACKAGE))
        return _fill_from_timm(segmentor, state, weights)
    if weights == "torchvision":
        published = translate(torchvision_weights(segmentor.architecture))
        published.made_for = _MADE_FOR_TORCHVISION
        return fill_segmentor(segmentor, published, "torchvision")
    return load_weights(segmentor, weights)


def load_weights(
    segmentor: Segmentor, path: str | Path, *, require_backbone: bool = True
) -> LoadReport:
    """Fills `segmentor` from a file of ours or in a published layout.

    A head of another shape is skipped and reported.

    Args:
        require_backbone: raise UserError unless the file fills the whole backbone.
    """
    if _is_timm(segmentor) and not _is_ours(path):
        state = timm_weights(segmentor.architecture, Path(path))
        return _fill_from_timm(segmentor, state, str(path), require_backbone=require_backbone)
    published = read_published(path)
    return fill_segmentor(segmentor, published, str(path), require_backbone=require_backbone)


def _is_timm(segmentor: Segmentor) -> bool:
    return segmentor.architecture.startswith(PREFIX)


def _check_timm(segmentor: Segmentor, weights: str) -> None:
    if not _is_timm(segmentor):
        raise UserError(
            f"MODEL.WEIGHTS {weights} is for a network of timm, and MODEL.ARCHITECTURE is "
            f"{segmentor.architecture}: choose one that begins with '{PREFIX}'"
        )


def _is_ours(path: str | Path) -> bool:
    """Whether this toolbox wrote the file."""
    if Path(path).suffix == ".safetensors":
        return False
    names, _ = read_state_dict(path)
    return any(name.removeprefix("segmentor.").startswith("stages.") for name in names)


def _fill_from_timm(
    segmentor: Segmentor, state: dict[str, Tensor], origin: str, **options: bool
) -> LoadReport:
    """`fill_segmentor` with tensors that have timm's names."""
    own = {
        timm_name_of(name): name
        for name in segmentor.state_dict()
        if name.startswith("stages.") and name.split(".")[1] not in segmentor.head_stages
    }
    tensors = {own[name]: tensor for name, tensor in state.items() if name in own}
    ignored = {name: BEYOND for name in state if name not in own and not name.endswith(COUNTER)}
    return fill_segmentor(segmentor, Published("timm", tensors, ignored), origin, **options)


def read_published(path: str | Path) -> Published:
    """A weights file in our names."""
    state, stored = read_state_dict(path)
    try:
        published = translate(state)
    except UserError as error:
        raise UserError(f"'{path}': {error}") from error
    by_name = (known for pattern, known in _MADE_FOR if re.fullmatch(pattern, Path(path).name))
    published.made_for |= stored.get("made_for") or next(by_name, {})
    return published


def torchvision_weights(architecture: str) -> dict[str, Tensor]:
    """torchvision's ImageNet state dict for the backbone of `architecture`, downloaded once."""
    for part in architecture.split("_"):
        if part in _CLASSIFIERS:
            return download(part)
    other = "'timm', pip:… or a file" if architecture.startswith(PREFIX) else "a file"
    raise UserError(
        f"torchvision has no weights for '{architecture}': available for "
        f"{', '.join(_CLASSIFIERS)}; or set MODEL.WEIGHTS to {other}"
    )


def conventions(segmentor: Segmentor) -> dict[str, str]:
    """What the weights of this segmentor rely on and no tensor's shape shows."""
    layout = stride_layout(segmentor.stages)
    return {"preprocessing": segmentor.preprocessing.kind} | ({"layout": layout} if layout else {})


def fill_segmentor(
    segmentor: Segmentor, published: Published, origin: str, *, require_backbone: bool = True
) -> LoadReport:
    """`load_weights` of what was read before; `origin` is its name in messages."""
    built = conventions(segmentor)
    for key, expected in published.made_for.items():
        if key == "preprocessing" and CUSTOM in (expected, built[key]):
            continue  # no key of ours: it came with the architecture, and stands in the file
        if built.get(key, expected) != expected:
            raise UserError(
                f"the weights of '{origin}' were made for {key} '{expected}' and the model is "
                f"built with '{built[key]}': set MODEL.{key.upper()} {expected}"
            )
    own = segmentor.state_dict()
    report = LoadReport(published.layout, ignored=dict(published.ignored))
    tensors = {}
    for name, tensor in published.tensors.items():
        branch = HEAD_BRANCH.match(name)
        if name in own and tensor.dim() == 2 and tensor.numel() == own[name].numel():
            # A fully connected layer, as a convolution over the map that it was trained on.
            tensor = tensor.view_as(own[name])
        if name not in own and branch and published.two_branches and int(branch[1]) >= 2:
            report.ignored[name] = UNTRAINED
        elif name not in own and FULLY_CONNECTED.match(name):
            report.ignored[name] = CLASSIFIER
        else:
            tensors[name] = tensor
    heads = tuple(f"stages.{stage}." for stage in segmentor.head_stages)
    check = partial(_check_backbone, heads, origin) if require_backbone else lambda report: None
    fill(segmentor, tensors, check, report=report, uncounted=("preprocessing.",))
    if published.two_branches and "stages.head.branches.2.weight" in report.matched:
        report.notes.append(
            "AdaptSegNet's and DAST's own code never trained the third and fourth branch: "
            "MODEL.ASPP.RATES [6, 12] leaves them out"
        )
    return report


def _check_backbone(heads: tuple[str, ...], origin: str, report: LoadReport) -> None:
    """Raises UserError unless the file fills the whole backbone, that is all but the `heads`."""

    def backbone(names: Iterable[str]) -> list[str]:
        return [
            name
            for name in names
            # The shortcut is optional: only DAST's released models have it.
            if name.startswith("stages.")
            and not name.startswith(heads)
            and not _SHORTCUT.match(name)
        ]

    if wrong := backbone(report.misshapen):
        raise UserError(
            f"'{origin}' does not fit: {wrong[0]} has shape {report.misshapen[wrong[0]]} "
            f"({len(wrong)} such tensors): it is of another MODEL.ARCHITECTURE or MODEL.WIDTH"
        )
    matched, missing = backbone(report.matched), backbone(report.missing)
    if not matched:
        raise UserError(f"'{origin}' fills nothing of the backbone: is it of another architecture?")
    if missing:
        raise UserError(
            f"'{origin}' fills {len(matched)} of {len(matched) + len(missing)} backbone tensors, "
            f"not {missing[0]}: is it of another architecture?"
        )
    if any(_SHORTCUT.match(name) for name in report.unexpected):
        raise UserError(
            f"'{origin}' has a projection shortcut in layer4's last block, as DAST's released "
            "models have: build the model with last_shortcut"
        )
    # Whole blocks, that is: a file may hold a bias where we have none (Caffe's ResNet-50 conv1).
    blocks = [name for name in backbone(report.unexpected) if name.endswith(".conv1.weight")]
    if blocks:
        raise UserError(
            f"'{origin}' holds {len(blocks)} blocks that this backbone has no place for, such as "
            f"{blocks[0]}: is it of another architecture?"
        )
