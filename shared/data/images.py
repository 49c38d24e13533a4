"""Image and label files to tensors; ids in label files are never read as colors.

Pillow decodes: damaged files raise there, and palettes keep their indices. OpenCV reads the one
kind that Pillow cannot, 16-bit RGB, and the one it is faster at, 8-bit color PNGs.
"""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from shared.data.label_maps import CAMVID_COLORS, IGNORE
from shared.errors import MissingFileError, UserError
from shared.files import write_atomically
from shared.registry import nearest

_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
# Enough for all that comes before a color profile, which comes before the pixels.
_FIRST_CHUNKS = 4096
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_COLOR_TYPES = {
    _GRAY: "gray",
    _RGB: "RGB",
    _PALETTE: "palette",
    _GRAY_ALPHA: "gray + alpha",
    _RGB_ALPHA: "RGB + alpha",
}


@dataclass(frozen=True)
class PngHeader:
    """A PNG's IHDR chunk; `color_type` as in the PNG specification."""

    height: int
    width: int
    bit_depth: int
    color_type: int

    def __str__(self) -> str:
        kind = _COLOR_TYPES.get(self.color_type, "unknown")
        return f"{self.bit_depth}-bit {kind} PNG, {self.width}×{self.height}"


def _png_header(data: bytes) -> PngHeader | None:
    if not data.startswith(_PNG_START) or len(data) < 33:
        return None
    width, height, bit_depth, color_type = struct.unpack_from(">IIBB", data, len(_PNG_START))
    return PngHeader(height, width, bit_depth, color_type)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"no file {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _damaged(path: str | Path) -> UserError:
    return UserError(f"{path} is damaged or no image; download or write it again")


def _too_large(path: str | Path) -> UserError:
    return UserError(
        f"{path} has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels, which may be an attack: "
        "resize or crop it"
    )


def _decode(data: bytes, path: Path, mode: str | None = None) -> np.ndarray:
    """(H, W) or (H, W, channels), converted to Pillow's `mode` where one is given."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if mode == "RGB" and image.mode.startswith("I"):
                # Pillow would clip 16-bit gray instead of scaling it.
                high_byte = (np.array(image) >> 8).astype(np.uint8)
                return np.repeat(high_byte[..., None], 3, axis=2)
            return np.array(image if mode in (None, image.mode) else image.convert(mode))
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except (OSError, SyntaxError, ValueError):
        raise _damaged(path) from None


def decode_by_opencv(content: bytes, flags: int) -> np.ndarray | None:
    """(H, W) or (H, W, channels) in OpenCV's order; None where it cannot."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:
        return None


