"""Detections as JSON: what a run writes for every test image, and `predict.py` for any."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as rle

from det_adapt.evaluation.coco import encode
from det_adapt.structures import Detections
from shared.errors import UserError
from shared.files import write_atomically


def prediction_path(folder: Path, name: str) -> Path:
    """Where a run keeps what it found in the record `name`."""
    return folder / f"{name}.json"


def write_detections(path: Path, detections: Detections, classes: Sequence[str]) -> None:
    """`[{"class", "score", "box": [x1, y1, x2, y2], "mask": {"size": [h, w], "counts": RLE}}, …]`.

    Boxes are in pixels of the file, masks in COCO's run-length code; without masks, no "mask".
    """
    detections = detections.to("cpu")
    things = [
        {"class": classes[index], "score": score, "box": box}
        for index, score, box in zip(
            detections.classes.tolist(),
            detections.scores.tolist(),
            detections.boxes.tolist(),
            strict=True,
        )
    ]
    if detections.masks is not None:
        for thing, mask in zip(things, detections.masks.numpy(), strict=True):
            code = encode(mask)
            thing["mask"] = {"size": code["size"], "counts": code["counts"].decode("ascii")}
    write_atomically(path, json.dumps(things).encode())


def read_detections(path: Path, classes: Sequence[str]) -> Detections:
    """What `write_detections` wrote."""
    things = json.loads(path.read_text())
    unknown = [thing["class"] for thing in things if thing["class"] not in classes]
    if unknown:
        raise UserError(f"{path} has a '{unknown[0]}', expected only {', '.join(classes)}")
    masks = None
    if things and "mask" in things[0]:
        shapes = [rle.decode(thing["mask"]).astype(bool) for thing in things]
        masks = torch.from_numpy(np.stack(shapes))
    return Detections(
        torch.tensor([thing["box"] for thing in things], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([thing["score"] for thing in things], dtype=torch.float32),
        torch.tensor([classes.index(thing["class"]) for thing in things], dtype=torch.int64),
        masks,
    )
