"""From the faces of a scene to pixels: what is seen where, how far away, on which surface."""

from dataclasses import dataclass

import cv2
import numpy as np

from shared.toy.frame import ToyObject
from shared.toy.scene import FRONT, GROUND, NEAR, SKY_DEPTH, WALL, Camera, Scene


@dataclass(frozen=True)
class Raster:
    """A scene in pixels.

    Args:
        face: (H, W) int32, the visible face; index of the next five.
        parts, planes, shades, owners: (F,) of the faces.
        tints: (F, 4) float32 random numbers 0..1 of the objects that the faces belong to.
        label_ids, instance_ids, objects, depth: see ToyFrame.
        across, up: (H, W) float32, metric surface coordinates for textures.
        shadow: (H, W) uint8, 0, LONG_SHADOW or CONTACT_SHADOW; meaningful on the ground.
    """

    camera: Camera
    face: np.ndarray
    parts: np.ndarray
    planes: np.ndarray
    shades: np.ndarray
    owners: np.ndarray
    tints: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray
    objects: tuple[ToyObject, ...]
    depth: np.ndarray
    across: np.ndarray
    up: np.ndarray
    shadow: np.ndarray


def rasterize(scene: Scene, height: int, width: int) -> Raster:
    painted, outline = np.zeros((2, height, width), np.int32)
    objects: list[ToyObject] = []
    silhouettes: list[int] = []
    polygons = scene.camera.polygons((face.points for face in scene.faces), height, width)
    for index, (face, polygon) in enumerate(zip(scene.faces, polygons, strict=True)):
        cv2.fillPoly(painted, [polygon], index)
        if not face.detail:
            cv2.fillPoly(outline, [polygon], len(objects))
            label, instance, depth, _ = scene.objects[face.owner]
            objects.append(ToyObject(label, polygon, instance, depth))
            silhouettes.append(index)
    parts, _, owners, planes, shades, _ = zip(*scene.faces, strict=True)
    # Paint that left the silhouette of its object is taken back. A detail may cover every part of
    # its own object, so objects are compared, not parts.
    owners = np.array(owners, np.int32)
    silhouette = np.array(silhouettes, np.int32).take(outline)
    np.copyto(painted, silhouette, where=owners.take(painted) != owners.take(silhouette))
    planes = np.array(planes)
    label_ids = np.array([item.label_id for item in objects], np.uint8)
    instance_ids = np.array([item.instance_id for item in objects], np.uint16)
    depth, across, up = _surface(scene, painted, planes)
    return Raster(
        camera=scene.camera,
        face=painted,
        parts=np.array(parts),
        planes=planes,
        shades=np.array(shades, np.float32),
        owners=owners,
        tints=np.array([item.tint for item in scene.objects], np.float32)[owners],
        label_ids=label_ids.take(outline),
        instance_ids=instance_ids.take(outline),
        objects=tuple(objects),
        depth=depth,
        across=across,
        up=up,
        shadow=_shadow(scene, height, width),
    )


def _shadow(scene: Scene, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    shadows = sorted(scene.shadows, key=lambda shadow: shadow[0])
    polygons = scene.camera.polygons((points for _, points in shadows), height, width)
    for (kind, _), polygon in zip(shadows, polygons, strict=True):
        cv2.fillPoly(mask, [polygon], kind)
    return mask


def _surface(
    scene: Scene, face: np.ndarray, planes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth and texture coordinates (across, up) of every pixel from the planes of the faces."""
    camera, (height, width) = scene.camera, face.shape
    focal = camera.focal * width
    offsets = np.array([f.points[0][2 if f.plane == FRONT else 0] for f in scene.faces])
    offsets[np.abs(offsets) < 1e-3] = 1e-3
    constant = np.where(planes == FRONT, 1.0 / offsets, 0.0).astype(np.float32)
    by_column = np.where(planes == WALL, 1.0 / (focal * offsets), 0.0).astype(np.float32)
    by_row = np.where(planes == GROUND, 1.0 / (focal * camera.height), 0.0).astype(np.float32)
    column = (np.arange(width, dtype=np.float32) + 0.5 - camera.center * width)[None, :]
    row = (np.arange(height, dtype=np.float32) + 0.5 - camera.horizon * height)[:, None]
    inverse = by_column.take(face) * column + by_row.take(face) * row + constant.take(face)
    depth = np.reciprocal(np.clip(inverse, 1.0 / SKY_DEPTH, 1.0 / NEAR))
    plane = planes.take(face)
    across = np.where(plane == WALL, depth, depth * column / focal)
    up = np.where(plane == GROUND, depth, depth * row * (-1.0 / focal) + camera.height)
    return depth, across, up
