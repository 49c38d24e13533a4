"""Labelled object crops in many styles: pre-training data for small backbones.

The photographic target ("real", "foggy") and "dusk", which shares its textures, are never drawn:
their scenes would be target labels.
"""

import cv2
import numpy as np

from shared.data.label_maps import CITYSCAPES_19, lookup_table
from shared.errors import UserError
from shared.toy.domains import CONTENTS
from shared.toy.frame import LABEL_IDS, ToyFrame
from shared.toy.render import draw
from shared.toy.styles import domain_style, random_style
from shared.toy.world import build

RANDOM = "random"
CROP_STYLES = ("game", "synthia", "summer", "fall", "winter", "clipart", "watercolor")
_RANDOM_SHARE = 0.7
_HEIGHT, _WIDTH = 256, 512
_THING_PIXELS = 60
_STUFF_PIXELS = 150
_THIN = {"pole": (10, 40), "traffic light": (14, 44), "traffic sign": (14, 44)}

_TRAIN_IDS = lookup_table("cityscapes", "cityscapes19")


def crop_style(index: int, *, seed: int) -> str:
    """The style of `render_crops(index, seed=seed)`: RANDOM or one of CROP_STYLES."""
    generator = np.random.default_rng([seed, index, 0])
    if generator.random() < _RANDOM_SHARE:
        return RANDOM
    return CROP_STYLES[int(generator.integers(len(CROP_STYLES)))]


def render_styled(index: int, *, seed: int) -> ToyFrame:
    """Scene `index` as a whole, 256 x 512, in the style of its crops."""
    return _styled(index, seed)[0]


def _styled(index: int, seed: int) -> tuple[ToyFrame, np.random.Generator]:
    name = crop_style(index, seed=seed)
    generator = np.random.default_rng([seed, index, 1])
    style = random_style(generator) if name == RANDOM else domain_style(name, generator)
    scene = build(generator, CONTENTS["crops"], _HEIGHT / _WIDTH)
    return draw(scene, style, generator, _HEIGHT, _WIDTH), generator


def render_crops(index: int, *, seed: int, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of one scene, spread evenly over the classes it shows.

    Returns:
        images (count, size, size, 3) uint8 RGB and classes (count,) int64 train ids 0..18.
    """
    if count < 1 or size < 8:
        raise UserError(f"{count} crops of {size} pixels asked for: at least 1 of 8 pixels")
    frame, generator = _styled(index, seed)
    train_ids = _TRAIN_IDS[frame.label_ids]
    candidates = _Candidates(frame, train_ids)
    order = candidates.classes(generator)
    images = np.empty((count, size, size, 3), np.uint8)
    classes = np.empty(count, np.int64)
    for k in range(count):
        label = order[k % len(order)]
        x, y, side = candidates.window(label, generator)
        patch = frame.image[y : y + side, x : x + side]
        method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        images[k] = cv2.resize(patch, (size, size), interpolation=method)
        classes[k] = label
    return images, classes


class _Candidates:
    """Where a scene shows each class."""

    def __init__(self, frame: ToyFrame, train_ids: np.ndarray) -> None:
        self.train_ids = train_ids
        self.counts = np.bincount(train_ids.reshape(-1), minlength=256)[: len(CITYSCAPES_19)]
        self.boxes: dict[int, list[tuple[int, int, int, int]]] = {}
        self.pixels: dict[int, np.ndarray] = {}
        self._collect_boxes(frame)

    def _collect_boxes(self, frame: ToyFrame) -> None:
        """Visible extents of the things, from the outlines of their parts."""
        outlines: dict[int, list[np.ndarray]] = {}
        for item in frame.objects:
            if item.instance:
                outlines.setdefault(item.instance_id, []).append(item.polygon)
        visible = np.bincount(frame.instance_ids.reshape(-1), minlength=34000)
        for instance, parts in outlines.items():
            if visible[instance] < _THING_PIXELS:
                continue
            points = np.concatenate(parts)
            left, top = np.maximum(points.min(axis=0), 0)
            right, bottom = np.minimum(points.max(axis=0) + 1, (_WIDTH, _HEIGHT))
            box = (int(left), int(top), int(right), int(bottom))
            # A thing that is mostly hidden would be labelled as what hides it.
            if visible[instance] > 0.25 * (box[2] - box[0]) * (box[3] - box[1]):
                self.boxes.setdefault(int(_TRAIN_IDS[instance // 1000]), []).append(box)

    def classes(self, generator: np.random.Generator) -> list[int]:
        """The classes with something to show, in random order."""
        present = []
        for label, name in enumerate(CITYSCAPES_19):
            if label in self.boxes:
                present.append(label)
            elif LABEL_IDS[name] < LABEL_IDS["person"]:
                enough = _THING_PIXELS if name in _THIN else _STUFF_PIXELS
                if self.counts[label] >= enough:
                    present.append(label)
        return [present[k] for k in generator.permutation(len(present))]

    def window(self, label: int, generator: np.random.Generator) -> tuple[int, int, int]:
        """Left, top and side of a square in which the class dominates or is centered."""
        if label in self.boxes:
            boxes = self.boxes[label]
            left, top, right, bottom = boxes[int(generator.integers(len(boxes)))]
            longer, shorter = max(right - left, bottom - top), min(right - left, bottom - top)
            # Long things (a tram in perspective) are cut; others are shown whole.
            extent = min(longer, 2.5 * shorter)
            side = extent * generator.uniform(1.0, 1.5)
            x, y = 0.5 * (left + right), 0.5 * (top + bottom)
            return _fit(x, y, side)
        low, high = _THIN.get(CITYSCAPES_19[label], (20, 100))
        if label not in self.pixels:
            self.pixels[label] = np.flatnonzero(self.train_ids == label)
        pixels = self.pixels[label]
        best, best_share = None, -1.0
        for _ in range(4):
            y, x = divmod(int(pixels[int(generator.integers(len(pixels)))]), _WIDTH)
            window = _fit(x, y, generator.uniform(low, high))
            left, top, side = window
            share = float((self.train_ids[top : top + side, left : left + side] == label).mean())
            if share > best_share:
                best, best_share = window, share
            if share > 0.6:
                break
        return best


def _fit(x: float, y: float, side: float) -> tuple[int, int, int]:
    """A square around (x, y), moved and shrunk to lie inside the picture."""
    side = int(min(max(side, 12.0), _HEIGHT))
    left = int(min(max(x - side / 2, 0), _WIDTH - side))
    top = int(min(max(y - side / 2, 0), _HEIGHT - side))
    return left, top, side
