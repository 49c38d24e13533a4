"""The description files of a user's own data; docs/own_data.md explains their keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from shared.config import read_mapping
from shared.data.images import ENCODINGS
from shared.data.label_maps import ID_TABLES, IGNORE
from shared.errors import UserError
from shared.registry import nearest

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Description:
    """What a description file says; the fields besides `path` are the keys it may have.

    Attributes:
        path: the file itself, or the folder of images that stands for one.
        images: folder of the images; None in a file that only defines classes.
    """

    path: Path
    name: str
    images: Path | None = None


@dataclass(frozen=True)
class SegmentationDescription(Description):
    """
    Attributes:
        labels: folder of the label PNGs; None for an unlabeled data set.
        image_suffix: how an image's name must end; None: any image.
        label_suffix: what replaces that ending in the label's name.
        ids: raw id → class name, or the name of an id table; None where there are no labels.
        classes: own classes in the order of their train ids; None: those of another label space.
        colors: RGB of each class.
    """

    labels: Path | None = None
    image_suffix: str | None = None
    label_suffix: str = ".png"
    encoding: str = "index"
    ids: str | Mapping[int, str] | None = None
    classes: tuple[str, ...] | None = None
    colors: tuple[tuple[int, int, int], ...] | None = None


@dataclass(frozen=True)
class DetectionDescription(Description):
    """
    Attributes:
        coco: JSON of the boxes; None for an unlabeled data set.
    """

    coco: Path | None = None


Kind = TypeVar("Kind", SegmentationDescription, DetectionDescription)


def is_description(name: str | Path) -> bool:
    """Whether a name's ending is that of a YAML or JSON file."""
    return Path(name).suffix.lower() in SUFFIXES


def read_description(path: Path, kind: type[Kind]) -> Kind:
    """A description file; or a folder of images, as if a file said no more than where they are.

    Raises:
        UserError, MissingFileError: in one line, for whatever is wrong with the file.
    """
    if path.is_dir():
        # Not path.name, which is empty for "." and "..".
        return kind(path, path.resolve().name or str(path), path)
    document = read_mapping(path)
    types = {field.name: field.type for field in fields(kind) if field.name != "path"}
    values: dict[str, Any] = {"name": path.stem}
    for key, value in document.items():
        if key not in types:
            raise UserError(
                f"{path}: unknown key '{key}': {nearest(str(key), types)}known: {', '.join(types)}"
            )
        if value is None:
            continue
        is_path = types[key] == Path | None
        if (is_path or types[key] in (str, str | None)) and not (value and isinstance(value, str)):
            raise UserError(f"{path}: '{key}' is {value!r}, expected text")
        values[key] = path.parent / Path(value).expanduser() if is_path else value
    description = kind(path, **values)
    return _checked(description) if kind is SegmentationDescription else description


def _checked(description: SegmentationDescription) -> SegmentationDescription:
    """Its classes, ids and colors checked and as tuples and numbers."""
    path, suffix, encoding = description.path, description.label_suffix, description.encoding
    if not suffix.lower().endswith(".png"):
        raise UserError(
            f"{path}: 'label_suffix' is '{suffix}', expected an ending in .png: labels are PNGs "
            "that hold the class ids"
        )
    if encoding not in ENCODINGS:
        raise UserError(
            f"{path}: unknown label encoding '{encoding}': {nearest(encoding, ENCODINGS)}"
            f"available: {', '.join(ENCODINGS)}"
        )
    classes = _classes(path, description.classes)
    ids = _ids(path, description.ids, classes)
    if description.labels is not None and ids is None:
        raise UserError(
            f"{path}: there are 'labels', but nothing says what their numbers mean; add 'ids', "
            "e.g. {0: road, 1: sidewalk}, or 'classes'"
        )
    colors = _colors(path, description.colors, classes)
    return replace(description, classes=classes, ids=ids, colors=colors)


def _class_name(path: Path, where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        # YAML reads no, yes, on and off as truth values and 12 as a number.
        raise UserError(f"{path}: {where} is {value!r}, expected a class name; quote it if it is")
    return value


def _classes(path: Path, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= IGNORE:
        raise UserError(
            f"{path}: 'classes' is {_summary(value)}, expected a list of 1 to {IGNORE} class names"
        )
    names = tuple(_class_name(path, f"class {i}", name) for i, name in enumerate(value))
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise UserError(f"{path}: class '{repeated}' stands twice in 'classes'; remove one")
    return names


def _ids(path: Path, value: object, classes: tuple[str, ...] | None) -> str | dict[int, str] | None:
    """Without `ids`, the numbers in the label files are the places in `classes`."""
    if value is None:
        return dict(enumerate(classes)) if classes else None
    if isinstance(value, str):
        ID_TABLES.get(value)
        return value
    if not isinstance(value, dict) or not value:
        raise UserError(
            f"{path}: 'ids' is {_summary(value)}, expected {{number: class name, …}} or one of "
            f"{', '.join(ID_TABLES)}"
        )
    ids = {_raw_id(path, key): _class_name(path, f"id {key}", v) for key, v in value.items()}
    if len(ids) < len(value):
        raise UserError(f"{path}: one number stands twice in 'ids'; remove one")
    if classes is not None:
        check_ids(path, ids, classes, "'classes'")
    return ids


def _raw_id(path: Path, key: object) -> int:
    # JSON's keys are always text.
    number = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 255:
        raise UserError(f"{path}: {key!r} in 'ids' is no raw id; expected a number from 0 to 255")
    return number


def check_ids(path: Path, ids: Mapping[int, str], classes: Sequence[str], owner: str) -> None:
    """UserError where `ids` names a class that `classes`, those of `owner`, do not hold."""
    for raw_id, name in ids.items():
        if name not in classes:
            raise UserError(
                f"{path}: id {raw_id} is class '{name}', which {owner} lacks: "
                f"{nearest(name, classes)}leave the id out to ignore its pixels; "
                f"classes: {', '.join(classes)}"
            )


def _colors(
    path: Path, value: object, classes: tuple[str, ...] | None
) -> tuple[tuple[int, int, int], ...] | None:
    if value is None:
        return None
    if classes is None or not isinstance(value, list) or len(value) != len(classes):
        raise UserError(
            f"{path}: 'colors' is {_summary(value)}, expected one [red, green, blue] for each of "
            f"the {len(classes or ())} 'classes'"
        )
    for name, color in zip(classes, value, strict=True):
        is_list = isinstance(color, list) and len(color) == 3
        if not is_list or not all(type(part) is int and 0 <= part <= 255 for part in color):
            raise UserError(
                f"{path}: the color of '{name}' is {color!r}, expected [red, green, blue], "
                "each from 0 to 255"
            )
    return tuple(tuple(color) for color in value)


def _summary(value: object) -> str:
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)
