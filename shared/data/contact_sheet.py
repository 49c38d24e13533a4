"""A contact sheet: frames of every data set with their labels and boxes drawn over them."""

from collections.abc import Sequence

import numpy as np

from shared.data.check_segmentation import evaluated_space
from shared.data.images import read_image, read_labels
from shared.data.label_maps import IGNORE, encode_colors, lookup_table
from shared.data.records import (
    DetectionDataset,
    DetectionRecord,
    SegmentationDataset,
    SegmentationRecord,
)
from shared.errors import UserError
from shared.pictures import (
    IGNORED,
    class_colors,
    draw_boxes,
    evenly_spaced,
    overlay,
    panel,
    resize_to_height,
    sheet,
    to_array,
)

_FRAMES = 3
_TILE_HEIGHT = 256
_ALPHA = 0.55
_LETTER = 8  # pixels


def contact_sheet(datasets: Sequence[SegmentationDataset | DetectionDataset]) -> np.ndarray:
    """One row per data set, three of its frames; those that cannot be read are left out.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    rows = [row for dataset in datasets if (row := _row(dataset)) is not None]
    if not rows:
        raise UserError("contact sheet: no frame of the data sets can be read")
    return sheet(rows)


def _row(dataset: SegmentationDataset | DetectionDataset) -> np.ndarray | None:
    draw = _draw_labels if isinstance(dataset, SegmentationDataset) else _draw_boxes
    tiles, titles = [], []
    for record in evenly_spaced(dataset.records, _FRAMES):
        try:
            tiles.append(draw(dataset, record))
        except UserError:
            continue
        titles.append(f"{dataset.name}: {record.name}")
    return panel(tiles, titles, height=_TILE_HEIGHT) if tiles else None


def _draw_labels(dataset: SegmentationDataset, record: SegmentationRecord) -> np.ndarray:
    """The image with its labels over it; what is ignored stays as it is."""
    image = to_array(read_image(record.image))
    if record.label is None:
        return image
    space = evaluated_space(dataset.id_table)
    raw = read_labels(record.label, dataset.encoding).numpy()
    labels = lookup_table(dataset.id_table, space)[raw]
    return overlay(image, encode_colors(labels, space), _ALPHA, labels == IGNORE)


def _draw_boxes(dataset: DetectionDataset, record: DetectionRecord) -> np.ndarray:
    """The image at the tile's height with its boxes, named where they are wide enough; crowds and
    difficult ones are gray."""
    image = to_array(read_image(record.image))
    scale = _TILE_HEIGHT / image.shape[0]
    colors, boxes = class_colors(len(dataset.classes)), []
    for annotation in record.annotations or ():
        box, name = [edge * scale for edge in annotation.box], annotation.category
        ignored = annotation.crowd or annotation.difficult
        color = IGNORED if ignored else colors[dataset.classes.index(name)]
        boxes.append((box, color, name if box[2] - box[0] > _LETTER * len(name) else ""))
    tile = resize_to_height(image, _TILE_HEIGHT)
    return draw_boxes(tile, boxes, thickness=2, font_scale=0.4)
