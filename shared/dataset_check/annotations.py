"""Annotation files as they are on disk, faults included: no box is clipped or dropped."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from shared.catalog.kitti import FIELDS
from shared.errors import MissingFileError, UserError


@dataclass(frozen=True)
class Box:
    """`edges`: x1, y1, x2, y2 in continuous 0-based pixels."""

    name: str
    edges: tuple[float, float, float, float]


@dataclass(frozen=True)
class Annotated:
    """The content of one annotation file.

    Attributes:
        size: (height, width) that the file claims, None where it claims none.
    """

    boxes: tuple[Box, ...]
    size: tuple[int, int] | None


def annotation_file(image: Path) -> Path | None:
    """Where the VOC or KITTI annotation of `image` is or should be; None in other trees."""
    tree = image.parent.parent
    if image.parent.name == "JPEGImages":
        return tree / "Annotations" / f"{image.stem}.xml"
    if image.parent.name == "image_2":
        return tree / "label_2" / f"{image.stem}.txt"
    return None


def read_annotation(path: Path) -> Annotated:
    """Raises UserError where the file is missing or damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"no file {path}") from None
    return _read_voc(data, path) if path.suffix == ".xml" else _read_kitti(data, path)


def _read_voc(data: bytes, path: Path) -> Annotated:
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is no XML or cut short ({error}); unpack it again") from None
    try:
        edges = [root.findtext(f"size/{edge}", "").strip() for edge in ("height", "width")]
        boxes = tuple(_voc_box(entry) for entry in root.iter("object"))
    except (TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path} lacks a number or a name; every <object> needs <name> and <bndbox> with xmin, "
            "ymin, xmax and ymax"
        ) from None
    claimed = all(edge.isdecimal() and int(edge) > 0 for edge in edges)
    return Annotated(boxes, (int(edges[0]), int(edges[1])) if claimed else None)


def _voc_box(entry: ElementTree.Element) -> Box:
    # The parts of a person layout have boxes of their own, deeper down.
    box = entry.find("bndbox")
    x1, y1, x2, y2 = (float(box.findtext(tag)) for tag in ("xmin", "ymin", "xmax", "ymax"))
    return Box(entry.findtext("name").strip(), (x1 - 1, y1 - 1, x2, y2))


def _read_kitti(data: bytes, path: Path) -> Annotated:
    boxes = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            x1, y1, x2, y2 = map(float, fields[4:8])
            if len(fields) != FIELDS:
                raise ValueError
        except ValueError:
            raise UserError(
                f"{path}, line {number}: got {len(fields)} fields, expected {FIELDS}: type, 3 "
                "numbers, x1 y1 x2 y2, 7 numbers"
            ) from None
        boxes.append(Box(fields[0], (x1, y1, x2, y2)))
    return Annotated(tuple(boxes), None)
