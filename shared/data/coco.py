"""Boxes in COCO's JSON format."""

import logging
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from shared.data.documents import read_document
from shared.data.images import image_size
from shared.data.records import Annotation, DetectionDataset, DetectionRecord
from shared.errors import MissingFileError, UserError

logger = logging.getLogger(__name__)


def coco_detection(path: str | Path, images: str | Path) -> DetectionDataset:
    """A labelled detection data set from a COCO JSON; its polygons and masks are not read.

    Images without annotations belong to it. Classes are ordered by category id.

    Args:
        path: the JSON with `images`, `annotations` and `categories`.
        images: the folder below which every `file_name` lies.
    """
    path, images = Path(path).expanduser(), Path(images).expanduser()
    document = read_document(path)
    if not images.is_dir():
        raise MissingFileError(f"{path}: no folder of images {images}")
    tables = {key: _table(path, document, key) for key in ("images", "annotations", "categories")}
    names = {
        _field(path, "category", entry, "id", int): _field(path, "category", entry, "name", str)
        for entry in tables["categories"]
    }
    if not names or len(set(names.values())) < len(tables["categories"]):
        raise UserError(f"{path}: 'categories' must be some, each with an id and name of its own")
    annotations = _annotations(path, tables["annotations"], names)
    records = _records(path, images, tables["images"], annotations)
    if annotations:
        raise UserError(
            f"{path}: {len(annotations)} image_ids of 'annotations' are not among its 'images', "
            f"the first: {next(iter(annotations))}"
        )
    classes = tuple(names[i] for i in sorted(names))
    return DetectionDataset(path.stem, records, classes, "all")


def _table(path: Path, document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UserError(
            f"{path} has no list of '{key}': expected COCO's detection format, with 'images', "
            "'annotations' and 'categories'"
        )
    return value


def _field(path: Path, kind: str, entry: dict[str, Any], key: str, type_: type) -> Any:
    value = entry.get(key)
    if not isinstance(value, type_) or isinstance(value, bool):
        expected = {int: "a whole number", str: "text"}[type_]
        raise UserError(f"{path}: '{key}' of a {kind} is {value!r}, expected {expected}")
    return value


def _annotations(
    path: Path, entries: list[dict[str, Any]], names: dict[int, str]
) -> dict[int, list[Annotation]]:
    """Image id → its annotations; boxes without area are left out."""
    found: dict[int, list[Annotation]] = defaultdict(list)
    empty = 0
    for entry in entries:
        image = _field(path, "annotation", entry, "image_id", int)
        category = _field(path, "annotation", entry, "category_id", int)
        if category not in names:
            raise UserError(
                f"{path}: category_id {category} of an annotation of image {image} is not among "
                f"its 'categories': {', '.join(map(str, sorted(names)))}"
            )
        x, y, width, height = _box(path, entry, image)
        annotations = found[image]
        if width <= 0 or height <= 0:
            empty += 1
            continue
        box = (x, y, x + width, y + height)
        annotations.append(Annotation(names[category], box, crowd=bool(entry.get("iscrowd"))))
    if empty:
        logger.warning("%s: %d boxes without area left out", path, empty)
    return found


def _box(path: Path, entry: dict[str, Any], image: int) -> tuple[float, float, float, float]:
    value = entry.get("bbox")
    numbers = isinstance(value, list) and all(
        isinstance(part, int | float) and not isinstance(part, bool) and math.isfinite(part)
        for part in value
    )
    if not numbers or len(value) != 4:
        raise UserError(
            f"{path}: 'bbox' of an annotation of image {image} is {value!r}, expected "
            "[x, y, width, height] in pixels"
        )
    return tuple(float(part) for part in value)


def _records(
    path: Path,
    folder: Path,
    entries: list[dict[str, Any]],
    annotations: dict[int, list[Annotation]],
) -> tuple[DetectionRecord, ...]:
    """One record per image, sorted by name; takes the annotations it uses out of the dictionary."""
    records: dict[str, DetectionRecord] = {}
    missing = []
    ids = set()
    for entry in entries:
        number = _field(path, "image", entry, "id", int)
        file_name = _field(path, "image", entry, "file_name", str)
        name = _name(path, folder, file_name)
        if number in ids or name in records:
            raise UserError(
                f"{path}: image {number}, '{file_name}', stands twice in 'images', or another "
                "differs only in its suffix"
            )
        ids.add(number)
        image = folder / file_name
        if not image.is_file():
            missing.append(image)
            continue
        height, width = _size(path, entry, image)
        records[name] = DetectionRecord(
            name, image, height, width, tuple(annotations.pop(number, ()))
        )
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


def _size(path: Path, entry: dict[str, Any], image: Path) -> tuple[int, int]:
    """(height, width); some tools leave them out, then the file itself is asked."""
    if "height" not in entry or "width" not in entry:
        return image_size(image)
    height = _field(path, "image", entry, "height", int)
    width = _field(path, "image", entry, "width", int)
    if height < 1 or width < 1:
        raise UserError(f"{path}: '{image.name}' is {width}x{height} pixels; correct its size")
    return height, width
