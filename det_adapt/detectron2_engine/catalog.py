"""Data sets by name in Detectron2's catalogs, for its own loaders, evaluators and pictures.

Runs of this toolbox read the records themselves: their target has no annotations to leak.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as rle

from shared.data.catalog import DETECTION
from shared.data.cityscapes import read_instance_ids
from shared.data.folders import data_root
from shared.data.own import resolve_detection
from shared.data.records import DetectionDataset


@dataclass(frozen=True)
class _Loader:
    """What a catalog calls when a data set is first asked for; equal ones give the same.

    Args:
        name: as in a config; a description file's is its path.
        root: DATASETS.ROOT.
        classes: empty: those of the first of `sources`; without any, the data set's own.
        masks: give each object its mask, where there is one.
    """

    name: str
    root: str = ""
    classes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    masks: bool = False

    def __call__(self) -> list[dict[str, Any]]:
        root = data_root(self.root)
        classes = self.classes or None
        if classes is None and self.sources:
            classes = resolve_detection(self.sources[0], root, labeled=True).classes
        dataset = resolve_detection(self.name, root, labeled=True, classes=classes)
        MetadataCatalog.get(self.name).set(thing_classes=list(dataset.classes))
        return to_dicts(dataset, masks=self.masks)

    def register(self) -> None:
        """Puts itself in both catalogs, in the place of another of its kind."""
        if self.name in DatasetCatalog:
            if DatasetCatalog[self.name] == self:
                return
            DatasetCatalog.remove(self.name)
            # Detectron2 refuses other classes for a name that it knows.
            MetadataCatalog.pop(self.name, None)
        DatasetCatalog.register(self.name, self)
        known = {"thing_classes": list(self.classes)} if self.classes else {}
        MetadataCatalog.get(self.name).set(evaluator_type="coco", **known)


def register_all() -> None:
    """Every name of `shared.data.catalog.DETECTION`, with all of its classes and without masks."""
    for name in DETECTION:
        if name not in DatasetCatalog:
            _Loader(name).register()


def register_datasets(cfg: CfgNode) -> None:
    """DATASETS.TRAIN and TEST as a run sees them; building its model does it as well.

    Their classes are DATASETS.CLASSES, they are read below DATASETS.ROOT, own data by the path of
    its description, and MODEL.MASK_ON gives each object its mask, in COCO's run-length code. A name
    that somebody else has registered is left alone.
    """
    data = cfg.DATASETS
    for name in dict.fromkeys((*data.TRAIN, *data.TEST)):
        ours = name in DETECTION or Path(name).expanduser().is_file()
        if isinstance(DatasetCatalog[name], _Loader) if name in DatasetCatalog else ours:
            classes, sources = tuple(data.CLASSES), tuple(data.TRAIN)
            _Loader(name, data.ROOT, classes, sources, cfg.MODEL.MASK_ON).register()


def to_dicts(dataset: DetectionDataset, *, masks: bool = False) -> list[dict[str, Any]]:
    """Detectron2's dictionaries; without annotations there is no "annotations".

    Crowds and difficult objects have "iscrowd" 1: Detectron2 neither trains on them nor counts
    them against a detector.

    Args:
        masks: read each frame's instance PNG, 0.1 s for one of Cityscapes; INPUT.MASK_FORMAT must
            be bitmask.
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
        if masks and record.annotations and record.instances:
            # Column after column, as the code counts.
            ids = np.asfortranarray(read_instance_ids(record.instances))
            for thing, annotation in zip(entry["annotations"], record.annotations, strict=True):
                code = rle.encode((ids == annotation.instance).view(np.uint8))
                thing["segmentation"] = code | {"counts": code["counts"].decode("ascii")}
        dicts.append(entry)
    return dicts
