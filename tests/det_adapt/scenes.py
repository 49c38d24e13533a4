"""Records and detections made up for the tests of the measures."""

import cv2
import numpy as np
import torch

from det_adapt.structures import Detections
from shared.data.catalog import load_detection
from shared.data.cityscapes import read_instance_ids
from shared.data.images import write_png
from shared.data.records import Annotation, DetectionDataset, DetectionRecord

CLASSES = ("car", "person", "bus")
SIZE = (120, 160)
CELL = 40


def annotation(category="car", box=(0, 0, 10, 10), **flags):
    return Annotation(category, tuple(map(float, box)), **flags)


def record(name, *annotations, size=SIZE):
    return DetectionRecord(name, None, *size, annotations)


def dataset(*records, classes=CLASSES):
    return DetectionDataset("made up", records, classes)


def detections(*things, masks=None):
    """Of (class index, score, box)."""
    classes, scores, boxes = zip(*things, strict=True) if things else ((), (), ())
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(classes, dtype=torch.int64),
        masks,
    )


def random_scenes(seed, frames=12, *, apart=False, ignored=0.0, digits=None, classes=CLASSES):
    """A data set with integer boxes, and detections by frame: near the truth, or anywhere.

    Args:
        apart: true boxes of a frame do not touch.
        ignored: share of difficult things, and of crowds.
        digits: of scores and boxes; few give ties.
    """
    rng = np.random.default_rng(seed)
    records, found = [], {}
    for i in range(frames):
        cells = rng.permutation((SIZE[0] // CELL) * (SIZE[1] // CELL))[: rng.integers(0, 8)]
        truths, things = [], []
        for cell in cells:
            corner = np.array([cell % 4, cell // 4]) * CELL if apart else rng.integers(0, 90, 2)
            box = np.concatenate([corner + rng.integers(0, 8, 2), corner + rng.integers(20, 30, 2)])
            index = rng.integers(len(classes))
            difficult, crowd = rng.random(2) < ignored
            truths.append(
                annotation(classes[index], box, difficult=bool(difficult), crowd=bool(crowd))
            )
            for _ in range(rng.integers(0, 4)):
                guess = index if rng.random() < 0.8 else rng.integers(len(classes))
                things.append((int(guess), rng.random(), box + rng.normal(0, 2.5, 4)))
        for _ in range(rng.integers(0, 3)):
            x, y = rng.random(2) * 80
            anywhere = np.array([x, y, x + 25, y + 25])
            things.append((int(rng.integers(len(classes))), rng.random(), anywhere))
        if digits is not None:
            things = [(c, round(s, digits), np.round(b, digits)) for c, s, b in things]
        things.sort(key=lambda thing: -thing[1])
        name = f"frame {i:02}"
        records.append(record(name, *truths))
        found[name] = detections(*[(c, s, tuple(map(float, b))) for c, s, b in things])
    return dataset(*records, classes=classes), found


def evaluated(evaluation, found):
    for name, of_frame in found.items():
        evaluation.update(name, of_frame)
    return evaluation


STUFF, VOID, THINGS = (7, 11, 21), (0, 3, 4), (24, 25, 26, 27, 28, 31, 32, 33)


def draw_cityscapes(root, seed, frames=6, size=(96, 160), classes=THINGS):
    """A validation split in Cityscapes' layout: ellipses, groups of them, and void, on stuff."""
    rng = np.random.default_rng(seed)
    city = "ulm"
    for i in range(frames):
        height, width = size
        ids = np.full(size, rng.choice(STUFF), np.uint16)
        regions = rng.permutation([*STUFF, *VOID, *rng.choice(classes, 2)])
        things = [1000 * c + n for n in range(2) for c in rng.choice(classes, 5)]
        for value in [*regions, *things]:
            center = int(rng.integers(0, width)), int(rng.integers(0, height))
            axes = int(rng.integers(3, 22)), int(rng.integers(3, 22))
            cv2.ellipse(ids, center, axes, 0, 0, 360, int(value), -1)
        name = f"{city}_{i:06}_000019"
        truth = root / f"cityscapes/gtFine/val/{city}/{name}_gtFine_instanceIds.png"
        truth.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(truth), ids)
        image = root / f"cityscapes/leftImg8bit/val/{city}/{name}_leftImg8bit.png"
        write_png(image, np.zeros((*size, 3), np.uint8))
    return load_detection("cityscapes_det_val", root, labeled=True)


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def masked(*things, size):
    """Of (class index, score, (H, W) bool), by falling score; boxes are the masks' extents."""
    things = sorted(things, key=lambda thing: -thing[1])
    masks = np.stack([m for *_, m in things]) if things else np.zeros((0, *size), bool)
    boxes = [(c, score, box_of(mask)) for c, score, mask in things]
    return detections(*boxes, masks=torch.from_numpy(masks))


def true_masks(frame):
    ids = read_instance_ids(frame.instances)
    return [(a, ids == a.instance) for a in frame.annotations]


def perfect(data):
    return {
        frame.name: masked(
            *[
                (data.classes.index(a.category), 0.9, mask)
                for a, mask in true_masks(frame)
                if not a.crowd
            ],
            size=(frame.height, frame.width),
        )
        for frame in data.records
    }


def distorted(data, seed):
    """Masks that are shifted, cut, doubled, of a wrong class, missing, or where nothing is."""
    rng = np.random.default_rng(seed)
    found = {}
    for frame in data.records:
        size, things = (frame.height, frame.width), []
        for truth, mask in true_masks(frame):
            for _ in range(rng.integers(0, 3)):
                moved = np.roll(mask, rng.integers(-3, 4, 2), (0, 1))
                moved[: int(box_of(mask)[1]) + rng.integers(0, 4)] = False
                index = data.classes.index(truth.category)
                if rng.random() < 0.15:
                    index = int(rng.integers(len(data.classes)))
                if moved.any():
                    things.append((index, round(rng.random(), 2), moved))
        for _ in range(rng.integers(0, 4)):
            y, x = rng.integers(0, frame.height - 20), rng.integers(0, frame.width - 20)
            anywhere = np.zeros(size, bool)
            anywhere[y : y + 20, x : x + 20] = True
            things.append((int(rng.integers(len(data.classes))), rng.random(), anywhere))
        found[frame.name] = masked(*things, size=size)
    return found
