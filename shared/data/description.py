"""The description file of a user's own segmentation data; docs/own_data.md explains its keys."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from shared.data.documents import read_document
from shared.data.images import ENCODINGS
from shared.data.label_maps import ID_TABLES, IGNORE
from shared.errors import UserError
from shared.registry import nearest


@dataclass(frozen=True)
class Description:
    """What a description file says.

    Attributes:
        path: the file itself.
        images: folder of the images; None in a file that only defines classes.
        labels: folder of the label PNGs; None for an unlabelled data set.
        image_suffix: how an image's name must end; None: any image.
        label_suffix: what replaces that ending in the label's name.
        ids: raw id → class name, or the name of an id table; None where there are no labels.
        classes: own classes in the order of their train ids; None: those of another label space.
        colors: RGB of each class.
    """

    path: Path
    name: str
    images: Path | None
    labels: Path | None
    image_suffix: str | None
    label_suffix: str
    ids: str | Mapping[int, str] | None
    classes: tuple[str, ...] | None
    colors: tuple[tuple[int, int, int], ...] | None
    encoding: str


KEYS = tuple(field.name for field in fields(Description) if field.name != "path")


def read_description(path: Path) -> Description:
    """Raises UserError or MissingFileError, in one line, for whatever is wrong with the file."""
    document = read_document(path, KEYS)
    classes = _classes(path, document)
    ids = _ids(path, document, classes)
    labels = _folder(path, document, "labels")
    if labels is not None and ids is None:
        raise UserError(
            f"{path}: there are 'labels', but nothing says what their numbers mean; add 'ids', "
            "e.g. {0: road, 1: sidewalk}, or 'classes'"
        )
    return Description(
        path=path,
        name=_text(path, document, "name") or path.stem,
        images=_folder(path, document, "images"),
        labels=labels,
        image_suffix=_text(path, document, "image_suffix"),
        label_suffix=_label_suffix(path, document),
        encoding=_encoding(path, document),
        ids=ids,
        classes=classes,
        colors=_colors(path, document, classes),
    )


def _text(path: Path, document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise UserError(f"{path}: '{key}' is {value!r}, expected text")
    return value


def _folder(path: Path, document: Mapping[str, Any], key: str) -> Path | None:
    value = _text(path, document, key)
    return None if value is None else path.parent / Path(value).expanduser()


def _label_suffix(path: Path, document: Mapping[str, Any]) -> str:
    suffix = _text(path, document, "label_suffix") or ".png"
    if not suffix.lower().endswith(".png"):
        raise UserError(
            f"{path}: 'label_suffix' is '{suffix}', expected an ending in .png: labels are PNGs "
            "that hold the class ids"
        )
    return suffix


def _encoding(path: Path, document: Mapping[str, Any]) -> str:
    encoding = _text(path, document, "encoding") or "index"
    if encoding not in ENCODINGS:
        raise UserError(
            f"{path}: unknown label encoding '{encoding}': {nearest(encoding, ENCODINGS)}"
            f"available: {', '.join(ENCODINGS)}"
        )
    return encoding


def _class_name(path: Path, where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        # YAML reads no, yes, on and off as truth values and 12 as a number.
        raise UserError(f"{path}: {where} is {value!r}, expected a class name; quote it if it is")
    return value


def _classes(path: Path, document: Mapping[str, Any]) -> tuple[str, ...] | None:
    value = document.get("classes")
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= IGNORE:
        raise UserError(
            f"{path}: 'classes' is {_shown(value)}, expected a list of 1 to {IGNORE} class names"
        )
    names = tuple(_class_name(path, f"class {i}", name) for i, name in enumerate(value))
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise UserError(f"{path}: class '{repeated}' stands twice in 'classes'; remove one")
    return names


def _ids(
    path: Path, document: Mapping[str, Any], classes: tuple[str, ...] | None
) -> str | dict[int, str] | None:
    """Without `ids`, the numbers in the label files are the places in `classes`."""
    value = document.get("ids")
    if value is None:
        return dict(enumerate(classes)) if classes else None
    if isinstance(value, str):
        ID_TABLES.get(value)
        return value
    if not isinstance(value, dict) or not value:
        raise UserError(
            f"{path}: 'ids' is {_shown(value)}, expected {{number: class name, …}} or one of "
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


def check_ids(path: Path, ids: Mapping[int, str], classes: tuple[str, ...], owner: str) -> None:
    """UserError where `ids` names a class that `classes`, those of `owner`, do not hold."""
    for raw_id, name in ids.items():
        if name not in classes:
            raise UserError(
                f"{path}: id {raw_id} is class '{name}', which {owner} lacks: "
                f"{nearest(name, classes)}leave the id out to ignore its pixels; "
                f"classes: {', '.join(classes)}"
            )


def _colors(
    path: Path, document: Mapping[str, Any], classes: tuple[str, ...] | None
) -> tuple[tuple[int, int, int], ...] | None:
    value = document.get("colors")
    if value is None:
        return None
    if classes is None or not isinstance(value, list) or len(value) != len(classes):
        count = len(classes or ())
        raise UserError(
            f"{path}: 'colors' is {_shown(value)}, expected one [red, green, blue] for each of "
            f"the {count} 'classes'"
        )
    for name, color in zip(classes, value, strict=True):
        if (
            not isinstance(color, list)
            or len(color) != 3
            or not all(type(part) is int and 0 <= part <= 255 for part in color)
        ):
            raise UserError(
                f"{path}: the color of '{name}' is {color!r}, expected [red, green, blue], "
                "each from 0 to 255"
            )
    return tuple(tuple(color) for color in value)


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)
