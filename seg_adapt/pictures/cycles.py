"""What an association found, as a picture."""

import cv2
import numpy as np

from seg_adapt.losses.association.cycles import Cycles
from shared.visualize import BACKGROUND, GAP, overlay, panel

CLOSED, OPEN = (0, 200, 255), (255, 90, 0)

Grid = tuple[np.ndarray, np.ndarray]
"""Image row of each of a map's rows (h,), image column of each of its columns (w,), in pixels."""


def draw_cycles(
    source: np.ndarray,
    target: np.ndarray,
    cycles: Cycles,
    source_grid: Grid,
    target_grid: Grid,
    *,
    lattice: tuple[int, int] = (4, 6),
    height: int = 384,
) -> np.ndarray:
    """One pair: from source pixels lines to the target pixels they found, and where cycles close.

    A closed cycle is blue, an open one orange; what is not labelled starts none.

    Args:
        source, target: RGB uint8 (H, W, 3).
        lattice: rows and columns over the source; the start nearest to each node gets a line.
        height: of the tiles, in pixels.
    """
    starts, middles, closed = (
        part.cpu().numpy() for part in (cycles.starts, cycles.middles, cycles.closed)
    )
    left, right = (_to_height(image, height) for image in (source, target))
    gap = np.full((height, 4 * GAP, 3), BACKGROUND, np.uint8)
    lines = np.hstack([left, gap, right])
    begin = _places(starts, source_grid) * (height / source.shape[0])
    end = _places(middles, target_grid) * (height / target.shape[0])
    end[:, 0] += left.shape[1] + gap.shape[1]
    for k in _spread(begin, left.shape[:2], lattice):
        color = CLOSED if closed[k] else OPEN
        ends = [tuple(int(value) for value in np.rint(place)) for place in (begin[k], end[k])]
        cv2.line(lines, *ends, color, 1, cv2.LINE_AA)
        for place in ends:
            cv2.circle(lines, place, 4, (0, 0, 0), cv2.FILLED, cv2.LINE_AA)
            cv2.circle(lines, place, 3, color, cv2.FILLED, cv2.LINE_AA)
    share = f"{closed.mean():.0%} closed" if len(closed) else "nothing labelled"
    return panel(
        [lines, _closed_map(source, starts, closed, source_grid)],
        ["source pixels and what they found; blue: the cycle closes", f"cycles: {share}"],
        height=height,
    )


def _to_height(image: np.ndarray, height: int) -> np.ndarray:
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _places(pixels: np.ndarray, grid: Grid) -> np.ndarray:
    """Flat map indices (S,) as image coordinates x, y: (S, 2)."""
    rows, columns = grid
    y, x = np.divmod(pixels, len(columns))
    return np.stack([columns[x], rows[y]], axis=1).astype(float)


def _spread(places: np.ndarray, size: tuple[int, int], lattice: tuple[int, int]) -> list[int]:
    """Indices of the places nearest to the nodes of a lattice, each once."""
    if not len(places):
        return []
    ys, xs = ((np.arange(n) + 0.5) / n * length for n, length in zip(lattice, size, strict=True))
    nodes = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 1, 2)
    return sorted({int(k) for k in np.square(nodes - places).sum(-1).argmin(1)})


def _closed_map(
    image: np.ndarray, starts: np.ndarray, closed: np.ndarray, grid: Grid
) -> np.ndarray:
    """The image under the colour of each start's cycle."""
    rows, columns = grid
    cells = np.zeros((len(rows) * len(columns), 3), np.uint8)
    cells[starts] = np.where(closed[:, None], CLOSED, OPEN)
    none = np.ones(len(cells), bool)
    none[starts] = False
    nearest = [
        np.abs(centres[:, None] - np.arange(length)).argmin(0)
        for centres, length in zip(grid, image.shape[:2], strict=True)
    ]
    cell = nearest[0][:, None] * len(columns) + nearest[1]
    return overlay(image, cells[cell], 0.5, none[cell])
