"""What the numbers in a label file mean, and the class spaces that models predict.

A data set has one table, raw id → class name. A label space is an ordered list of class names; its
train ids are the positions in that list, and 255 is "ignore". The rest is composed from both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from cityscapesscripts.helpers import labels as cityscapes
from numpy.typing import ArrayLike

from shared.errors import UserError
from shared.registry import Registry

IGNORE = 255

_BY_TRAIN_ID = sorted(
    (label for label in cityscapes.labels if label.trainId not in (-1, IGNORE)),
    key=lambda label: label.trainId,
)
_CITYSCAPES_COLORS = {label.name: label.color for label in _BY_TRAIN_ID}
CITYSCAPES_19 = tuple(_CITYSCAPES_COLORS)
# SYNTHIA holds no pixel of terrain, truck and train; most papers that start from it also report a
# mean without wall, fence and pole.
CITYSCAPES_16 = tuple(c for c in CITYSCAPES_19 if c not in {"terrain", "truck", "train"})
CITYSCAPES_13 = tuple(c for c in CITYSCAPES_16 if c not in {"wall", "fence", "pole"})

# The license plate's id, -1, is 255 in an 8-bit file.
_CITYSCAPES = {label.id % 256: label.name for label in cityscapes.labels}
_GTA5 = {i: name for i, name in _CITYSCAPES.items() if i != IGNORE} | {34: "license plate"}
_SYNTHIA = dict(
    enumerate(
        (
            *("void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car"),
            *("traffic sign", "person", "bicycle", "motorcycle", "parking", "road work"),
            *("traffic light", "terrain", "rider", "truck", "bus", "train", "wall"),
            "lane marking",
        )
    )
)
# The video sequences share ids 1 to 11 and 15 with SYNTHIA-RAND, but their id 12 is lane marking.
# Id 11 is called cyclist there; the literature counts it as bicycle.
_SYNTHIA_SEQS = {i: _SYNTHIA[i] for i in (*range(12), 15)} | {12: "lane marking"}

# Data set name → {raw id: class name}; ids that are not listed are ignored.
ID_TABLES: Registry[Mapping[int, str]] = Registry("label table")
ID_TABLES.add("cityscapes", _CITYSCAPES)
ID_TABLES.add("gta5", _GTA5)
ID_TABLES.add("synthia", _SYNTHIA)
ID_TABLES.add("synthia_seqs", _SYNTHIA_SEQS)
ID_TABLES.add("bdd100k", dict(enumerate(CITYSCAPES_19)))

# The 32 colors of CamVid, in the order of its own list, whose places are the ids.
CAMVID_COLORS = {
    (64, 128, 64): "animal",
    (192, 0, 128): "archway",
    (0, 128, 192): "bicycle",  # with who rides it
    (0, 128, 64): "bridge",
    (128, 0, 0): "building",
    (64, 0, 128): "car",
    (64, 0, 192): "cart",
    (192, 128, 64): "person",  # child
    (192, 192, 128): "pole",
    (64, 64, 128): "fence",
    (128, 0, 192): "lane marking",
    (192, 0, 64): "lane marking",  # not for driving
    (128, 128, 64): "text",
    (192, 0, 192): "motorcycle",
    (128, 64, 64): "other moving",
    (64, 192, 128): "parking block",
    (64, 64, 0): "person",
    (128, 64, 128): "road",
    (128, 128, 192): "road shoulder",
    (0, 0, 192): "sidewalk",
    (192, 128, 128): "traffic sign",
    (128, 128, 128): "sky",
    (64, 128, 192): "car",  # SUV, pickup
    (0, 0, 64): "traffic cone",
    (0, 64, 64): "traffic light",
    (192, 64, 128): "train",
    (128, 128, 0): "vegetation",
    (192, 128, 192): "truck",  # or bus
    (64, 0, 64): "tunnel",
    (192, 192, 0): "vegetation",  # grass and bushes
    (0, 0, 0): "void",
    (64, 192, 0): "wall",
}
ID_TABLES.add("camvid", dict(enumerate(CAMVID_COLORS.values())))
# The usual eleven classes, in the order of the release with SegNet; 11 is void.
CAMVID_11 = (
    *("sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car"),
    *("person", "bicycle"),
)
ID_TABLES.add("camvid11", dict(enumerate((*CAMVID_11, "void"))))
# What each of them takes in, of CamVid's 32 classes and of Cityscapes'.
_CAMVID_MEMBERS = {
    "building": ("wall", "archway", "bridge", "tunnel"),
    "pole": ("traffic cone",),
    "road": ("lane marking", "road shoulder"),
    "sidewalk": ("parking block",),
    "vegetation": ("terrain",),
    "traffic sign": ("traffic light", "text"),
    "car": ("truck", "bus", "train", "other moving"),
    "person": ("animal", "cart"),
    "bicycle": ("rider", "motorcycle"),
}

_SYNTHIA_SEQS_COLORS = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "road": (128, 64, 128),
    "sidewalk": (0, 0, 192),
    "fence": (64, 64, 128),
    "vegetation": (128, 128, 0),
    "pole": (192, 192, 128),
    "car": (64, 0, 128),
    "traffic sign": (192, 128, 128),
    "person": (64, 64, 0),
    "bicycle": (0, 128, 192),
    "lane marking": (0, 172, 0),
    "traffic light": (0, 128, 128),
}


@dataclass(frozen=True)
class LabelSpace:
    """The classes a model predicts, in the order of its outputs.

    Attributes:
        classes: class name per train id.
        colors: RGB per train id, 0 to 255.
        label_ids: Cityscapes label id per train id; None where the official script does not apply.
        protocols: name of a published mean over some of the classes → those classes.
        merged: name of a finer class → the class that takes it in.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    label_ids: tuple[int, ...] | None
    protocols: Mapping[str, tuple[str, ...]] = field(hash=False)
    merged: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def _cityscapes_space(name: str, classes: tuple[str, ...], protocols: dict) -> LabelSpace:
    ids = {class_name: i for i, class_name in _CITYSCAPES.items()}
    colors = tuple(_CITYSCAPES_COLORS[c] for c in classes)
    return LabelSpace(name, classes, colors, tuple(ids[c] for c in classes), protocols)


