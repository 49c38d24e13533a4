"""Every detection data set by its name in Detectron2's catalogs, for Detectron2's own tools.

Runs of this toolbox read the records themselves: their target has no annotations to leak.
"""

from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from shared.data.catalog import DETECTION, load_detection
from shared.data.records import DetectionDataset


def register() -> None:
    """Adds each name of `shared.data.catalog.DETECTION` that is not there yet.

    A data set is read below `$DETECTRON2_DATASETS` when it is first asked for; its
    `thing_classes` are known from then on.
    """
    for name in DETECTION:
        if name not in DatasetCatalog:
            DatasetCatalog.register(name, partial(_load, name))


def to_dicts(dataset: DetectionDataset) -> list[dict[str, Any]]:
    """Detectron2's dictionaries, with boxes and without masks.

    Crowds and difficult objects have "iscrowd" 1: Detectron2 neither trains on them nor counts
    them against a detector. Without annotations there is no "annotations".
    """
    dicts = []
    for record in dataset.records:
        entry = {
            "file_name": str(record.image),
            "image_id": record.name,
            "height": record.height,
            "width": record.width,
        }
        if record.annotations is not None:
            entry["annotations"] = [
                {
                    "bbox": list(annotation.box),
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": dataset.classes.index(annotation.category),
                    "iscrowd": int(annotation.crowd or annotation.difficult),
                }
                for annotation in record.annotations
            ]
        dicts.append(entry)
    return dicts


def _load(name: str) -> list[dict[str, Any]]:
    dataset = load_detection(name, labeled=True)
    MetadataCatalog.get(name).set(thing_classes=list(dataset.classes))
    return to_dicts(dataset)