def _decode_color_png(data: bytes) -> np.ndarray | None:
    """(H, W, 3) as Pillow decodes it, in four fifths of the time; None: leave it to Pillow.

    Not for JPEG: OpenCV returns an image for some damaged ones.
    """
    header = _png_header(data)
    if header is None or header.bit_depth != 8 or header.color_type not in (_RGB, _RGB_ALPHA):
        return None
    # libpng writes a warning to the terminal for each of the many faulty color profiles.
    if b"iCCP" in data[:_FIRST_CHUNKS]:
        return None
    return decode_by_opencv(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def read_image(path: str | Path) -> torch.Tensor:
    """An image as RGB: gray is repeated, alpha dropped, 16-bit samples keep their high byte.

    Returns:
        (3, H, W) uint8, channels last in memory.
    """
    path = Path(path)
    data = _read(path)
    pixels = _decode_color_png(data)
    if pixels is None:
        pixels = _decode(data, path, "RGB")
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _read_index(data: bytes, path: Path, header: PngHeader) -> torch.Tensor:
    if header.color_type == _PALETTE or (header.color_type == _GRAY and header.bit_depth == 8):
        return torch.from_numpy(_decode(data, path))
    if header.color_type in (_RGB, _RGB_ALPHA):
        hint = "it looks like a color picture of the labels: use the file that holds the class ids"
    elif header.color_type == _GRAY and header.bit_depth == 16:
        hint = "it looks like instance ids: use the file that holds the class ids"
    else:
        hint = "save the class ids as 8-bit gray"
    raise UserError(f"label {path} is a {header}, expected 8-bit gray or palette; {hint}")


def _read_synthia(data: bytes, path: Path, header: PngHeader) -> torch.Tensor:
    if header.color_type in (_GRAY, _PALETTE):
        labels = _read_index(data, path, header)
    elif header.color_type == _RGB and header.bit_depth == 16:
        pixels = decode_by_opencv(data, cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise _damaged(path)
        classes = pixels[..., 2]
        if classes.max() > 255:
            raise UserError(
                f"label {path} holds class id {classes.max()} in its red channel, expected 0 to "
                "22; use SYNTHIA's GT/LABELS"
            )
        labels = torch.from_numpy(classes.astype(np.uint8))
    else:
        raise UserError(
            f"label {path} is a {header}, expected SYNTHIA's 16-bit RGB (class in red) or 8-bit "
            "class ids; use GT/LABELS, not GT/COLOR"
        )
    if not labels.any():
        raise UserError(
            f"label {path} holds nothing but class 0 (void), as it does after 16-bit labels were "
            "saved by an 8-bit reader; use SYNTHIA's original GT/LABELS"
        )
    return labels


def _camvid_ids() -> np.ndarray:
    """Color → id: the index has two bits of each of red, green and blue; 255: of no class."""
    ids = np.full(64, IGNORE, np.uint8)
    for i, (red, green, blue) in enumerate(CAMVID_COLORS):
        ids[(red >> 6) << 4 | (green >> 6) << 2 | blue >> 6] = i
    return ids


_CAMVID_IDS = _camvid_ids()


def _read_camvid(data: bytes, path: Path, header: PngHeader) -> torch.Tensor:
    if header.color_type != _RGB or header.bit_depth != 8:
        raise UserError(
            f"label {path} is a {header}, expected CamVid's 8-bit RGB; use LabeledApproved_full"
        )
    colors = _decode(data, path, "RGB")
    top = colors >> 6
    ids = _CAMVID_IDS[top[..., 0] << 4 | top[..., 1] << 2 | top[..., 2]]
    ids[(colors & 63).any(axis=-1)] = IGNORE
    if not (ids != IGNORE).any():
        raise UserError(f"label {path} holds none of CamVid's colors: is it a photograph?")
    return torch.from_numpy(ids)


_READERS = {"index": _read_index, "synthia": _read_synthia, "camvid": _read_camvid}
ENCODINGS = tuple(_READERS)


def read_labels(path: str | Path, encoding: str) -> torch.Tensor:
    """The raw class ids of a label PNG.

    Args:
        encoding: "index" (8-bit gray, or palette whose index is the id), "synthia" (16-bit RGB,
            red = class, green = instance; or ids already extracted into 8 bits) or "camvid" (its
            colors; any other is 255).

    Returns:
        (H, W) uint8.
    """
    path = Path(path)
    if encoding not in ENCODINGS:
        raise UserError(
            f"unknown label encoding '{encoding}': {nearest(encoding, ENCODINGS)}"
            f"available: {', '.join(ENCODINGS)}"
        )
    data = _read(path)
    header = _png_header(data)
    if header is None:
        raise UserError(f"label {path} is no PNG or cut short; expected a PNG of class ids")
    return _READERS[encoding](data, path, header)


def remap(labels: torch.Tensor, table: np.ndarray) -> torch.Tensor:
    """`table[labels]` for uint8 labels of any shape.

    Args:
        table: (256,) uint8.
    """
    # A quarter of the time of NumPy's indexing; PyTorch would need the labels as int64.
    mapped = bytearray(labels.numpy().data).translate(table.tobytes())
    return torch.from_numpy(np.frombuffer(mapped, np.uint8)).reshape(labels.shape)


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) from the file's header; no pixel is decoded."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise MissingFileError(f"no file {path}") from None
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except OSError:
        raise _damaged(path) from None


def write_png(path: str | Path, array: np.ndarray) -> None:
    """Write a PNG; no reader ever sees half of it.

    Args:
        array: uint8, (H, W) for ids or (H, W, 3) for RGB.
    """
    path = Path(path)
    if array.dtype != np.uint8 or not (array.ndim == 2 or array.shape[2:] == (3,)):
        raise UserError(
            f"cannot write {path}: got {array.dtype} of shape {array.shape}, expected uint8 (H, W) "
            "or (H, W, 3)"
        )
    data = cv2.imencode(".png", array if array.ndim == 2 else array[..., ::-1])[1]
    write_atomically(path, data.tobytes())
