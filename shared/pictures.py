"""What pictures are made of: overlays, heat maps, boxes, panels of titled tiles.

Every image is an RGB uint8 array (H, W, 3); every function returns a new array.
"""

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from shared.errors import UserError

Color = tuple[int, int, int]
Item = TypeVar("Item")

BACKGROUND = (255, 255, 255)
INK = (24, 24, 27)
IGNORED = (160, 160, 160)  # boxes that neither count as found nor as missed
GAP = 6
FONT = cv2.FONT_HERSHEY_SIMPLEX
MASK_ALPHA = 0.45


def check_image(image: np.ndarray, name: str = "image") -> np.ndarray:
    """`image` itself where it is a non-empty RGB uint8 array (H, W, 3); UserError otherwise."""
    dtype, shape = getattr(image, "dtype", None), tuple(getattr(image, "shape", ()))
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise UserError(
            f"{name}: got {dtype or type(image).__name__} {shape}, expected a uint8 RGB array "
            "(height, width, 3)"
        )
    return image


def to_array(image: Tensor) -> np.ndarray:
    """(3, H, W) uint8 as an array (H, W, 3)."""
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items from the first to the last."""
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[round(place)] for place in places]


def class_colors(count: int) -> list[Color]:
    """RGB by class index: hues apart, the same at every call."""
    # The golden section keeps any number of hues apart without knowing how many will come.
    hues = (np.arange(count) * 180 / 1.618).astype(int) % 180
    pixels = np.stack([hues, np.full(count, 220), np.full(count, 255)], axis=1)
    colors = cv2.cvtColor(pixels.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]
    return [tuple(int(c) for c in color) for color in colors]


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


def heat_map(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Values (H, W) as colors from blue at `low` over green to red at `high`."""
    levels = np.clip((values - low) * (255 / max(high - low, 1e-6)), 0, 255)
    colors = cv2.applyColorMap(np.rint(levels).astype(np.uint8), cv2.COLORMAP_TURBO)
    return cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)


def draw_boxes(
    image: np.ndarray,
    boxes: Sequence[tuple[Sequence[float], Color, str]],
    masks: np.ndarray | None = None,
    *,
    thickness: int | None = None,
    font_scale: float | None = None,
) -> np.ndarray:
    """Boxes with their texts over their masks, the first on top.

    Args:
        boxes: (x1, y1, x2, y2) in pixels, color and text; an empty text is not drawn.
        masks: (len(boxes), H, W) bool.
        thickness: of the outlines in pixels; None, like font_scale: by the image's size.
    """
    drawn = check_image(image).copy()
    if masks is not None and len(masks):
        colors = np.zeros_like(drawn)
        for mask, (_, color, _) in reversed(list(zip(masks, boxes, strict=True))):
            colors[mask] = color
        drawn = overlay(drawn, colors, MASK_ALPHA, ~masks.any(axis=0))
    side = min(drawn.shape[:2])
    thickness = thickness or max(1, round(side / 250))
    font_scale = font_scale or max(0.3, side / 1600)
    for corners, color, text in reversed(boxes):
        x1, y1, x2, y2 = (round(edge) for edge in corners)
        cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), color, thickness)
        if text:
            _label(drawn, text, x1, y1, color, font_scale)
    return drawn


def resize_to_height(image: np.ndarray, height: int) -> np.ndarray:
    """`image` with `height` rows and its aspect ratio."""
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    # Nearest keeps the colors of an enlarged label map pure; area does not alias when shrinking.
    mode = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_NEAREST
    return cv2.resize(image, (width, height), interpolation=mode)


def panel(images: Sequence[np.ndarray], titles: Sequence[str], *, height: int) -> np.ndarray:
    """Tiles of `height` pixels side by side, aspect ratios kept, each below its title."""
    if not images or len(images) != len(titles):
        raise UserError(
            f"panel: got {len(images)} images and {len(titles)} titles, expected one title for "
            "each image and at least one image"
        )
    if height < 8:
        raise UserError(f"panel: height is {height} pixels, expected at least 8")
    tiles = [
        resize_to_height(check_image(image, f"image {i}"), height) for i, image in enumerate(images)
    ]
    font_size = int(np.clip(height // 12, 11, 28))
    strip = int(1.7 * font_size)
    width = sum(tile.shape[1] for tile in tiles) + GAP * (len(tiles) - 1)
    canvas = Image.new("RGB", (width, strip + height), BACKGROUND)
    left = 0
    for tile, title in zip(tiles, titles, strict=True):
        canvas.paste(Image.fromarray(tile), (left, strip))
        _title(canvas, title, left + 2, strip // 2, font_size, tile.shape[1] - 4)
        left += tile.shape[1] + GAP
    return np.asarray(canvas).copy()


def sheet(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Panels below one another, aligned on the left, with a margin around all."""
    height, width = sum(len(row) for row in rows), max(row.shape[1] for row in rows)
    canvas = np.full((height + 2 * GAP, width + 2 * GAP, 3), BACKGROUND, np.uint8)
    top = GAP
    for row in rows:
        canvas[top : top + len(row), GAP : GAP + row.shape[1]] = row
        top += len(row)
    return canvas


def _label(
    drawn: np.ndarray, text: str, left: int, bottom: int, color: Color, scale: float
) -> None:
    """White on half the color's brightness, above a box's top left corner."""
    (width, height), below = cv2.getTextSize(text, FONT, scale, 1)
    bottom = max(bottom, height + below)
    corner = (left + width, bottom - height - below)
    cv2.rectangle(drawn, (left, bottom), corner, [c // 2 for c in color], cv2.FILLED)
    cv2.putText(drawn, text, (left, bottom - below), FONT, scale, BACKGROUND, 1, cv2.LINE_AA)


def _title(canvas: Image.Image, text: str, left: int, middle: int, size: int, width: int) -> None:
    """Draws `text`, vertically centered on `middle`, cut with an ellipsis at `width` pixels."""
    font = ImageFont.load_default(size=size)
    cut = text
    while cut and font.getlength(cut) > width:
        cut = cut.rstrip("…")[:-1]
        cut = f"{cut}…" if cut else ""
    ImageDraw.Draw(canvas).text((left, middle), cut, fill=INK, font=font, anchor="lm")
