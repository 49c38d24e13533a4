"""What a layout is: the scenes it shows, the files they lie in, and the bytes of those files."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from shared.registry import Registry
from shared.toy.frame import ToyFrame

# Data set, split, domain, file names and the first number in them. The order is part of the data:
# a split's scenes are numbered from its place in this list, so no two show the same street.
_SPLITS = (  # append only
    ("gta5", "train", "game", "{:05d}", 1),
    ("synthia", "train", "synthia", "{:07d}", 0),
    ("synthia_seqs", "summer", "summer", "{:06d}", 0),
    ("synthia_seqs", "fall", "fall", "{:06d}", 0),
    ("synthia_seqs", "winter", "winter", "{:06d}", 0),
    ("cityscapes", "train", "real", "{:06d}", 0),
    ("cityscapes", "val", "real", "{:06d}", 0),
    ("bdd100k", "train", "dusk", "{:08x}-00000007", 0),
    ("bdd100k", "val", "dusk", "{:08x}-00000008", 0),
    ("sim10k", "trainval10k", "game", "{:06d}", 1),
    ("clipart", "train", "clipart", "{:06d}", 1),
    ("clipart", "test", "clipart", "{:06d}", 500_001),
    ("watercolor", "train", "watercolor", "{:06d}", 1),
    ("watercolor", "test", "watercolor", "{:06d}", 500_001),
    ("VOC2007", "trainval", "real", "{:06d}", 1),
    ("VOC2007", "test", "real", "{:06d}", 500_001),
    ("VOC2012", "trainval", "real", "2012_{:06d}", 1),
    ("kitti", "training", "real", "{:06d}", 0),
)
MAX_FRAMES = 99_999
# `shared.toy.render` with seed and size filled in.
Renderer = Callable[..., ToyFrame]


@dataclass(frozen=True)
class Frame:
    """One scene of a data set.

    Attributes:
        number: position in the split, from 0.
        name: of its files.
        index: number of the scene for the renderer, unique among all splits.
    """

    data_set: str
    split: str
    domain: str
    number: int
    name: str
    index: int


class Layout(ABC):
    """The folders and file formats of one data set.

    Attributes:
        data_sets: names in the table of splits; several share the training frames.
        owns: folders below `toy/` that only this layout fills.
        templates: paths below `toy/` of a frame's files, with fields of `Frame` in braces.
        needs: layouts whose files the loaders of this one read as well.
        version: raised whenever the same parameters give other files, in the scenes or in the
            layout: data made by another version is refused, not mixed with.
    """

    data_sets: tuple[str, ...]
    owns: tuple[str, ...]
    templates: tuple[str, ...]
    needs: tuple[str, ...] = ()
    version = 1

    def frames(self, count: int, val_count: int) -> list[Frame]:
        """All scenes: `count` to train on, `val_count` to test on where there is such a split."""
        frames = []
        for block, (data_set, split, domain, file_name, first) in enumerate(_SPLITS):
            if data_set not in self.data_sets:
                continue
            share = range(self.data_sets.index(data_set), count, len(self.data_sets))
            for number in range(val_count if split in ("val", "test") else len(share)):
                name = file_name.format(first + number)
                index = block * (MAX_FRAMES + 1) + number
                frames.append(Frame(data_set, split, domain, number, name, index))
        return frames

    def files(self, frame: Frame) -> tuple[str, ...]:
        """Paths below `toy/` that `encode` fills."""
        return tuple(template.format(**vars(frame)) for template in self.templates)

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        """Path below `toy/` → content, for every one of `files(frame)`."""
        contents = self.contents(frame, render(frame.domain, frame.index))
        return dict(zip(self.files(frame), contents, strict=True))

    @abstractmethod
    def contents(self, frame: Frame, toy: ToyFrame) -> Sequence[bytes]:
        """The bytes of `files(frame)`."""

    def lists(self, frames: Sequence[Frame]) -> dict[str, bytes]:
        """Path below `toy/` → content of the files that name all frames of a split."""
        return {}


LAYOUTS: Registry[Layout] = Registry("toy layout")


def png(array: np.ndarray) -> bytes:
    """A PNG of an RGB, RGBA (H, W, 3 or 4) or single-channel (H, W) array, uint8 or uint16."""
    if array.ndim == 3:
        array = array[..., (2, 1, 0, 3)[: array.shape[2]]]
    # Level 1 halves the writing time of level 3 for a tenth more bytes.
    return cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def jpeg(image: np.ndarray) -> bytes:
    """A JPEG of an RGB image (H, W, 3) uint8."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
