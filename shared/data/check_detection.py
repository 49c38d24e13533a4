"""What the files of a detection data set show to be wrong, one by one and taken together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared.data.annotations import AnnotationFile, thing
from shared.data.cityscapes import FOG_BETAS, read_instance_ids
from shared.data.findings import Finding, Severity
from shared.data.kitti import parse_kitti_label
from shared.data.pixels import check_image
from shared.data.records import DetectionDataset, DetectionRecord
from shared.data.voc import parse_voc_xml
from shared.errors import UserError

# Annotators and converters disagree by a pixel about where an image ends.
_SLACK = 1.0

# How many frames the authors published; `datasets/README.md` names the sources.
DETECTION_FRAMES = {
    "sim10k": 10_000,
    "kitti_train": 7_481,
    "voc2007_trainval": 5_011,
    "voc2007_test": 4_952,
    "voc2012_trainval": 11_540,
    "voc0712_trainval": 5_011 + 11_540,
    "clipart_train": 500,
    "clipart_test": 500,
    "clipart_traintest": 1_000,
    "watercolor_train": 1_000,
    "watercolor_test": 1_000,
}
for _split, _frames in (("train", 2_975), ("val", 500)):
    for _boxes in ("", "_polygons"):
        DETECTION_FRAMES[f"cityscapes_det_{_split}{_boxes}"] = _frames
        DETECTION_FRAMES[f"foggy_cityscapes_{_split}{_boxes}"] = _frames
    for _beta in FOG_BETAS:
        DETECTION_FRAMES[f"foggy_cityscapes_{_split}_beta_{_beta}"] = _frames
    DETECTION_FRAMES[f"foggy_cityscapes_{_split}_beta_all"] = _frames * len(FOG_BETAS)


@dataclass(frozen=True)
class BoxJob:
    """`record` is None where the data set cannot be loaded."""

    dataset: str
    image: Path
    record: DetectionRecord | None


@dataclass(frozen=True)
class BoxReport:
    """One frame.

    Attributes:
        size: (height, width), None where the image cannot be read.
        names: class name in the annotation → boxes.
        source: the file that holds the boxes.
    """

    findings: tuple[Finding, ...]
    size: tuple[int, int] | None
    names: Counter = field(default_factory=Counter)
    source: Path | None = None


def annotation_file(image: Path) -> Path | None:
    """Where the VOC or KITTI annotation of `image` is or should be; None in other trees."""
    tree = image.parent.parent
    if image.parent.name == "JPEGImages":
        return tree / "Annotations" / f"{image.stem}.xml"
    if image.parent.name == "image_2":
        return tree / "label_2" / f"{image.stem}.txt"
    return None


def check_boxes(job: BoxJob) -> BoxReport:
    """Decodes a frame's image and compares its annotations with it; runs in worker processes."""
    name, record = job.dataset, job.record
    findings, size = check_image(name, job.image)
    source = annotation_file(job.image)
    if source is None or not source.is_file():
        if record is None or record.annotations is None:
            return BoxReport(tuple(findings), size)
        source = job.image
        things = tuple(thing(a.category, a.box) for a in record.annotations)
        annotated = AnnotationFile(things, (record.height, record.width))
    else:
        try:
            parse = parse_voc_xml if source.suffix == ".xml" else parse_kitti_label
            annotated = parse(source)
        except UserError as error:
            findings.append(Finding(Severity.ERROR, name, str(error)))
            return BoxReport(tuple(findings), size)
    if size is not None:
        findings += [
            Finding(severity, name, message, source)
            for severity, message in _compare(annotated, size)
        ]
    if record is not None and record.instances is not None:
        findings += _check_instances(name, record, size)
    return BoxReport(tuple(findings), size, Counter(name for name, *_ in annotated.things), source)


def _compare(annotated: AnnotationFile, size: tuple[int, int]) -> Iterator[tuple[Severity, str]]:
    height, width = size
    if annotated.size not in (None, size):
        claimed = f"{annotated.size[1]}×{annotated.size[0]}"
        yield Severity.ERROR, f"says that the image is {claimed}, it is {width}×{height}"
    for name, x1, y1, x2, y2, *_ in annotated.things:
        shown = f"{name} [{x1:g}, {y1:g}, {x2:g}, {y2:g}]"
        if not np.isfinite((x1, y1, x2, y2)).all():
            yield Severity.ERROR, f"box {shown} is not finite"
        elif x2 <= x1 or y2 <= y1:
            yield Severity.WARNING, f"box {shown} is empty: left out"
        elif x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            message = f"box {shown} is outside its {width}×{height} image: left out"
            yield Severity.WARNING, message
        elif min(x1, y1) < -_SLACK or x2 > width + _SLACK or y2 > height + _SLACK:
            message = f"box {shown} reaches beyond its {width}×{height} image: clipped"
            yield Severity.WARNING, message


def _check_instances(
    name: str, record: DetectionRecord, size: tuple[int, int] | None
) -> list[Finding]:
    path = record.instances
    try:
        instances = read_instance_ids(path)
    except UserError as error:
        return [Finding(Severity.ERROR, name, str(error))]
    if size is not None and instances.shape != size:
        height, width = instances.shape
        message = f"instances are {width}×{height}, the image is {size[1]}×{size[0]}"
        return [Finding(Severity.ERROR, name, message, path)]
    wanted = {a.instance for a in record.annotations or () if a.instance is not None}
    lost = sorted(wanted - set(np.unique(instances).tolist()))
    if lost:
        message = f"holds no pixel of instances {', '.join(map(str, lost))}"
        return [Finding(Severity.ERROR, name, message, path)]
    return []


def check_files(name: str, dataset: DetectionDataset) -> Iterator[Finding]:
    """Counts. Opens no file."""
    expected = DETECTION_FRAMES.get(name.removeprefix("toy_"))
    if expected is not None and len(dataset.records) != expected:
        message = f"{len(dataset.records)} frames, {expected} were published"
        yield Finding(Severity.WARNING, name, message)
    if dataset.records and all(record.annotations is None for record in dataset.records):
        yield Finding(Severity.INFO, name, "no annotations: good as a target only")
        return
    seen = {a.category for record in dataset.records for a in record.annotations or ()}
    absent = [label for label in dataset.classes if label not in seen]
    if absent:
        yield Finding(Severity.INFO, name, f"classes that never occur: {', '.join(absent)}")


def check_names(name: str, reports: Sequence[BoxReport], known: Sequence[str]) -> Iterator[Finding]:
    """Class names over all annotations that were read.

    Args:
        known: all that the data set should hold, those included that the loader leaves out.
    """
    names = sum((report.names for report in reports), Counter())
    if names:
        listed = ", ".join(f"{label} {count}" for label, count in sorted(names.items()))
        yield Finding(Severity.INFO, name, f"boxes: {listed}")
    for label in sorted(names.keys() - set(known)):
        files = [report.source for report in reports if label in report.names]
        message = (
            f"holds unknown class '{label}', whose boxes are left out; {len(files)} files do; "
            f"known: {', '.join(known)}"
        )
        yield Finding(Severity.WARNING, name, message, files[0])
