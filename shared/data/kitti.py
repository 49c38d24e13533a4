"""KITTI object detection: `kitti/training/{image_2/000000.png,label_2/000000.txt}`.

A label line has 15 fields, of which the first is the type and the fifth to eighth are x1 y1 x2 y2
in continuous pixel coordinates from 0.
"""

from collections.abc import Sequence
from pathlib import Path

from shared.data.annotations import (
    AnnotationFile,
    Row,
    annotations_of,
    choose_classes,
    read_rows,
    read_sizes,
    row,
    thing,
)
from shared.data.folders import IMAGE_SUFFIXES, Place, files_in, matched_names
from shared.data.images import image_size
from shared.data.records import DetectionDataset, DetectionRecord
from shared.errors import UserError

# KITTI's type → class. A van is no car here, as in the papers; a Cyclist is the rider together with
# the bicycle. Misc is no class.
KITTI_CLASSES = {
    "Car": "car",
    "Van": "van",
    "Truck": "truck",
    "Tram": "train",
    "Pedestrian": "person",
    "Person_sitting": "person",
    "Cyclist": "rider",
}
KITTI_DEFAULT = ("car",)
# A region where nobody labelled anything: it tells nothing about any class.
DONT_CARE = "DontCare"
FIELDS = 15


def parse_kitti_label(path: Path) -> AnnotationFile:
    """One label file; UserError where it cannot be read or a line is not in KITTI's format."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    things = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            if len(fields) != FIELDS:
                raise ValueError
            box = tuple(float(field) for field in fields[4:8])
        except ValueError:
            raise UserError(
                f"{path}, line {number}: got '{line[:80]}', expected {FIELDS} fields of KITTI's "
                "object labels (type, 3 numbers, x1 y1 x2 y2, 7 numbers)"
            ) from None
        things.append(thing(fields[0], box, crowd=fields[0] == DONT_CARE))
    return AnnotationFile(tuple(things))


def read_kitti_label(path: Path, image: Path) -> Row:
    """One label file with our class names; the size comes from the image's header."""
    names = {**KITTI_CLASSES, DONT_CARE: None}
    things = [(names.get(kind, kind), *rest) for kind, *rest in parse_kitti_label(path).things]
    return row(*image_size(image), things)


def kitti_layout(place: Place, labelled: bool, wanted: Sequence[str] | None) -> DetectionDataset:
    """All labelled frames of KITTI; a DontCare region is a crowd of every chosen class."""
    known = tuple(dict.fromkeys(KITTI_CLASSES.values()))
    classes = choose_classes(place, wanted, known, KITTI_DEFAULT)
    images = place.folder("kitti/training/image_2")
    files = files_in(images, IMAGE_SUFFIXES)
    if not labelled:
        names = matched_names(place, files, None, images)
        sizes = read_sizes("kitti", [images], files)
        records = (DetectionRecord(n, files[n], *sizes[n], None) for n in names)
        return DetectionDataset(place.name, tuple(records), classes, "train")
    folder = place.folder("kitti/training/label_2")
    labels = files_in(folder, (".txt",))
    names = matched_names(place, files, labels, images)
    pairs = {n: (labels[n], files[n]) for n in names}
    rows = read_rows(place, "kitti", [images, folder], lambda pair: read_kitti_label(*pair), pairs)
    records = []
    for name in names:
        height, width, things, _ = rows[name]
        annotations = annotations_of(things, classes)
        records.append(DetectionRecord(name, files[name], height, width, annotations))
    return DetectionDataset(place.name, tuple(records), classes, "train")
