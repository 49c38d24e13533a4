"""A contact sheet: frames of every data set with their labels and boxes drawn over them."""

from collections.abc import Sequence

import cv2
import numpy as np

from shared.catalog import (
    DetectionDataset,
    DetectionRecord,
    SegmentationDataset,
    SegmentationRecord,
)
from shared.dataset_check.segmentation import evaluated_space
from shared.errors import UserError
from shared.images import read_image, read_labels
from shared.label_maps import IGNORE, encode_colors, lookup_table
from shared.visualize import BACKGROUND, GAP, INK, overlay, panel

_FRAMES = 3
_TILE_HEIGHT = 256
_ALPHA = 0.55
# Okabe and Ito's colours without black: told apart by everybody.
_BOX_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.4)


def contact_sheet(datasets: Sequence[SegmentationDataset | DetectionDataset]) -> np.ndarray:
    """One row per data set, three of its frames; those that cannot be read are left out.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    rows = [row for dataset in datasets if (row := _row(dataset)) is not None]
    if not rows:
        raise UserError("contact sheet: no frame of the data sets can be read")
    width = max(row.shape[1] for row in rows)
    padded = [
        cv2.copyMakeBorder(
            row, GAP, 0, GAP, width - row.shape[1] + GAP, cv2.BORDER_CONSTANT, value=BACKGROUND
        )
        for row in rows
    ]
    return np.concatenate(padded)


def _row(dataset: SegmentationDataset | DetectionDataset) -> np.ndarray | None:
    draw = _draw_labels if isinstance(dataset, SegmentationDataset) else _draw_boxes
    tiles, titles = [], []
    starts = np.linspace(0, len(dataset.records), _FRAMES, endpoint=False).astype(int)
    for record in (dataset.records[start] for start in np.unique(starts)):
        try:
            tiles.append(draw(dataset, record))
        except UserError:
            continue
        titles.append(f"{dataset.name}: {record.name}")
    return panel(tiles, titles, height=_TILE_HEIGHT) if tiles else None


def _pixels(record: SegmentationRecord | DetectionRecord) -> np.ndarray:
    return np.ascontiguousarray(read_image(record.image).permute(1, 2, 0).numpy())


def _draw_labels(dataset: SegmentationDataset, record: SegmentationRecord) -> np.ndarray:
    """The image with its labels over it; what is ignored stays as it is."""
    image = _pixels(record)
    if record.label is None:
        return image
    space = evaluated_space(dataset.id_table)
    raw = read_labels(record.label, dataset.encoding).numpy()
    labels = lookup_table(dataset.id_table, space)[raw]
    return overlay(image, encode_colors(labels, space), _ALPHA, labels == IGNORE)


def _draw_boxes(dataset: DetectionDataset, record: DetectionRecord) -> np.ndarray:
    """The image at the tile's height with its boxes; crowds and difficult ones are thin."""
    image = _pixels(record)
    scale = _TILE_HEIGHT / image.shape[0]
    size = (max(1, round(image.shape[1] * scale)), _TILE_HEIGHT)
    mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    image = cv2.resize(image, size, interpolation=mode)
    for annotation in record.annotations or ():
        color = _BOX_COLORS[dataset.classes.index(annotation.category) % len(_BOX_COLORS)]
        x1, y1, x2, y2 = (round(edge * scale) for edge in annotation.box)
        thickness = 1 if annotation.crowd or annotation.difficult else 2
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), color, thickness)
        name = annotation.category
        (width, height), _ = cv2.getTextSize(name, *_FONT, 1)
        if width < x2 - x1:
            y0 = max(y1, height + 4)
            cv2.rectangle(image, (x1, y0 - height - 4), (x1 + width, y0), color, cv2.FILLED)
            cv2.putText(image, name, (x1 + 1, y0 - 2), *_FONT, INK, 1, cv2.LINE_AA)
    return image
