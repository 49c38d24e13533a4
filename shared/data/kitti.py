"""KITTI object detection: `kitti/training/{image_2/000000.png,label_2/000000.txt}`.

A label line has 15 fields, of which the first is the type and the fifth to eighth are x1 y1 x2 y2
in continuous pixel coordinates from 0.
"""

from pathlib import Path

from shared.data.annotations import AnnotationFile, DetectionFiles
from shared.data.folders import IMAGE_SUFFIXES, Location, files_in, match
from shared.data.records import Annotation
from shared.errors import UserError

# KITTI's type → class. A van is no car here, as in the papers; a Cyclist is the rider together with
# the bicycle.
KITTI_CLASSES = {
    "Car": "car",
    "Van": "van",
    "Truck": "truck",
    "Tram": "train",
    "Pedestrian": "person",
    "Person_sitting": "person",
    "Cyclist": "rider",
}
# A region where nobody labeled anything: it tells nothing about any class.
DONT_CARE = "DontCare"
FIELDS = 15
_NAMES = {kind: (name,) for kind, name in KITTI_CLASSES.items()}
_NAMES |= {"Misc": (), DONT_CARE: tuple(dict.fromkeys(KITTI_CLASSES.values()))}


def read_kitti_label(path: Path) -> AnnotationFile:
    """One label file; UserError where it cannot be read or a line is not in KITTI's format."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    objects = []
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
        objects.append(Annotation(fields[0], box, crowd=fields[0] == DONT_CARE))
    return AnnotationFile(tuple(objects))


def kitti_files(location: Location, labeled: bool) -> DetectionFiles:
    """All labeled frames of KITTI; a DontCare region is a crowd of every chosen class."""
    folder = location.folder("kitti/training/image_2")
    images, labels, watched = files_in(folder, IMAGE_SUFFIXES), None, [folder]
    if labeled:
        watched.append(location.folder("kitti/training/label_2"))
        labels = files_in(watched[-1], (".txt",))
    frames, faults = match(location, images, labels, folder)
    return DetectionFiles(
        name=location.name,
        records=frames,
        labeled=labeled,
        read=read_kitti_label,
        names=_NAMES,
        default=("car",),
        key="kitti",
        watched=watched,
        faults=faults,
    )
