"""A scene as painted planar faces in world meters.

World axes: x right, y up from the road surface, z forward from the camera.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from shared.toy.frame import THINGS
from shared.toy.palettes import PART_INDEX

T = TypeVar("T")
Points = Sequence[tuple[float, float, float]]
Outline = list[tuple[float, float]]

SKY_DEPTH = 1000.0
NEAR = 1.0
FRONT, WALL, GROUND = 0, 1, 2  # planes of constant z, x and y: inverse depth is affine in pixels
LONG_SHADOW, CONTACT_SHADOW = 128, 255
CIRCLE = [(math.cos(math.tau * k / 10), math.sin(math.tau * k / 10)) for k in range(10)]


def box(left: float, bottom: float, right: float, top: float) -> Outline:
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def oval(x: float, y: float, rx: float, ry: float | None = None) -> Outline:
    """Around (x, y); a circle where only one radius is given."""
    return [(x + rx * c, y + (rx if ry is None else ry) * s) for c, s in CIRCLE]


class Draws:
    """A pool of uniform numbers drawn in blocks: one NumPy call per 1024 scalars."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._pool: list[float] = []

    def unit(self) -> float:
        if not self._pool:
            self._pool = self._generator.random(1024).tolist()
        return self._pool.pop()

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def count(self, mean: float) -> int:
        """An integer with this mean: uniform on 0..2·mean, the fraction rounded at random."""
        return int(self.between(0.0, 2.0 * mean) + self.unit())

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.unit() * len(items))]


@dataclass(frozen=True)
class Camera:
    """Pinhole without roll; pitch is a shift of the horizon, yaw of the vanishing point.

    Args:
        focal: focal length in picture widths.
        center: vanishing point, fraction of the width.
        horizon: fraction of the height.
        height: meters above the road.
    """

    focal: float
    center: float
    horizon: float
    height: float

    def project(self, points: Points, height: int, width: int) -> np.ndarray:
        """World meters to pixels (N, 2) int32."""
        points = np.array(points)
        scale = self.focal * width / points[:, 2]
        x = self.center * width + points[:, 0] * scale
        y = self.horizon * height + (self.height - points[:, 1]) * scale
        return np.rint(np.stack([x, y], axis=1) - 0.5).astype(np.int32)

    def polygons(self, shapes: Iterable[Points], height: int, width: int) -> list[np.ndarray]:
        """Every shape's pixels (K, 2) int32."""
        shapes = list(shapes)
        if not shapes:
            return []
        ends = np.cumsum([len(points) for points in shapes])
        pixels = self.project([p for points in shapes for p in points], height, width)
        return np.split(pixels, ends[:-1])


class Face(NamedTuple):
    """A polygon in the world.

    Args:
        owner: number of the object that it belongs to.
        shade: brightness of its orientation against a face towards the camera.
        detail: paint on the silhouette of its object, not part of it.
    """

    part: int
    points: Points
    owner: int
    plane: int
    shade: float
    detail: bool


class SceneObject(NamedTuple):
    label: str
    instance: int
    depth: float
    tint: tuple[float, float, float, float]


class Scene:
    """Records faces in painter's order.

    `begin` starts an object; a face is a part of its silhouette (which carries the label) or, with
    detail=True, paint on it: details never reach beyond the silhouette.

    Args:
        aspect: height / width of the picture.
    """

    def __init__(self, camera: Camera, draws: Draws, aspect: float) -> None:
        self.camera, self.draws, self.aspect = camera, draws, aspect
        self.faces: list[Face] = []
        self.objects: list[SceneObject] = []
        self.shadows: list[tuple[int, Points]] = []
        self._counts: Counter[str] = Counter()

    def begin(self, label: str, x: float, z: float, angle: float = 0.0) -> Callable[..., None]:
        """A new object at depth z (a new instance where the label is a thing).

        Returns:
            `upright(x, z, angle)`.
        """
        self._counts[label] += 1
        instance = self._counts[label] if label in THINGS else 0
        unit = self.draws.unit
        self.objects.append(SceneObject(label, instance, z, (unit(), unit(), unit(), unit())))
        return self.upright(x, z, angle)

    def upright(self, x: float, z: float, angle: float = 0.0) -> Callable[..., None]:
        """`paint(part, outline, shade=1.0, detail=False)` for outlines (right, up) in meters.

        They stand on the ground at (x, z), turned by `angle` from the picture.
        """
        c, s = math.cos(angle), abs(math.sin(angle))

        def paint(part: str, outline: Outline, shade: float = 1.0, detail: bool = False) -> None:
            points = [(x + u * c, v, z + u * s) for u, v in outline]
            self.face(part, points, shade=shade, detail=detail)

        return paint

    def face(
        self,
        part: str,
        points: Points,
        *,
        plane: int = FRONT,
        shade: float = 1.0,
        detail: bool = False,
    ) -> None:
        """Paint a polygon. Its plane's offset is read from the first point."""
        face = Face(PART_INDEX[part], points, len(self.objects) - 1, plane, shade, detail)
        self.faces.append(face)

    def strip(
        self,
        part: str,
        left: float,
        right: float,
        near: float = NEAR,
        far: float = 900.0,
        detail: bool = False,
    ) -> None:
        """A rectangle of the ground, by default as long as the street."""
        corners = [(x, 0.0, z) for x, z in box(left, max(near, NEAR), right, far)]
        self.face(part, corners, plane=GROUND, detail=detail)

    def cast_shadows(
        self, left: float, right: float, near: float, far: float, height: float
    ) -> None:
        """Contact and cast shadow of a box-shaped object."""
        near = max(near, 1.2)
        contact = [(left, 0.0, near - 0.15), (right, 0.0, near - 0.15), (right, 0.0, far)]
        self.shadows.append((CONTACT_SHADOW, [*contact, (left, 0.0, far)]))
        throw = 0.8 * height
        cast = [(left, 0.0, near), (right, 0.0, near), (right + throw, 0.0, near + 0.4 * throw)]
        cast += [(right + throw, 0.0, far + 0.4 * throw), (left + throw, 0.0, far + 0.4 * throw)]
        self.shadows.append((LONG_SHADOW, [*cast, (left, 0.0, far)]))

    def narrow_shadow(self, x: float, z: float, half: float, height: float) -> None:
        """Contact and cast shadow of a narrow upright object."""
        self.cast_shadows(x - half, x + half, z - half * 0.5, z + half * 0.5, height)

    def at_picture(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """The world point of depth z seen at fraction x of the width and y of the height."""
        camera = self.camera
        right = (x - camera.center) * z / camera.focal
        down = (y - camera.horizon) * self.aspect * z / camera.focal
        return (right, camera.height - down, z)
