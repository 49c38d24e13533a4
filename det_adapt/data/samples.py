"""From a record to what the network sees: resized, perhaps flipped, with its boxes and masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from det_adapt.structures import Sample
from shared.data.cityscapes import read_instance_ids
from shared.data.images import read_image
from shared.data.records import Annotation, DetectionRecord
from shared.errors import UserError
from shared.registry import nearest

SMALLEST_SIDE = 1e-5  # pixels; Detectron2 calls a smaller box empty


def resized_size(height: int, width: int, short_side: int, max_size: int) -> tuple[int, int]:
    """(height, width) by Detectron2's rule: the short side as asked for, unless the long one then
    exceeds `max_size`; halves round up. A short side of 0 keeps the image's own size."""
    if short_side == 0:
        return height, width
    short = float(short_side)
    long = short / min(height, width) * max(height, width)
    largest = max(short, long)
    if largest > max_size:
        shrink = max_size / largest
        short, long = short * shrink, long * shrink
    rows, columns = (short, long) if height < width else (long, short)
    return int(rows + 0.5), int(columns + 0.5)


@dataclass(frozen=True)
class Augmentation:
    """How an image of a record is brought to the network's size.

    Args:
        short_sides: pixels; one of them is drawn, or, with `is_range`, a number from low to high.
        max_size: of the long side, in pixels.
        flip: probability of a horizontal flip.
    """

    short_sides: tuple[int, ...]
    max_size: int
    flip: float = 0.0
    is_range: bool = False

    def draw(
        self, height: int, width: int, generator: np.random.Generator
    ) -> tuple[int, int, bool]:
        """Height and width of the resized image, and whether it is flipped."""
        flipped = bool(generator.random() < self.flip)
        if self.is_range:
            low, high = self.short_sides
            side = int(generator.integers(low, high + 1))
        else:
            side = self.short_sides[int(generator.integers(len(self.short_sides)))]
        return *resized_size(height, width, side, self.max_size), flipped


def read_sample(
    record: DetectionRecord,
    classes: Sequence[str] | None,
    augmentation: Augmentation,
    generator: np.random.Generator,
    *,
    masks: bool = False,
    min_size: float = 0.0,
) -> Sample:
    """The record's image and, with `classes`, its annotations.

    The image is resized with Pillow's antialiased bilinear filter, on 8 bits. Boxes are clipped to
    the image; those of crowds and difficult objects are left out, and those that vanish.

    Args:
        classes: index of a class → its name; None: no annotation is looked at.
        masks: read the instance PNG as well.
        min_size: pixels of the file; boxes with a smaller side are left out.
    """
    image = read_image(record.image)
    if tuple(image.shape[-2:]) != (record.height, record.width):
        raise UserError(
            f"{record.image} is {image.shape[-1]}x{image.shape[-2]}, but its annotations are of "
            f"{record.width}x{record.height} pixels: unpack image and annotations again"
        )
    height, width, flipped = augmentation.draw(record.height, record.width, generator)
    image = resize(image, height, width)
    sample = Sample(image.flip(-1) if flipped else image, record.name, record.height, record.width)
    if classes is None:
        return sample
    annotations = trained_on(record, min_size)
    boxes = _boxes(record, annotations, height, width, flipped)
    numbers = torch.tensor([_number(record, a, classes) for a in annotations], dtype=torch.int64)
    kept = (boxes[:, 2:] - boxes[:, :2] > SMALLEST_SIDE).all(dim=1)
    shapes = None
    if masks:
        shapes = _masks(record, annotations, height, width)
        shapes = shapes.flip(-1) if flipped else shapes
        kept &= shapes.flatten(1).any(dim=1)
        shapes = shapes[kept]
    return Sample(
        sample.image, record.name, record.height, record.width, boxes[kept], numbers[kept], shapes
    )


def trained_on(record: DetectionRecord, min_size: float = 0.0) -> list[Annotation]:
    """The record's annotations without crowds, difficult objects and boxes with a side under
    `min_size` pixels of the file."""
    return [
        a
        for a in record.annotations or ()
        if a.is_at_least(min_size) and not (a.crowd or a.difficult)
    ]


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """(3, height, width) of an image (3, H, W) uint8, with Pillow's antialiased bilinear filter."""
    if tuple(image.shape[-2:]) == (height, width):
        return image
    return v2.resize(image, [height, width], InterpolationMode.BILINEAR, antialias=True)


def _boxes(
    record: DetectionRecord,
    annotations: Sequence[Annotation],
    height: int,
    width: int,
    flipped: bool,
) -> Tensor:
    """(n, 4) float32 in the resized, perhaps flipped image."""
    for annotation in annotations:
        _check_box(record, annotation)
    boxes = np.array([a.box for a in annotations], dtype=np.float64).reshape(-1, 4)
    boxes[:, 0::2] *= width / record.width
    boxes[:, 1::2] *= height / record.height
    if flipped:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    boxes = np.clip(boxes, 0, [width, height, width, height])
    return torch.from_numpy(boxes.astype(np.float32))


def _check_box(record: DetectionRecord, annotation: Annotation) -> None:
    x1, y1, x2, y2 = annotation.box
    name = f"the box {list(annotation.box)} of a {annotation.category} in {record.image}"
    if not (x1 < x2 and y1 < y2):
        raise UserError(f"{name} has no area; expected x1 < x2 and y1 < y2, in pixels")
    if x1 >= record.width or y1 >= record.height or x2 <= 0 or y2 <= 0:
        raise UserError(
            f"{name} is outside its {record.width}x{record.height} pixels: correct or remove it"
        )


def _number(record: DetectionRecord, annotation: Annotation, classes: Sequence[str]) -> int:
    if annotation.category not in classes:
        raise UserError(
            f"{record.image} has a '{annotation.category}', which is none of the classes: "
            f"{nearest(annotation.category, classes)}expected one of {', '.join(classes)}"
        )
    return classes.index(annotation.category)


def _masks(
    record: DetectionRecord, annotations: Sequence[Annotation], height: int, width: int
) -> Tensor:
    """(n, height, width) bool: the instances' pixels, sampled at pixel centers."""
    numbers = [annotation.instance for annotation in annotations]
    if annotations and (record.instances is None or None in numbers):
        raise UserError(
            f"{record.image} has boxes but no masks: MODEL.MASK_ON needs a data set of instances, "
            "such as cityscapes_det_train; or set MODEL.MASK_ON False"
        )
    if not annotations:
        return torch.zeros(0, height, width, dtype=torch.bool)
    ids = read_instance_ids(record.instances)
    if ids.shape != (record.height, record.width):
        raise UserError(
            f"{record.instances} is {ids.shape[1]}x{ids.shape[0]}, its image "
            f"{record.width}x{record.height} pixels: unpack the pair again"
        )
    # 16-bit ids are exact in float32.
    ids = torch.from_numpy(ids.astype(np.float32))[None, None]
    ids = F.interpolate(ids, (height, width), mode="nearest-exact")[0]
    return ids == torch.tensor(numbers, dtype=torch.float32)[:, None, None]
