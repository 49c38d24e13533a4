"""A contact sheet: frames of every data set with their labels and boxes drawn over them."""

from collections.abc import Sequence

import numpy as np

from shared.data.annotations import DetectionFiles, read_record
from shared.data.file_checks import evaluated_space
from shared.data.images import read_image, read_labels
from shared.data.label_maps import IGNORE, encode_colors, lookup_table
from shared.data.records import Frame, SegmentationDataset
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


def contact_sheet(datasets: Sequence[SegmentationDataset | DetectionFiles]) -> np.ndarray:
    """Frames of each data set side by side; those that cannot be read are left out.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    panels = []
    for dataset in datasets:
        draw = _draw_labels if isinstance(dataset, SegmentationDataset) else _draw_boxes
        tiles, titles = [], []
        for frame in evenly_spaced(dataset.records, _FRAMES):
            try:
                tiles.append(draw(dataset, frame))
            except UserError:
                continue
            titles.append(f"{dataset.name}: {frame.name}")
        if tiles:
            panels.append(panel(tiles, titles, height=_TILE_HEIGHT))
    if not panels:
        raise UserError("contact sheet: no frame of the data sets can be read")
    return sheet(panels)


def _draw_labels(dataset: SegmentationDataset, frame: Frame) -> np.ndarray:
    """The image with its labels over it; what is ignored stays as it is."""
    image = to_array(read_image(frame.image))
    if frame.label is None:
        return image
    space = evaluated_space(dataset.id_table)
    raw = read_labels(frame.label, dataset.encoding).numpy()
    labels = lookup_table(dataset.id_table, space)[raw]
    return overlay(image, encode_colors(labels, space), _ALPHA, labels == IGNORE)


def _draw_boxes(files: DetectionFiles, frame: Frame) -> np.ndarray:
    """The image at the tile's height with its boxes, named where they are wide enough; crowds and
    difficult ones are gray."""
    image, classes = to_array(read_image(frame.image)), files.default or files.classes
    scale = _TILE_HEIGHT / image.shape[0]
    colors, boxes = class_colors(len(classes)), []
    for annotation in read_record(files, frame, classes).annotations or ():
        box, name = [edge * scale for edge in annotation.box], annotation.category
        ignored = annotation.crowd or annotation.difficult
        color = IGNORED if ignored else colors[classes.index(name)]
        boxes.append((box, color, name if box[2] - box[0] > _LETTER * len(name) else ""))
    tile = resize_to_height(image, _TILE_HEIGHT)
    return draw_boxes(tile, boxes, thickness=2, font_scale=0.4)
