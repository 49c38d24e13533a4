"""A scene as painted planar faces in world metres, and its rasterisation.

World axes: x right, y up from the road surface, z forward from the camera.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from shared.toy.draws import Draws
from shared.toy.frame import THINGS, ToyObject
from shared.toy.palettes import PART_INDEX

Points = Sequence[tuple[float, float, float]]

SKY_DEPTH = 1000.0
NEAR = 1.0
FRONT, WALL, GROUND = 0, 1, 2  # planes of constant z, x and y: inverse depth is affine in pixels
LONG_SHADOW, CONTACT_SHADOW = 128, 255


@dataclass(frozen=True)
class Camera:
    """Pinhole without roll; pitch is a shift of the horizon, yaw of the vanishing point.

    Args:
        focal: focal length in picture widths.
        centre: vanishing point, fraction of the width.
        horizon: fraction of the height.
        height: metres above the road.
    """

    focal: float
    centre: float
    horizon: float
    height: float


@dataclass(frozen=True)
class Raster:
    """A scene in pixels.

    Args:
        face: (H, W) int32, the visible face.
        label_ids, instance_ids: see ToyFrame.
        depth: (H, W) float32 metres.
        across, up: (H, W) float32, metric surface coordinates for textures.
        shadow: (H, W) uint8, 0, LONG_SHADOW or CONTACT_SHADOW; meaningful on the ground.
        objects: see ToyFrame.
    """

    face: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray
    depth: np.ndarray
    across: np.ndarray
    up: np.ndarray
    shadow: np.ndarray
    objects: tuple[ToyObject, ...]


class Scene:
    """Records faces in painter's order.

    `begin` starts an object; `face` adds a part of its silhouette (which carries the label) or,
    with detail=True, paint on it: details never reach beyond the silhouette.
    """

    def __init__(self, camera: Camera, draws: Draws, aspect: float) -> None:
        self.camera = camera
        self.aspect = aspect  # height / width
        self.vertices: list[tuple[float, float, float]] = []
        self.ends: list[int] = []
        self.parts: list[int] = []
        self.shades: list[float] = []
        self.planes: list[int] = []
        self.offsets: list[float] = []
        self.tint_of: list[int] = []
        self.silhouette: list[bool] = []
        self.labels: list[tuple[str, int, float]] = []
        self.tints: list[tuple[float, float, float, float]] = []
        self.shadow_polygons: list[tuple[Points, int]] = []
        self._draws = draws
        self._counts: dict[str, int] = defaultdict(int)
        self._current = ("sky", 0, SKY_DEPTH)

    def begin(self, label: str, depth: float) -> None:
        """Start a new object (a new instance where the label is a thing) with its own tint."""
        instance = 0
        if label in THINGS:
            self._counts[label] += 1
            instance = self._counts[label]
        self._current = (label, instance, depth)
        unit = self._draws.unit
        self.tints.append((unit(), unit(), unit(), unit()))

    def face(
        self,
        part: str,
        points: Points,
        *,
        plane: int = FRONT,
        shade: float = 1.0,
        detail: bool = False,
    ) -> None:
        """Paint a polygon. Its plane's offset is read from the first point.

        Args:
            shade: brightness of this orientation against a face towards the camera.
        """
        self.vertices.extend(points)
        self.ends.append(len(self.vertices))
        self.parts.append(PART_INDEX[part])
        self.shades.append(shade)
        self.planes.append(plane)
        self.offsets.append(points[0][2] if plane == FRONT else points[0][0])
        self.tint_of.append(len(self.tints) - 1)
        self.silhouette.append(not detail)
        self.labels.append(self._current)

    def flat(
        self,
        part: str,
        x: float,
        z: float,
        outline: Sequence[tuple[float, float]],
        *,
        shade: float = 1.0,
        detail: bool = False,
    ) -> None:
        """A face towards the camera; `outline` is (right, up) in metres around (x, 0)."""
        self.face(part, [(x + u, v, z) for u, v in outline], shade=shade, detail=detail)

    def strip(
        self, part: str, left: float, right: float, near: float, far: float, detail: bool = False
    ) -> None:
        """A rectangle of the ground."""
        near = max(near, NEAR)
        corners = [(left, 0.0, near), (right, 0.0, near), (right, 0.0, far), (left, 0.0, far)]
        self.face(part, corners, plane=GROUND, detail=detail)

    def shadow(self, points: Points, kind: int) -> None:
        self.shadow_polygons.append((points, kind))

    def at_picture(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """The world point of depth z seen at fraction x of the width and y of the height."""
        camera = self.camera
        right = (x - camera.centre) * z / camera.focal
        down = (y - camera.horizon) * self.aspect * z / camera.focal
        return (right, camera.height - down, z)

    def _project(self, points: np.ndarray, height: int, width: int) -> np.ndarray:
        """World (N, 3) to pixels (N, 2) int32."""
        camera = self.camera
        scale = camera.focal * width / points[:, 2]
        pixels = np.empty((len(points), 2), np.float64)
        pixels[:, 0] = camera.centre * width + points[:, 0] * scale
        pixels[:, 1] = camera.horizon * height + (camera.height - points[:, 1]) * scale
        return np.rint(pixels - 0.5).astype(np.int32)

    def rasterise(self, height: int, width: int) -> Raster:
        pixels = self._project(np.array(self.vertices), height, width)
        painted = np.zeros((height, width), np.int32)
        owner = np.zeros((height, width), np.int32)
        objects: list[ToyObject] = []
        base: list[int] = []
        object_of: list[int] = []
        start = 0
        for index, (end, outline) in enumerate(zip(self.ends, self.silhouette, strict=True)):
            polygon = pixels[start:end]
            start = end
            cv2.fillPoly(painted, [polygon], index)
            if outline:
                cv2.fillPoly(owner, [polygon], len(objects))
                label, instance, depth = self.labels[index]
                objects.append(ToyObject(label, polygon, instance, depth))
                base.append(index)
            object_of.append(len(objects) - 1)
        face = self._clip_details(painted, owner, object_of, base)
        label_table = np.array([o.label_id for o in objects], np.uint8)
        instance_table = np.array([o.instance_id for o in objects], np.uint16)
        return Raster(
            face=face,
            label_ids=label_table.take(owner),
            instance_ids=instance_table.take(owner),
            shadow=self._shadows(height, width),
            objects=tuple(objects),
            **self._surface(face, height, width),
        )

    def _clip_details(
        self, painted: np.ndarray, owner: np.ndarray, object_of: list[int], base: list[int]
    ) -> np.ndarray:
        """The visible face, with paint that left the silhouette of its thing taken back."""
        # A detail may cover every part of its own thing, so things are compared, not parts.
        thing = [self.tint_of[index] for index in base]
        thing_of_face = np.array([thing[k] for k in object_of], np.int32)
        stray = thing_of_face.take(painted) != np.array(thing, np.int32).take(owner)
        np.copyto(painted, np.array(base, np.int32).take(owner), where=stray)
        return painted

    def _shadows(self, height: int, width: int) -> np.ndarray:
        mask = np.zeros((height, width), np.uint8)
        if not self.shadow_polygons:
            return mask
        every = [p for points, _ in self.shadow_polygons for p in points]
        pixels = self._project(np.array(every), height, width)
        start = 0
        spans = []
        for points, kind in self.shadow_polygons:
            spans.append((kind, pixels[start : start + len(points)]))
            start += len(points)
        for kind, polygon in sorted(spans, key=lambda span: span[0]):
            cv2.fillPoly(mask, [polygon], kind)
        return mask

    def _surface(self, face: np.ndarray, height: int, width: int) -> dict[str, np.ndarray]:
        """Depth and texture coordinates of every pixel from the planes of the faces."""
        camera = self.camera
        focal = camera.focal * width
        planes = np.array(self.planes)
        offsets = np.array(self.offsets)
        safe = np.where(np.abs(offsets) < 1e-3, 1e-3, offsets)
        constant = np.where(planes == FRONT, 1.0 / safe, 0.0).astype(np.float32)
        by_column = np.where(planes == WALL, 1.0 / (focal * safe), 0.0).astype(np.float32)
        by_row = np.where(planes == GROUND, 1.0 / (focal * camera.height), 0.0).astype(np.float32)
        column = (np.arange(width, dtype=np.float32) + 0.5 - camera.centre * width)[None, :]
        row = (np.arange(height, dtype=np.float32) + 0.5 - camera.horizon * height)[:, None]
        inverse = by_column.take(face)
        inverse *= column
        part = by_row.take(face)
        part *= row
        inverse += part
        inverse += constant.take(face)
        np.clip(inverse, 1.0 / SKY_DEPTH, 1.0 / NEAR, out=inverse)
        depth = np.reciprocal(inverse)
        kind = planes.astype(np.uint8).take(face)
        across = depth * column
        across /= focal
        np.copyto(across, depth, where=kind == WALL)
        up = depth * row
        up *= -1.0 / focal
        up += camera.height
        np.copyto(up, depth, where=kind == GROUND)
        return {"depth": depth, "across": across, "up": up}
