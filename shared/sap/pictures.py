"""The paper's Fig. 2: where every level looks, and how much it counts."""

from collections.abc import Sequence

import cv2
import numpy as np

from shared.pictures import BACKGROUND, FONT, IGNORED, INK, heat_map, overlay, panel
from shared.sap.module import SapOutputs

# Attention is drawn as a multiple of uniform attention, from a quarter over one to four times.
_OCTAVES = 2
_MULTIPLES = ("4", "2", "1", "1/2", "1/4")
_LINE = (30, 90, 220)


def draw_pyramid(
    images: Sequence[np.ndarray],
    outputs: SapOutputs,
    levels: Sequence[int],
    *,
    title: str = "input",
    height: int = 192,
) -> np.ndarray:
    """One row per image: the input, its mask of every level, resized to the input, the colors of
    masks, and the curve of the levels' weights.

    A title gives the window kⁿ and the level's weight, the mean of φⁿ over channels. Colors are of
    ωⁿ times its cells: a mask that attends to all cells alike is all 1, green. A level of one cell
    has no mask to show and is left gray.

    Args:
        images: N RGB uint8 arrays (H, W, 3) of one size.
        outputs: of these images, with masks.
        levels: kⁿ.
        title: of the inputs.
        height: of a row's pictures, in pixels.
    """
    rows = []
    for index, image in enumerate(images):
        weights = np.full(len(levels), 1 / len(levels))
        if outputs.level_weights is not None:
            weights = outputs.level_weights[index].float().mean(dim=1).cpu().numpy()
        masks = [mask[index, 0].float().cpu().numpy() for mask in outputs.masks]
        tiles = [image, *(_draw_mask(image, mask) for mask in masks)]
        titles = [f"k {k}: {weight:.3f}" for k, weight in zip(levels, weights, strict=True)]
        tiles += [_draw_scale(height), _draw_weights(weights, levels, height)]
        rows.append(panel(tiles, [title, *titles, "1: uniform", "weights"], height=height))
    return np.vstack(rows)


def _draw_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if mask.size == 1:
        return np.full_like(image, 128)
    octaves = np.log2(np.maximum(mask * mask.size, 2.0**-16))
    octaves = cv2.resize(octaves, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return overlay(image, heat_map(octaves, -_OCTAVES, _OCTAVES), alpha=0.6)


def _draw_scale(height: int) -> np.ndarray:
    """The colors of masks, the highest multiple at the top."""
    tile = np.full((height, height // 2, 3), BACKGROUND, np.uint8)
    octaves = np.linspace(_OCTAVES, -_OCTAVES, height)[:, None]
    tile[:, : height // 6] = heat_map(np.repeat(octaves, height // 6, axis=1), -_OCTAVES, _OCTAVES)
    size = height / 480
    for multiple, row in zip(_MULTIPLES, np.linspace(0, height, len(_MULTIPLES)), strict=True):
        text_height = cv2.getTextSize(multiple, FONT, size, 1)[0][1]
        bottom = int(np.clip(row + text_height / 2, text_height + 1, height - 2))
        _write(tile, multiple, height // 6 + 4, bottom, size)
    return tile


def _draw_weights(weights: np.ndarray, levels: Sequence[int], height: int) -> np.ndarray:
    """A line from level to level, over their windows; gray: equal weights."""
    count, margin = len(weights), height // 8
    width = max(3 * height // 2, count * height // 8)
    tile = np.full((height, width, 3), BACKGROUND, np.uint8)
    largest = max(2 / count, float(weights.max()))

    def row(weight: float) -> int:
        return round(height - margin - weight / largest * (height - 2 * margin))

    columns = np.linspace(margin, width - margin, count).astype(int).tolist()
    points = [(x, row(weight)) for x, weight in zip(columns, weights, strict=True)]
    cv2.line(tile, (margin, row(1 / count)), (width - margin, row(1 / count)), IGNORED, 1)
    cv2.polylines(tile, [np.array(points)], False, _LINE, 2, cv2.LINE_AA)
    for level, point in zip(levels, points, strict=True):
        cv2.circle(tile, point, max(2, height // 64), _LINE, cv2.FILLED, cv2.LINE_AA)
        _write(tile, str(level), point[0] - margin // 4, height - 3, height / 560)
    return tile


def _write(tile: np.ndarray, text: str, left: int, bottom: int, size: float) -> None:
    cv2.putText(tile, text, (left, bottom), FONT, size, INK, 1, cv2.LINE_AA)
