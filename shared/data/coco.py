"""Boxes in COCO's JSON format."""

import logging
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.config import read_mapping
from shared.data.images import image_size
from shared.data.records import Annotation, DetectionDataset, DetectionRecord
from shared.errors import MissingFileError, UserError

logger = logging.getLogger(__name__)

Entry = Mapping[str, Any]

_TYPES = {
    "images": {"id": int, "file_name": str},
    "annotations": {"image_id": int, "category_id": int},
    "categories": {"id": int, "name": str},
}


def coco_detection(path: str | Path, images: str | Path) -> DetectionDataset:
    """A labeled detection data set from a COCO JSON; its polygons and masks are not read.

    Images without annotations belong to it. Classes are ordered by category id.

    Args:
        path: the JSON with `images`, `annotations` and `categories`.
        images: the folder below which every `file_name` lies.
    """
    path, folder = Path(path).expanduser(), Path(images).expanduser()
    document = read_mapping(path)
    if not folder.is_dir():
        raise MissingFileError(f"{path}: no folder of images {folder}")
    images, annotations, categories = (_table(path, document, key) for key in _TYPES)
    names = {entry["id"]: entry["name"] for entry in categories}
    if not names or len(set(names.values())) < len(categories):
        raise UserError(f"{path}: 'categories' must be some, each with an id and name of its own")
    boxes = _annotations(path, annotations, names)
    records = _records(path, folder, images, boxes)
    strays = boxes.keys() - {entry["id"] for entry in images}
    if strays:
        raise UserError(
            f"{path}: {len(strays)} image_ids of 'annotations' are not among its 'images', "
            f"the first: {min(strays)}"
        )
    return DetectionDataset(path.stem, records, tuple(names[i] for i in sorted(names)))


def _table(path: Path, document: Entry, key: str) -> list[Entry]:
    """The list `key` of a document, its entries having what every one of them needs."""
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(
            f"{path} has no list of '{key}': expected COCO's detection format, with 'images', "
            "'annotations' and 'categories'"
        )
    for entry in entries:
        for field, type_ in _TYPES[key].items():
            value = entry.get(field)
            if type(value) is not type_:
                raise UserError(
                    f"{path}: '{field}' of an entry of '{key}' is {value!r}, expected "
                    f"{'a whole number' if type_ is int else 'text'}"
                )
    return entries


def _annotations(
    path: Path, entries: Sequence[Entry], names: Mapping[int, str]
) -> dict[int, list[Annotation]]:
    """Image id → its annotations; boxes without area are left out."""
    annotations: dict[int, list[Annotation]] = defaultdict(list)
    empty = 0
    for entry in entries:
        image, category = entry["image_id"], entry["category_id"]
        if category not in names:
            raise UserError(
                f"{path}: category_id {category} of an annotation of image {image} is not among "
                f"its 'categories': {', '.join(map(str, sorted(names)))}"
            )
        x, y, width, height = _box(path, entry)
        of_image = annotations[image]
        if width <= 0 or height <= 0:
            empty += 1
            continue
        box = (x, y, x + width, y + height)
        of_image.append(Annotation(names[category], box, crowd=bool(entry.get("iscrowd"))))
    if empty:
        logger.warning("%s: %d boxes without area left out", path, empty)
    return annotations


def _box(path: Path, entry: Entry) -> tuple[float, float, float, float]:
    value = entry.get("bbox")
    if (
        not isinstance(value, list)
        or len(value) != 4
        or not all(type(part) in (int, float) and math.isfinite(part) for part in value)
    ):
        raise UserError(
            f"{path}: 'bbox' of an annotation of image {entry['image_id']} is {value!r}, expected "
            "[x, y, width, height] in pixels"
        )
    return tuple(float(part) for part in value)


def _records(
    path: Path,
    folder: Path,
    entries: Sequence[Entry],
    annotations: Mapping[int, Sequence[Annotation]],
) -> tuple[DetectionRecord, ...]:
    """One record per image, sorted by name."""
    records: dict[str, DetectionRecord] = {}
    missing, ids = [], set()
    for entry in entries:
        number, file_name = entry["id"], entry["file_name"]
        name, image = _name(path, folder, file_name), folder / file_name
        if number in ids or name in records:
            raise UserError(
                f"{path}: image {number}, '{file_name}', stands twice in 'images', or another "
                "differs only in its suffix"
            )
        ids.add(number)
        if image.is_file():
            size, boxes = _size(path, entry, image), tuple(annotations.get(number, ()))
            records[name] = DetectionRecord(name, image, *size, boxes)
        else:
            missing.append(image)
    if missing:
        raise MissingFileError(
            f"{path}: {len(missing)} of its {len(entries)} images are not there, the first: "
            f"{missing[0]}; 'file_name' is relative to the folder of the images"
        )
    if not records:
        raise UserError(f"{path}: 'images' is empty")
    return tuple(records[name] for name in sorted(records))


def _name(path: Path, folder: Path, file_name: str) -> str:
    """Of the record, and of what a run writes for it in its own folder: hence never outside."""
    image = Path(os.path.normpath(folder / file_name))
    try:
        return image.relative_to(os.path.normpath(folder)).with_suffix("").as_posix()
    except ValueError:
        raise UserError(
            f"{path}: 'file_name' {file_name} leads out of the folder of the images, {folder}: "
            "write it relative to that folder, or name a folder above"
        ) from None


def _size(path: Path, entry: Entry, image: Path) -> tuple[int, int]:
    """(height, width); some tools leave them out, then the file itself is asked."""
    if "height" not in entry or "width" not in entry:
        return image_size(image)
    height, width = entry["height"], entry["width"]
    if type(height) is not int or type(width) is not int or height < 1 or width < 1:
        raise UserError(f"{path}: '{image.name}' is {width}x{height} pixels; correct its size")
    return height, width
