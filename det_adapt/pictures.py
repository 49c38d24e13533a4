"""Pictures of a run: what was found before and after adaptation, and where the adversary looks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from det_adapt.predictions import prediction_path, read_detections
from det_adapt.structures import Detections, Sample
from shared.catalog import DetectionDataset, DetectionRecord, read_instance_ids
from shared.images import read_image
from shared.sap import draw_pyramid
from shared.visualize import check_image, overlay, panel

LOWEST_SCORE = 0.5  # of what is drawn
MASK_ALPHA = 0.45
INK = (255, 255, 255)
IGNORED = (160, 160, 160)


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    classes: Sequence[str],
    *,
    lowest: float = LOWEST_SCORE,
) -> np.ndarray:
    """Boxes, masks where there are any, classes and scores.

    Args:
        image: (H, W, 3) uint8 RGB, the size of the file.
        lowest: what scores less is left out.
    """
    shown = detections.to("cpu")[detections.scores.cpu() >= lowest]
    colors = class_colors(len(classes))
    marks = [
        (box, colors[index], f"{classes[index]} {score:.2f}")
        for box, index, score in zip(
            shown.boxes.tolist(), shown.classes.tolist(), shown.scores.tolist(), strict=True
        )
    ]
    masks = None if shown.masks is None else shown.masks.numpy()
    return _draw(image, marks, masks)


def draw_truth(image: np.ndarray, record: DetectionRecord, classes: Sequence[str]) -> np.ndarray:
    """The record's annotations; what neither counts as found nor as missed is grey."""
    colors = class_colors(len(classes))
    marks, masks = [], []
    ids = None if record.instances is None else read_instance_ids(record.instances)
    for annotation in record.annotations or ():
        ignored = annotation.crowd or annotation.difficult
        color = IGNORED if ignored else colors[classes.index(annotation.category)]
        marks.append((annotation.box, color, annotation.category))
        if ids is not None:
            masks.append(ids == annotation.instance)
    return _draw(image, marks, np.stack(masks) if masks else None)


def draw_attention(model: nn.Module, sample: Sample) -> np.ndarray | None:
    """The paper's Fig. 2 of one image: each level's mask and weight; None without a pyramid."""
    pyramid = model.sap and model.sap.upper
    if not pyramid or not pyramid.options.pyramid:
        return None
    maps = model.target([sample])
    outputs = pyramid(maps.features[0], maps.logits[0])
    return draw_pyramid([as_array(sample)], outputs, pyramid.options.levels)


def as_array(sample: Sample) -> np.ndarray:
    """(h, w, 3) uint8 RGB, as the network sees the image."""
    return np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())


def class_colors(count: int) -> list[tuple[int, int, int]]:
    """RGB by class index: hues apart, the same at every call."""
    # The golden section keeps any number of hues apart without knowing how many will come.
    hues = (np.arange(count) * 180 / 1.618).astype(int) % 180
    pixels = np.stack([hues, np.full(count, 220), np.full(count, 255)], axis=1)
    colors = cv2.cvtColor(pixels.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]
    return [tuple(int(c) for c in color) for color in colors]


def _draw(
    image: np.ndarray,
    marks: Sequence[tuple[Sequence[float], tuple[int, int, int], str]],
    masks: np.ndarray | None,
) -> np.ndarray:
    """marks: (box, colour, text), the first on top. masks: (n, H, W) bool, of the marks."""
    drawn = check_image(image).copy()
    if masks is not None:
        colors = np.zeros_like(drawn)
        for mask, (_, color, _) in reversed(list(zip(masks, marks, strict=True))):
            colors[mask] = color
        drawn = overlay(drawn, colors, MASK_ALPHA, ~masks.any(axis=0) if len(masks) else None)
    width = max(1, round(min(drawn.shape[:2]) / 250))
    for box, color, text in reversed(marks):
        x1, y1, x2, y2 = (round(edge) for edge in box)
        cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), color, width)
        _label(drawn, text, x1, y1, color)
    return drawn


def _label(drawn: np.ndarray, text: str, left: int, bottom: int, color: tuple) -> None:
    scale = max(0.3, min(drawn.shape[:2]) / 1600)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    bottom = max(bottom, height + below)
    corner = (left + width, bottom - height - below)
    cv2.rectangle(drawn, (left, bottom), corner, [c // 2 for c in color], cv2.FILLED)
    where = (left, bottom - below)
    cv2.putText(drawn, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)


def attention_pictures(
    model: nn.Module, samples: Mapping[str, Sample | None]
) -> dict[str, np.ndarray]:
    """`draw_attention` of some samples, by name; the model is in evaluation mode."""
    with torch.no_grad():
        drawn = {name: draw_attention(model, s) for name, s in samples.items() if s is not None}
    return {name: picture for name, picture in drawn.items() if picture is not None}


def detection_panels(
    test: DetectionDataset, columns: Mapping[str, Path], *, count: int = 6, height: int = 256
) -> dict[str, np.ndarray]:
    """Panels input | ground truth | each column, of images spread over a data set, by name.

    Args:
        columns: title to the folder of its predictions.
        count: of panels, where there are so many images.
        height: of a panel's pictures, in pixels.
    """
    panels = {}
    for place in np.linspace(0, len(test.records) - 1, min(count, len(test.records))):
        record = test.records[round(place)]
        image = np.ascontiguousarray(read_image(record.image).permute(1, 2, 0).numpy())
        tiles = {"input": image, "ground truth": draw_truth(image, record, test.classes)}
        for title, folder in columns.items():
            path = prediction_path(folder, record.name)
            if path.is_file():
                found = read_detections(path, test.classes)
                tiles[title] = draw_detections(image, found, test.classes)
        panels[record.name] = panel(list(tiles.values()), list(tiles), height=height)
    return panels
