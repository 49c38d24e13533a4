"""Pictures of predictions: overlays, titled panels, legends.

Every image is an RGB uint8 array (H, W, 3); every function returns a new array.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shared.errors import UserError

BACKGROUND = (255, 255, 255)
INK = (24, 24, 27)
GAP = 6


def check_image(image: np.ndarray, name: str = "image") -> np.ndarray:
    """`image` itself where it is a non-empty RGB uint8 array (H, W, 3); UserError otherwise."""
    dtype, shape = getattr(image, "dtype", None), tuple(getattr(image, "shape", ()))
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise UserError(
            f"{name}: got {dtype or type(image).__name__} {shape}, expected a uint8 RGB array "
            "(height, width, 3)"
        )
    return image


def overlay(
    image: np.ndarray,
    colors: np.ndarray,
    alpha: float = 0.5,
    ignore_mask: np.ndarray | None = None,
) -> np.ndarray:
    """(1 − alpha) · image + alpha · colors; where `ignore_mask` (H, W) is true, the image alone."""
    check_image(image), check_image(colors, "colors")
    if image.shape != colors.shape:
        raise UserError(f"overlay: image is {image.shape}, colors are {colors.shape}: sizes differ")
    if not 0 <= alpha <= 1:
        raise UserError(f"overlay: alpha is {alpha}, expected a number from 0 to 1")
    blended = cv2.addWeighted(image, 1 - alpha, colors, alpha, 0)
    if ignore_mask is None:
        return blended
    if ignore_mask.dtype != bool or ignore_mask.shape != image.shape[:2]:
        raise UserError(
            f"overlay: ignore_mask is {ignore_mask.dtype} {ignore_mask.shape}, "
            f"expected bool {image.shape[:2]}"
        )
    return np.where(ignore_mask[..., None], image, blended)


def panel(images: Sequence[np.ndarray], titles: Sequence[str], *, height: int) -> np.ndarray:
    """Tiles of `height` pixels side by side, aspect ratios kept, each below its title."""
    if not images or len(images) != len(titles):
        raise UserError(
            f"panel: got {len(images)} images and {len(titles)} titles, expected one title for "
            "each image and at least one image"
        )
    if height < 8:
        raise UserError(f"panel: height is {height} pixels, expected at least 8")
    tiles = [_to_height(check_image(image, f"image {i}"), height) for i, image in enumerate(images)]
    font_size = int(np.clip(height // 12, 11, 28))
    strip = int(1.7 * font_size)
    width = sum(tile.shape[1] for tile in tiles) + GAP * (len(tiles) - 1)
    canvas = Image.new("RGB", (width, strip + height), BACKGROUND)
    left = 0
    for tile, title in zip(tiles, titles, strict=True):
        canvas.paste(Image.fromarray(tile), (left, strip))
        _text(canvas, title, left + 2, strip // 2, font_size, tile.shape[1] - 4)
        left += tile.shape[1] + GAP
    return np.asarray(canvas).copy()


def legend(classes: Sequence[str], colors: np.ndarray, *, width: int = 960) -> np.ndarray:
    """A colour key `width` pixels wide: one swatch per class, row by row.

    Args:
        colors: (C, 3) uint8, in the order of `classes`.
    """
    colors = np.asarray(colors)
    if not classes or colors.dtype != np.uint8 or colors.shape != (len(classes), 3):
        raise UserError(
            f"legend: got {len(classes)} classes and colors {colors.dtype} {colors.shape}, "
            "expected one uint8 RGB row for each class"
        )
    font_size, row, swatch = 15, 26, 16
    text_width = max(_font(font_size).getlength(name) for name in classes)
    cell = min(width, int(swatch + 24 + text_width))
    columns = min(len(classes), width // cell)
    rows = -(-len(classes) // columns)
    canvas = Image.new("RGB", (width, rows * row), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, name in enumerate(classes):
        left, top = index % columns * cell + 2, index // columns * row
        box = (left, top + (row - swatch) // 2, left + swatch, top + (row + swatch) // 2)
        draw.rectangle(box, fill=tuple(int(c) for c in colors[index]), outline=INK)
        _text(canvas, name, left + swatch + 7, top + row // 2, font_size, cell - swatch - 9)
    return np.asarray(canvas).copy()


def _to_height(image: np.ndarray, height: int) -> np.ndarray:
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    # Nearest keeps the colours of an enlarged label map pure; area does not alias when shrinking.
    mode = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_NEAREST
    return cv2.resize(image, (width, height), interpolation=mode)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _text(canvas: Image.Image, text: str, left: int, middle: int, size: int, width: int) -> None:
    """Draws `text`, vertically centred on `middle`, cut with an ellipsis at `width` pixels."""
    font = _font(size)
    shown = text
    while shown and font.getlength(shown) > width:
        shown = shown.rstrip("…")[:-1]
        shown = f"{shown}…" if shown else ""
    ImageDraw.Draw(canvas).text((left, middle), shown, fill=INK, font=font, anchor="lm")
