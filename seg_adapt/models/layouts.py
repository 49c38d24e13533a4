"""The state-dict layouts that others published, in our names."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from shared.errors import UserError

CLASSIFIER = "ImageNet classifier"
BEYOND = "behind the last level in use"
UNTRAINED = "never trained: the released code sums the first two branches only"
# Behind torchvision's VGG-16 features; only the dilated front-end has a place for them.
FULLY_CONNECTED = re.compile(r"stages\.fc[67]\.fc[67]\.")
HEAD_BRANCH = re.compile(r"stages\.head\.branches\.(\d+)\.")

# torchvision's index of every convolution in `features`
_VGG_INDEX = {
    **{"1_1": 0, "1_2": 2, "2_1": 5, "2_2": 7, "3_1": 10, "3_2": 12, "3_3": 14},
    **{"4_1": 17, "4_2": 19, "4_3": 21, "5_1": 24, "5_2": 26, "5_3": 28},
}
# PLCA's own class order: its index of each of our 19 train ids
_PLCA_INDEX = (2, 3, 1, 15, 4, 6, 12, 8, 5, 16, 0, 9, 13, 7, 17, 14, 18, 11, 10)

# (pattern of a whole name, template) renames; (pattern, reason, True) leaves out
_Rule = tuple[str, str] | tuple[str, str, bool]


@dataclass
class Published:
    """A weights file in our names.

    Args:
        layout: whose layout it was.
        tensors: by our name; by the file's own where we have none.
        ignored: the file's name to the reason.
        made_for: "preprocessing" and ResNet "layout" that the weights were trained with, where
            the file gives that away.
        two_branches: the layout is that of code which sums the first two ASPP branches only.
    """

    layout: str
    tensors: dict[str, Tensor]
    ignored: dict[str, str] = field(default_factory=dict)
    made_for: dict[str, str] = field(default_factory=dict)
    two_branches: bool = False


def _aspp(prefix: str) -> _Rule:
    return rf"{prefix}\.conv2d_list\.(\d+\.(?:weight|bias))", r"stages.head.branches.\1"


def _vgg(renamed: Callable[[int], str]) -> list[_Rule]:
    return [
        (rf"{re.escape(renamed(index))}\.(weight|bias)", rf"stages.conv{name[0]}.conv{name}.\1")
        for name, index in _VGG_INDEX.items()
    ]


def _without_pool4(index: int) -> int:
    return index - 1 if index > 23 else index


def _dast_vgg_name(index: int) -> str:
    index = _without_pool4(index)
    first, layer = next((f, n) for f, n in ((21, 3), (16, 2), (0, 1)) if index >= f)
    return f"layer{layer}.{index - first}"


_RESNET: list[_Rule] = [
    (r"((?:conv1|bn1)\..+)", r"stages.stem.\1"),
    (r"(layer[1-4]\..+)", r"stages.\1"),
    (r"fc\..+", CLASSIFIER, True),
]
_CAFFE_RESNET = {"preprocessing": "caffe", "layout": "caffe"}
_CAFFE = {"preprocessing": "caffe"}


@dataclass(frozen=True)
class _Layout:
    """A layout is the first whose `marks` all begin some name of the file."""

    name: str
    marks: tuple[str, ...]
    rules: list[_Rule]
    made_for: Mapping[str, str] = field(default_factory=dict)
    two_branches: bool = False


def _deeplab_vgg(
    name: str, mark: str, renamed: Callable[[int], str], *, fc6: str, fc7: str
) -> _Layout:
    """DeepLab-v2's VGG-16: fully connected layers as dilated convolutions, two branches summed."""
    rules = [
        *_vgg(renamed),
        (rf"{re.escape(fc6)}\.(weight|bias)", r"stages.fc.fc6.\1"),
        (rf"{re.escape(fc7)}\.(weight|bias)", r"stages.fc.fc7.\1"),
        _aspp("classifier"),
    ]
    marks = (mark, "classifier.conv2d_list.")
    return _Layout(name, marks, rules, _CAFFE, two_branches=True)


