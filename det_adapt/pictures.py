"""Pictures of a run: what was found before and after adaptation, and where the adversary looks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from det_adapt.detection_files import prediction_path, read_detections
from det_adapt.structures import Detections, Sample
from shared.data.cityscapes import read_instance_ids
from shared.data.images import read_image
from shared.data.records import DetectionDataset, DetectionRecord
from shared.pictures import (
    IGNORED,
    class_colors,
    draw_boxes,
    evenly_spaced,
    panel,
    sheet,
    to_array,
)
from shared.sap import draw_pyramid

LOWEST_SCORE = 0.5  # of what is drawn


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
    kept = detections.to("cpu")[detections.scores.cpu() >= lowest]
    colors = class_colors(len(classes))
    boxes = [
        (box, colors[index], f"{classes[index]} {score:.2f}")
        for box, index, score in zip(
            kept.boxes.tolist(), kept.classes.tolist(), kept.scores.tolist(), strict=True
        )
    ]
    masks = None if kept.masks is None else kept.masks.numpy()
    return draw_boxes(image, boxes, masks)


def draw_truth(image: np.ndarray, record: DetectionRecord, classes: Sequence[str]) -> np.ndarray:
    """The record's annotations; what neither counts as found nor as missed is gray."""
    colors = class_colors(len(classes))
    boxes, masks = [], []
    ids = None if record.instances is None else read_instance_ids(record.instances)
    for annotation in record.annotations or ():
        ignored = annotation.crowd or annotation.difficult
        color = IGNORED if ignored else colors[classes.index(annotation.category)]
        boxes.append((annotation.box, color, annotation.category))
        if ids is not None:
            masks.append(ids == annotation.instance)
    return draw_boxes(image, boxes, np.stack(masks) if masks else None)


def draw_attention(model: nn.Module, sample: Sample) -> np.ndarray | None:
    """The paper's Fig. 2 of one image: each level's mask and weight, a row for every pyramid; None
    without one."""
    if model.sap is None or not model.sap.has_masks:
        return None
    maps, image, rows = model.target([sample]), to_array(sample.image), []
    for name, pooled in model.sap.pooled.items():
        pyramid = model.sap.get_submodule(name)
        outputs = pyramid(maps.features[pooled.features][0], maps.logits[pooled.guide][0])
        title = "input" if name == "upper" else pooled.features
        rows.append(draw_pyramid([image], outputs, pooled.options.levels, title=title))
    return rows[0] if len(rows) == 1 else sheet(rows)


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
    for record in evenly_spaced(test.records, count):
        image = to_array(read_image(record.image))
        tiles = {"input": image, "ground truth": draw_truth(image, record, test.classes)}
        for title, folder in columns.items():
            path = prediction_path(folder, record.name)
            if path.is_file():
                detections = read_detections(path, test.classes)
                tiles[title] = draw_detections(image, detections, test.classes)
        panels[record.name] = panel(list(tiles.values()), list(tiles), height=height)
    return panels
