"""The things of a toy frame as an annotator sees them: outlines, visible boxes, what is hidden."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np

from shared.toy.frame import GROUP, ToyFrame, ToyObject


@dataclass(frozen=True)
class VisibleObject:
    """An instance, or a group that nobody separated, with at least one visible pixel.

    Attributes:
        label: Cityscapes class name, without the suffix of groups.
        box: x0, y0, x1, y1 around the visible pixels: pixel indices, x1 and y1 exclusive.
        pixels: visible pixels.
        truncation: share of the silhouette that lies outside the picture.
        occlusion: share of the silhouette inside the picture that others hide.
    """

    label: str
    group: bool
    box: tuple[int, int, int, int]
    pixels: int
    truncation: float
    occlusion: float


def is_thing(part: ToyObject) -> bool:
    return part.instance > 0 or part.label.endswith(GROUP)


def shapes(objects: Sequence[ToyObject]) -> Iterator[tuple[ToyObject, ...]]:
    """The parts of every shape, in painter's order; a stuff polygon is a shape of its own."""

    def key(numbered: tuple[int, ToyObject]) -> tuple:
        number, part = numbered
        return (part.label, part.instance, part.depth) if is_thing(part) else (number,)

    for _, run in groupby(enumerate(objects), key=key):
        yield tuple(part for _, part in run)


def visible_objects(toy: ToyFrame) -> list[VisibleObject]:
    """In painter's order: the nearest last."""
    things = []
    for parts in shapes(toy.objects):
        if not is_thing(parts[0]):
            continue
        inside, outside = _silhouette(parts, toy.instance_ids.shape)
        seen = inside & (toy.instance_ids == parts[0].instance_id)
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if not rows.size:
            continue
        pixels, extent = int(np.count_nonzero(seen)), int(np.count_nonzero(inside))
        things.append(
            VisibleObject(
                label=parts[0].label.removesuffix(GROUP),
                group=parts[0].instance == 0,
                box=(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
                pixels=pixels,
                truncation=outside / (extent + outside),
                occlusion=1.0 - pixels / extent,
            )
        )
    return things


def _silhouette(parts: Sequence[ToyObject], size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The pixels of a whole shape.

    Returns:
        (H, W) bool inside the picture; the number of pixels outside, up to one picture away.
    """
    inside = _painted(parts, size).astype(bool)
    points = np.concatenate([part.polygon for part in parts])
    if _is_inside(points, size):
        return inside, 0
    # OpenCV clips edges at the canvas before it draws them, which moves a pixel here and there: the
    # wider canvas may count what is outside, but not say which pixels are inside.
    height, width = size
    left, top = np.clip(points.min(axis=0), (-width, -height), 0)
    right, bottom = np.clip(points.max(axis=0) + 1, (width, height), (2 * width, 2 * height))
    canvas = _painted(parts, (bottom - top, right - left), (int(-left), int(-top)))
    canvas[-top : height - top, -left : width - left] = 0
    return inside, int(np.count_nonzero(canvas))


def _is_inside(points: np.ndarray, size: tuple[int, int]) -> bool:
    return bool(points.min() >= 0 and (points.max(axis=0) < size[::-1]).all())


def _painted(
    parts: Sequence[ToyObject], size: tuple[int, int], offset: tuple[int, int] = (0, 0)
) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    for part in parts:
        cv2.fillPoly(mask, [part.polygon], 1, offset=offset)
    return mask


def outlines(parts: Sequence[ToyObject], size: tuple[int, int]) -> list[np.ndarray]:
    """Polygons inside the picture that `cv2.fillPoly` turns into the same pixels as `parts`.

    One polygon for every connected piece, none where the shape is out of the picture. A hole is
    linked to the border by a slit of no width.

    Returns:
        (K, 2) int32 x, y each, K at least 3.
    """
    if len(parts) == 1 and _is_inside(parts[0].polygon, size):
        return [parts[0].polygon]
    mask = _painted(parts, size)
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    pieces = {}
    for number, contour in enumerate(contours):
        parent = hierarchy[0, number, 3]
        if parent < 0:
            pieces[number] = [contour[:, 0], *pieces.get(number, [])]
        else:
            pieces.setdefault(parent, []).append(contour[:, 0])
    polygons = [_corners(_link(piece[0], piece[1:])) for piece in pieces.values()]
    again = np.zeros_like(mask)
    for polygon in polygons:
        cv2.fillPoly(again, [polygon], 1)
    # A slit that has to pass another hole cannot be drawn.
    return polygons if np.array_equal(mask, again) else [part.polygon for part in parts]


def _link(border: np.ndarray, holes: Sequence[np.ndarray]) -> np.ndarray:
    """One closed line around `border` and, through the shortest slits, around each hole."""
    for hole in holes:
        distances = ((border[:, None] - hole[None]) ** 2).sum(axis=2)
        a, b = np.unravel_index(distances.argmin(), distances.shape)
        border = np.concatenate([border[: a + 1], hole[b:], hole[: b + 1], border[a:]])
    return border


def _corners(line: np.ndarray) -> np.ndarray:
    """A closed line of pixel steps without the points inside straight runs."""
    arriving = line - np.roll(line, 1, axis=0)
    leaving = np.roll(line, -1, axis=0) - line
    corners = line[(arriving != leaving).any(axis=1)]
    # A shape of one or two pixels has as many corners; polygons need three.
    corners = corners if len(corners) else line[:1]
    return np.concatenate([corners, np.repeat(corners[-1:], max(0, 3 - len(corners)), axis=0)])