LABEL_SPACES: Registry[LabelSpace] = Registry("label space")
LABEL_SPACES.add("cityscapes19", _cityscapes_space("cityscapes19", CITYSCAPES_19, {}))
LABEL_SPACES.add(
    "cityscapes16",
    _cityscapes_space("cityscapes16", CITYSCAPES_16, {"16": CITYSCAPES_16, "13": CITYSCAPES_13}),
)
LABEL_SPACES.add(
    "synthia_seqs13",
    LabelSpace(
        "synthia_seqs13",
        tuple(_SYNTHIA_SEQS_COLORS),
        tuple(_SYNTHIA_SEQS_COLORS.values()),
        None,
        {},
    ),
)
_COLOR_OF = {name: color for color, name in reversed(CAMVID_COLORS.items())}
LABEL_SPACES.add(
    "camvid11",
    LabelSpace(
        "camvid11",
        CAMVID_11,
        tuple(_COLOR_OF[name] for name in CAMVID_11),
        None,
        {},
        {name: group for group, names in _CAMVID_MEMBERS.items() for name in names},
    ),
)


def label_space(space: str | LabelSpace) -> LabelSpace:
    """The space of that name; a `LabelSpace` passes through."""
    return LABEL_SPACES.get(space) if isinstance(space, str) else space


def lookup_table(dataset: str | Mapping[int, str], space: str | LabelSpace) -> np.ndarray:
    """Raw id → train id.

    Args:
        dataset: name of an id table (`ID_TABLES`), or the table itself.

    Returns:
        (256,) uint8; 255 for every id whose class the space does not hold.
    """
    space = label_space(space)
    table = np.full(256, IGNORE, np.uint8)
    ids = ID_TABLES.get(dataset) if isinstance(dataset, str) else dataset
    for raw_id, class_name in ids.items():
        class_name = space.merged.get(class_name, class_name)
        if class_name in space.classes:
            table[raw_id] = space.classes.index(class_name)
    return table


def to_label_ids(space: str | LabelSpace) -> np.ndarray:
    """Train id → Cityscapes label id, as the official script reads them.

    Returns:
        (256,) uint8; 0 (unlabeled) for 255 and for whatever is no train id.
    """
    space = label_space(space)
    if space.label_ids is None:
        raise UserError(
            f"label space '{space.name}' has no Cityscapes label ids: the official Cityscapes "
            "script does not apply; report the confusion matrix's scores"
        )
    table = np.zeros(256, np.uint8)
    table[: space.num_classes] = space.label_ids
    return table


def encode_colors(labels: ArrayLike, space: str | LabelSpace) -> np.ndarray:
    """A picture of a label map.

    Args:
        labels: (H, W) train ids.

    Returns:
        (H, W, 3) uint8 RGB; black where `labels` holds no train id of the space.
    """
    space = label_space(space)
    palette = np.zeros((256, 3), np.uint8)
    palette[: space.num_classes] = space.colors
    return palette[np.asarray(labels)]
