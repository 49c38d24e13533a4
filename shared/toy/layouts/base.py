"""What a layout is: the scenes it shows, the files they lie in, and the bytes of those files."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from shared.data.label_maps import ID_TABLES
from shared.registry import Registry
from shared.toy import ToyFrame

# Data set and split. The order is part of the data: a split's scenes are numbered from its place in
# this list, so no two splits show the same street. Append only.
_SPLITS = (
    ("gta5", "train"),
    ("synthia", "train"),
    ("synthia_seqs", "summer"),
    ("synthia_seqs", "fall"),
    ("synthia_seqs", "winter"),
    ("cityscapes", "train"),
    ("cityscapes", "val"),
    ("bdd100k", "train"),
    ("bdd100k", "val"),
    ("sim10k", "trainval10k"),
    ("clipart", "train"),
    ("clipart", "test"),
    ("watercolor", "train"),
    ("watercolor", "test"),
    ("VOC2007", "trainval"),
    ("VOC2007", "test"),
    ("VOC2012", "trainval"),
    ("kitti", "training"),
)
MAX_FRAMES = 99_999
_BLOCK = MAX_FRAMES + 1


class Renderer(Protocol):
    """`shared.toy.render` with seed and size filled in."""

    def __call__(self, domain: str, index: int, *, fog_beta: float = ...) -> ToyFrame: ...


@dataclass(frozen=True)
class Frame:
    """One scene of a data set.

    Attributes:
        number: position in the split, from 0.
        index: number of the scene for the renderer, unique among all splits.
    """

    data_set: str
    split: str
    number: int
    domain: str
    index: int


class Layout(ABC):
    """The folders and file formats of one data set.

    Attributes:
        owns: folders below `toy/` that only this layout fills.
        needs: layouts whose files the loaders of this one read as well.
    """

    owns: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @abstractmethod
    def frames(self, count: int, val_count: int) -> list[Frame]:
        """All scenes: `count` to train on, `val_count` to test on where there is such a split."""

    @abstractmethod
    def files(self, frame: Frame) -> tuple[str, ...]:
        """Paths below `toy/` that `encode` fills."""

    @abstractmethod
    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        """Path below `toy/` → content, for every one of `files(frame)`."""

    def lists(self, frames: Sequence[Frame]) -> dict[str, bytes]:
        """Path below `toy/` → content of the files that name all frames of a split."""
        return {}


LAYOUTS: Registry[Layout] = Registry("toy layout")


def scenes(data_set: str, split: str, domain: str, count: int) -> list[Frame]:
    """`count` frames of `data_set`'s `split`, on scene numbers that no other split has."""
    first = _SPLITS.index((data_set, split)) * _BLOCK
    return [Frame(data_set, split, number, domain, first + number) for number in range(count)]


def png(array: np.ndarray) -> bytes:
    """A PNG of an RGB, RGBA (H, W, 3 or 4) or single-channel (H, W) array, uint8 or uint16."""
    if array.ndim == 3:
        array = array[..., (2, 1, 0, 3)[: array.shape[2]]]
    # Level 1 halves the writing time of level 3 for a tenth more bytes.
    _, encoded = cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return encoded.tobytes()


def jpeg(image: np.ndarray) -> bytes:
    """A JPEG of an RGB image (H, W, 3) uint8, at quality 95."""
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return encoded.tobytes()


def id_table(data_set: str, *, rename: dict[str, str] | None = None) -> np.ndarray:
    """Cityscapes label id → raw id of `data_set`; 0 where the data set has no such class.

    Args:
        rename: Cityscapes class name → the name `data_set` files it under.

    Returns:
        (256,) uint8.
    """
    raw_ids = {name: raw_id for raw_id, name in ID_TABLES.get(data_set).items()}
    table = np.zeros(256, np.uint8)
    for label_id, name in ID_TABLES.get("cityscapes").items():
        table[label_id] = raw_ids.get((rename or {}).get(name, name), 0)
    return table
