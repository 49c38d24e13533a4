"""What the methods' own pictures show: regions (ROAD), cycles (PLCA), class shares (FCN-wild)."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from seg_adapt.losses.association import Cycles
from shared.pictures import (
    BACKGROUND,
    FONT,
    GAP,
    INK,
    class_colors,
    heat_map,
    overlay,
    panel,
    resize_to_height,
    to_array,
)

REGIONS_HEIGHT = 256  # pixels; below that, numbers could not be read
CLOSED, OPEN = (0, 200, 255), (255, 90, 0)

Grid = tuple[np.ndarray, np.ndarray]
"""Image row of each of a map's rows (h,), image column of each of its columns (w,), in pixels."""


def draw_regions(image: Tensor, regions: Tensor, probabilities: Tensor) -> np.ndarray:
    """The image under a map of P(target), divided into regions; RGB uint8, enlarged where small.

    Blue is source, red is target; each region shows its number of cells above their mean P(target).

    Args:
        image: (3, H, W) uint8.
        regions: (h, w) region of every cell, −1 for padding.
        probabilities: (h, w) in [0, 1].
    """
    pixels = to_array(image)
    enlarged = max(1, REGIONS_HEIGHT // len(pixels))
    pixels = pixels.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
    size = pixels.shape[1::-1]
    cells, shares = regions.cpu().numpy(), probabilities.float().cpu().numpy()
    index = cv2.resize(cells.astype(np.int16), size, interpolation=cv2.INTER_NEAREST)
    heat = cv2.resize(heat_map(shares), size, interpolation=cv2.INTER_NEAREST)
    drawn = overlay(pixels, heat, alpha=0.45, ignore_mask=index < 0)
    edges = np.zeros(index.shape, dtype=bool)
    edges[:, 1:] |= index[:, 1:] != index[:, :-1]
    edges[1:] |= index[1:] != index[:-1]
    drawn[edges] = 255
    for region in np.unique(index[index >= 0]):
        inside = cells == region
        rows, columns = np.nonzero(index == region)
        left, top = int(columns.min()) + 5, int(rows.min()) + 18
        for line, text in enumerate((str(inside.sum()), f"{shares[inside].mean():.2f}")):
            for color, thickness in ((BACKGROUND, 4), (INK, 1)):
                corner = (left, top + 18 * line)
                cv2.putText(drawn, text, corner, FONT, 0.5, color, thickness, cv2.LINE_AA)
    return drawn


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

    A closed cycle is blue, an open one orange; what is not labeled starts none.

    Args:
        source, target: RGB uint8 (H, W, 3).
        lattice: rows and columns over the source; the start nearest to each node gets a line.
        height: of the tiles, in pixels.
    """
    starts, middles, closed = (
        part.cpu().numpy() for part in (cycles.starts, cycles.middles, cycles.closed)
    )
    left, right = (resize_to_height(image, height) for image in (source, target))
    gap = np.full((height, 4 * GAP, 3), BACKGROUND, np.uint8)
    lines = np.hstack([left, gap, right])
    begin = _coordinates(starts, source_grid) * (height / source.shape[0])
    end = _coordinates(middles, target_grid) * (height / target.shape[0])
    end[:, 0] += left.shape[1] + gap.shape[1]
    for k in _spread(begin, left.shape[:2], lattice):
        color = CLOSED if closed[k] else OPEN
        ends = [tuple(int(value) for value in np.rint(point)) for point in (begin[k], end[k])]
        cv2.line(lines, *ends, color, 1, cv2.LINE_AA)
        for point in ends:
            cv2.circle(lines, point, 4, (0, 0, 0), cv2.FILLED, cv2.LINE_AA)
            cv2.circle(lines, point, 3, color, cv2.FILLED, cv2.LINE_AA)
    share = f"{closed.mean():.0%} closed" if len(closed) else "nothing labeled"
    return panel(
        [lines, _closed_map(source, starts, closed, source_grid)],
        ["source pixels and what they found; blue: the cycle closes", f"cycles: {share}"],
        height=height,
    )


def _coordinates(pixels: np.ndarray, grid: Grid) -> np.ndarray:
    """Flat map indices (S,) as image coordinates x, y: (S, 2)."""
    rows, columns = grid
    y, x = np.divmod(pixels, len(columns))
    return np.stack([columns[x], rows[y]], axis=1).astype(float)


def _spread(points: np.ndarray, size: tuple[int, int], lattice: tuple[int, int]) -> list[int]:
    """Indices of the points nearest to the nodes of a lattice, each once."""
    if not len(points):
        return []
    ys, xs = ((np.arange(n) + 0.5) / n * length for n, length in zip(lattice, size, strict=True))
    nodes = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 1, 2)
    return sorted({int(k) for k in np.square(nodes - points).sum(-1).argmin(1)})


def _closed_map(
    image: np.ndarray, starts: np.ndarray, closed: np.ndarray, grid: Grid
) -> np.ndarray:
    """The image under the color of each start's cycle."""
    rows, columns = grid
    cells = np.zeros((len(rows) * len(columns), 3), np.uint8)
    cells[starts] = np.where(closed[:, None], CLOSED, OPEN)
    none = np.ones(len(cells), bool)
    none[starts] = False
    nearest = [
        np.abs(centers[:, None] - np.arange(length)).argmin(0)
        for centers, length in zip(grid, image.shape[:2], strict=True)
    ]
    cell = nearest[0][:, None] * len(columns) + nearest[1]
    return overlay(image, cells[cell], 0.5, none[cell])


def draw_constraints(
    image: Tensor, before: Tensor, after: Tensor, limits: Sequence[Tensor], present: Tensor
) -> np.ndarray:
    """Image, prediction before and after, and a chart of the shares; RGB uint8 (H, W, 3).

    The chart has a row for each train id that seems present, shares from 0 to 1 on a square
    root scale: a band from lower to upper bound, a ring before, a dot after.

    Args:
        image: (3, H, W) uint8.
        before, after: probabilities (C, h, w).
        limits: lower and upper bound of every class's share, (C,) each.
        present: (C,) bool.
    """
    pixels, predictions = to_array(image), (before, after)
    # By index: a method knows no class names. Among 19 bright hues some are too near each other.
    colors = np.array(class_colors(len(before)), np.uint8)
    colors[8:] //= 2
    size = pixels.shape[1::-1]
    maps = [
        cv2.resize(colors[p.argmax(dim=0).cpu().numpy()], size, interpolation=cv2.INTER_NEAREST)
        for p in predictions
    ]
    shares = [p.mean(dim=(1, 2)).cpu().numpy() for p in predictions]
    bounds = [limit.cpu().numpy() for limit in limits]
    chart = _share_chart(shares, bounds, present.cpu().numpy(), colors)
    titles = ["target", "prediction", "within the bounds", "shares"]
    return panel([pixels, *maps, chart], titles, height=320)


def _share_chart(
    shares: Sequence[np.ndarray],
    bounds: Sequence[np.ndarray],
    present: np.ndarray,
    colors: np.ndarray,
    row: int = 24,
    width: int = 320,
) -> np.ndarray:
    """A row per present class; `shares` before and after, `bounds` lower and upper, (C,) each."""
    classes = np.flatnonzero(present)
    chart = np.full((row * max(len(classes), 8), width, 3), BACKGROUND, dtype=np.uint8)

    def column(share: float) -> int:
        return 40 + round(float(np.sqrt(share)) * (width - 52))

    for line, c in enumerate(classes):
        middle, color = line * row + row // 2, colors[c].tolist()
        cv2.putText(chart, str(c), (6, middle + 5), FONT, 0.45, INK, 1)
        low, high = (column(bound[c]) for bound in bounds)
        cv2.rectangle(chart, (low, middle - 8), (high, middle + 8), color, cv2.FILLED)
        cv2.circle(chart, (column(shares[0][c]), middle), 6, INK, 1, cv2.LINE_AA)
        cv2.circle(chart, (column(shares[1][c]), middle), 3, INK, cv2.FILLED, cv2.LINE_AA)
    return chart