_LAYOUTS = (
    _Layout("ours", ("stages.",), [(r"((?:stages|preprocessing)\..+)", r"\1")]),
    _Layout(
        "AdaptSegNet's initialization",
        ("Scale.conv1.",),
        [
            (r"Scale\.layer5\..+", "classifier of the initialization's own classes", True),
            *((rf"Scale\.{pattern}", *rest) for pattern, *rest in _RESNET),
        ],
        _CAFFE_RESNET,
    ),
    _Layout(
        "AdaptSegNet, multi-level",
        ("layer5.conv2d_list.", "layer6.conv2d_list."),
        [
            _aspp("layer6"),
            (r"layer5\..+", "auxiliary classifier of multi-level training", True),
            *_RESNET,
        ],
        _CAFFE_RESNET,
        two_branches=True,
    ),
    _Layout(
        "DAST, ResNet",
        ("layer5.0.", "layer6.conv2d_list."),
        [_aspp("layer6"), (r"layer5\.0\.(.+)", r"stages.layer4.2.\1"), *_RESNET],
        _CAFFE_RESNET,
        two_branches=True,
    ),
    _Layout(
        "AdaptSegNet",
        ("layer5.conv2d_list.",),
        [_aspp("layer5"), *_RESNET],
        _CAFFE_RESNET,
        two_branches=True,
    ),
    _Layout(
        "PLCA",
        ("classifier.0.convs.", "layer4."),
        [
            (r"classifier\.0\.convs\.(\d+)\.0\.(weight|bias)", r"stages.head.branches.\1.\2"),
            (r"aux_classifier\..+", "auxiliary classifier", True),
            *_RESNET,
        ],
        _CAFFE_RESNET,
    ),
    _deeplab_vgg(
        "AdaptSegNet, VGG-16",
        "features.",
        lambda index: f"features.{_without_pool4(index)}",
        fc6="features.29",
        fc7="features.31",
    ),
    _deeplab_vgg("DAST, VGG-16", "layer1.0.weight", _dast_vgg_name, fc6="layer4.0", fc7="layer4.2"),
    _Layout(
        "VGG-16",
        ("features.0.weight",),
        [
            *_vgg(lambda index: f"features.{index}"),
            (r"classifier\.0\.(weight|bias)", r"stages.fc6.fc6.\1"),
            (r"classifier\.3\.(weight|bias)", r"stages.fc7.fc7.\1"),
            (r"classifier\.6\..+", CLASSIFIER, True),
        ],
    ),
    _Layout("ResNet", ("conv1.weight", "layer1.0.conv1.weight"), _RESNET),
)


def translate(state: Mapping[str, Tensor]) -> Published:
    """Recognizes the layout by its names and renames; raises UserError for an unknown one."""
    state, ignored = _without_prefixes(state)
    for layout in _LAYOUTS:
        if all(any(name.startswith(mark) for name in state) for mark in layout.marks):
            break
    else:
        names = ", ".join(list(state)[:3])
        layouts = "; ".join(layout.name for layout in _LAYOUTS)
        raise UserError(
            f"unknown layout: {len(state)} tensors, the first named {names}; known: {layouts}"
        )
    made_for = dict(layout.made_for)
    published = Published(layout.name, {}, ignored, made_for, layout.two_branches)
    for name, tensor in state.items():
        for pattern, text, *leave_out in layout.rules:
            match = re.fullmatch(pattern, name)
            if match and leave_out:
                published.ignored[name] = text
                break
            if match:
                published.tensors[match.expand(text)] = tensor
                break
        else:
            published.tensors[name] = tensor
    if layout.name == "PLCA":
        _reorder_plca_classes(published.tensors)
    return published


def _without_prefixes(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Strips what wrappers prepend; what a method holds beside the segmentor is left out."""
    state, ignored = dict(state), {}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if any(name.startswith("segmentor.stages.") for name in state):
        ignored = {
            name: "not the segmentor's" for name in state if not name.startswith("segmentor.")
        }
        state = {
            name.removeprefix("segmentor."): tensor
            for name, tensor in state.items()
            if name not in ignored
        }
    return {name.removeprefix("backbone."): tensor for name, tensor in state.items()}, ignored


def _reorder_plca_classes(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        # Its 16-class models leave out the last three of its own 19.
        if HEAD_BRANCH.match(name) and len(tensor) in (16, 19):
            order = [index for index in _PLCA_INDEX if index < len(tensor)]
            tensors[name] = tensor[order]
