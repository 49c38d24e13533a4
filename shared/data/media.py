"""Images and videos that a user names for prediction, and the videos that are written of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from shared.data.images import decode_by_opencv, read_image
from shared.errors import UserError
from shared.files import replacing

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv")
FALLBACK_FRAMES_PER_SECOND = 25.0


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and path.is_file()


def find_images(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """(image, its path below `output` without an ending) of one image or of every one in a folder.

    What lies in `output` is left out: a second run must not predict the pictures of the first.
    """
    if source.is_file():
        if source.suffix.lower() not in IMAGES:
            kinds = ", ".join(ending[1:] for ending in IMAGES + VIDEOS)
            raise UserError(f"{source} is no image or video by its name; expected one of {kinds}")
        return [(source, Path(source.stem))]
    if source.resolve() == output.resolve():
        raise UserError(f"--output {output} is the input folder; give another one")
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.suffix.lower() in IMAGES and path.is_file() and not path.name.startswith(".")
        if not path.resolve().is_relative_to(output.resolve())
    ]
    if not files:
        endings = ", ".join(ending[1:] for ending in IMAGES)
        raise UserError(f"no image below {source}; looked for {endings}")
    by_name: dict[Path, Path] = {}
    for path in files:
        name = path.relative_to(source).with_suffix("")
        if name in by_name:
            raise UserError(
                f"{by_name[name]} and {path} would have the same predictions' names; rename one"
            )
        by_name[name] = path
    return [(path, name) for name, path in by_name.items()]


def read_picture(path: Path) -> Tensor:
    """(3, H, W) uint8 RGB of a file in any of the formats `IMAGES`."""
    if path.suffix.lower() not in (".bmp", ".webp"):
        return read_image(path)
    pixels = decode_by_opencv(path.read_bytes(), cv2.IMREAD_COLOR)
    if pixels is None:
        raise UserError(f"{path} is damaged or no image; write it again")
    return _to_tensor(pixels)


class Video:
    """The frames of a video file, each (3, H, W) uint8 RGB.

    Attributes:
        rate: frames per second.
        count: of frames; None where the file does not say.
        size: (height, width).
    """

    def __init__(self, path: Path) -> None:
        self._capture = cv2.VideoCapture(str(path))
        is_read, self._first = self._capture.read()
        if not is_read:
            self._capture.release()
            raise UserError(f"{path} is damaged or no video that OpenCV reads; convert it to mp4")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else FALLBACK_FRAMES_PER_SECOND
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = count if count > 0 else None
        self.size = self._first.shape[:2]

    def __iter__(self) -> Iterator[Tensor]:
        """Once."""
        try:
            is_read, frame = True, self._first
            while is_read:
                yield _to_tensor(frame)
                is_read, frame = self._capture.read()
        finally:
            self._capture.release()


@contextmanager
def writing_video(path: Path, rate: float, size: tuple[int, int]) -> Iterator[cv2.VideoWriter]:
    """An mp4 that appears under its name when it is whole; takes (H, W, 3) BGR.

    Args:
        size: (height, width).
    """
    code = cv2.VideoWriter_fourcc(*"mp4v")
    with replacing(path) as partial:
        writer = cv2.VideoWriter(str(partial), code, rate, (size[1], size[0]))
        if not writer.isOpened():
            raise UserError(f"OpenCV cannot write {path}: this build has no mp4 encoder")
        try:
            yield writer
        finally:
            writer.release()


def _to_tensor(bgr: np.ndarray) -> Tensor:
    """OpenCV's (H, W, 3) BGR as (3, H, W) RGB."""
    return torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1)
