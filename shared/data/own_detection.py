"""Detection data by name or by path."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shared.data.coco import coco_detection
from shared.data.detection import DETECTION, load_detection
from shared.data.documents import is_document, read_document
from shared.data.images import image_size
from shared.data.records import DetectionDataset, DetectionRecord
from shared.data.segmentation import image_folder
from shared.errors import MissingFileError, UserError
from shared.registry import nearest

DOCUMENTATION = "docs/own_data.md"
KEYS = ("name", "images", "coco")


def resolve_detection(
    name: str,
    root: Path,
    *,
    labelled: bool = False,
    classes: Sequence[str] | None = None,
) -> DetectionDataset:
    """The data set that a registered name, a folder of images or a description stands for.

    Args:
        name: a name of the catalog, which is looked up below `root`; or a path, relative to the
            current folder.
        labelled: read the annotations, and refuse a data set without. Otherwise no annotation file
            is opened.
        classes: keep the boxes of these classes only.
    """
    path = Path(name).expanduser()
    if name in DETECTION:
        return load_detection(name, root, labelled=labelled, classes=classes)
    if path.is_dir():
        if labelled:
            raise UserError(
                f"{path} is a folder of images, and a source or test needs boxes; describe both "
                f"in a .yaml file, see {DOCUMENTATION}"
            )
        return _unlabelled(path.resolve().name or str(path), path, classes)
    if is_document(path):
        return _described(path, labelled, classes)
    if len(path.parts) > 1 or path.is_file():
        raise MissingFileError(
            f"{path} is no folder of images and no .yaml or .json description; see {DOCUMENTATION}"
        )
    return load_detection(name, root, labelled=labelled, classes=classes)


def _described(path: Path, labelled: bool, classes: Sequence[str] | None) -> DetectionDataset:
    document = read_document(path, KEYS)
    for key, value in document.items():
        if not isinstance(value, str) or not value:
            raise UserError(f"{path}: '{key}' is {value!r}, expected text")
    if "images" not in document or (labelled and "coco" not in document):
        lacks = "images" if "images" not in document else "coco"
        raise UserError(f"{path} has no '{lacks}'; see {DOCUMENTATION}")
    name = document.get("name", path.stem)
    images = path.parent / Path(document["images"]).expanduser()
    if not labelled:
        return _unlabelled(name, images, classes)
    dataset = coco_detection(path.parent / Path(document["coco"]).expanduser(), images)
    return _restricted(replace(dataset, name=name), classes)


def _unlabelled(name: str, folder: Path, classes: Sequence[str] | None) -> DetectionDataset:
    records = tuple(
        DetectionRecord(record.name, record.image, *image_size(record.image), None)
        for record in image_folder(folder)
    )
    return DetectionDataset(name, records, tuple(classes or ()), "all")


def _restricted(dataset: DetectionDataset, classes: Sequence[str] | None) -> DetectionDataset:
    if classes is None:
        return dataset
    for wanted in classes:
        if wanted not in dataset.classes:
            raise UserError(
                f"data set '{dataset.name}' has no class '{wanted}': "
                f"{nearest(wanted, dataset.classes)}it has: {', '.join(dataset.classes)}"
            )
    records = tuple(
        replace(
            record,
            annotations=tuple(a for a in record.annotations if a.category in classes),
        )
        for record in dataset.records
    )
    return replace(dataset, records=records, classes=tuple(classes))
