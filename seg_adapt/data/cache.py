"""Images and labels that were resized once and are read at that size ever after, losslessly."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from seg_adapt.data.transforms import resize_image, resize_labels
from shared.data.images import read_image, read_labels, write_png
from shared.errors import MissingFileError, UserError

VERSION = 1


@dataclass(frozen=True)
class ResizedFiles:
    """Reads files at one size, through a folder of PNGs that may be deleted at any time.

    A stored file is used only for the very bytes (path, size, times) and the way of
    resizing that it was made with: what is read equals what would be computed.

    Args:
        folder: where the PNGs are kept.
        size: (width, height).
        interpolation: of images; labels are always nearest neighbor.
    """

    folder: Path
    size: tuple[int, int]
    interpolation: str

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"DATASETS.CACHE {self.folder} cannot be made: {error.strerror}; name a "
                "folder that can be written to, or leave it empty"
            ) from None

    def image(self, path: Path) -> Tensor:
        """(3, height, width) uint8."""
        return self._through(
            path,
            self.interpolation,
            lambda: resize_image(read_image(path), self.size[::-1], self.interpolation),
            read_image,
        )

    def labels(self, path: Path, encoding: str) -> Tensor:
        """Raw class ids (height, width) uint8; `encoding` as for `read_labels`."""
        return self._through(
            path,
            encoding,
            lambda: resize_labels(read_labels(path, encoding), self.size[::-1]),
            lambda place: read_labels(place, "index"),
        )

    def _place(self, path: Path, way: str) -> Path:
        try:
            status = path.stat()
        except OSError:
            raise MissingFileError(f"no file {path}") from None
        key = repr(
            [
                VERSION,
                # Their kernels may round differently from one release to the next.
                torch.__version__,
                torchvision.__version__,
                str(path.absolute()),
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            ]
        )
        digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        return self.folder / f"{self.size[0]}x{self.size[1]}-{way}" / f"{digest}.png"

    def _through(
        self, path: Path, way: str, make: Callable[[], Tensor], read: Callable[[Path], Tensor]
    ) -> Tensor:
        place = self._place(path, way)
        try:
            stored = read(place)
            if tuple(stored.shape[-2:]) == self.size[::-1]:
                return stored
        except (UserError, MissingFileError):
            pass  # not made yet, or damaged
        made = make()
        array = made.numpy() if made.ndim == 2 else made.permute(1, 2, 0).numpy()
        with suppress(OSError):  # a full disk costs time, not the run
            write_png(place, array)
        return made
