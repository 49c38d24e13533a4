"""What decoded files show to be wrong: one frame, then all frames of a data set together."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.annotations import AnnotationFile, clip
from shared.data.images import read_image
from shared.data.label_maps import ID_TABLES, IGNORE, LabelSpace, label_space
from shared.data.records import Fault, Severity
from shared.errors import UserError

# JPEG noise around pure black and white.
_TOLERANCE = 8
# Image sizes in a summary.
_EXAMPLES = 3
# Ids of the two tables whose data sets also circulate as train ids (0 to 18).
_LABEL_ID_TABLES = ("cityscapes", "gta5")


@dataclass(frozen=True)
class FrameJob:
    """One frame.

    Attributes:
        read: of its label file: class ids (H, W) as a tensor, or an `AnnotationFile`.
    """

    image: Path
    label: Path | None
    read: Callable[[Path], Any]


@dataclass(frozen=True)
class FrameReport:
    """One decoded frame.

    Attributes:
        size: (height, width) of the image, None where it cannot be read.
        counts: pixels of each class id, or boxes of each class name.
    """

    label: Path | None
    faults: tuple[Fault, ...]
    size: tuple[int, int] | None
    counts: Counter = field(default_factory=Counter)


def check_frame(job: FrameJob) -> FrameReport:
    """Decodes image and label, and compares them; runs in worker processes."""
    faults, size, label_size, counts, objects = [], None, None, Counter(), ()
    try:
        image = read_image(job.image).permute(1, 2, 0).numpy()
        size = image.shape[:2]
        constant = constant_color(image)
        if constant:
            text = f"image is {constant}; leave it out or download it again"
            faults.append(Fault(Severity.WARNING, text, job.image))
    except UserError as error:
        faults.append(Fault(Severity.ERROR, str(error)))
    try:
        content = None if job.label is None else job.read(job.label)
    except UserError as error:
        faults.append(Fault(Severity.ERROR, str(error)))
        content = None
    if isinstance(content, AnnotationFile):
        label_size, objects = content.size, content.objects
        counts = Counter(item.category for item in objects)
    elif content is not None:
        label_size = tuple(content.shape)
        counts = Counter(dict(enumerate(np.bincount(content.numpy().ravel()).tolist())))
    if size is not None and label_size not in (None, size):
        (height, width), (rows, columns) = label_size, size
        text = f"is for {width}×{height} pixels, its image has {columns}×{rows}: no pair"
        faults.append(Fault(Severity.ERROR, text, job.label))
    if size is not None:
        faults += clip(objects, *size, job.label)[1]
    return FrameReport(job.label, tuple(faults), size, counts)


def constant_color(image: np.ndarray) -> str:
    """How an image (H, W, 3) uint8 that shows nothing looks; "" for all others."""
    # Some of the pixels tell it of almost every image, in a fraction of the time.
    if np.ptp(image[::16, ::16], axis=(0, 1)).max() > _TOLERANCE:
        return ""
    if image.max() <= _TOLERANCE:
        return "all black"
    if image.min() >= 255 - _TOLERANCE:
        return "all white"
    if not np.ptp(image.reshape(-1, 3), axis=0).any():
        return "all of one color"
    return ""


def summarize_sizes(reports: Sequence[FrameReport]) -> Iterator[Fault]:
    """The most common image sizes."""
    common = Counter(report.size for report in reports if report.size is not None).most_common()
    if common:
        listed = ", ".join(f"{w}×{h} ({count})" for (h, w), count in common[:_EXAMPLES])
        rest = f" and {len(common) - _EXAMPLES} more" if len(common) > _EXAMPLES else ""
        yield Fault(Severity.INFO, f"image sizes: {listed}{rest}")


def evaluated_space(id_table: str) -> LabelSpace:
    """The label space to count and draw the classes of an id table in."""
    return label_space("synthia_seqs13" if id_table == "synthia_seqs" else "cityscapes19")


def summarize_ids(reports: Sequence[FrameReport], id_table: str) -> Iterator[Fault]:
    """Shares of the classes, and ids that should not be there."""
    table, space = ID_TABLES.get(id_table), evaluated_space(id_table)
    counts = sum((report.counts for report in reports), Counter())
    pixels = counts.total()
    if not pixels:
        return
    shares = dict.fromkeys(space.classes, 0.0)
    for raw_id, class_name in table.items():
        if class_name in shares:
            shares[class_name] += 100 * counts[raw_id] / pixels
    listed = ", ".join(f"{c} {share:.2f}" for c, share in shares.items() if share)
    ignored = 100 - sum(shares.values())
    yield Fault(Severity.INFO, f"% of pixels: {listed or 'none'}, ignored {ignored:.2f}")
    # What a data set has no id for is no surprise.
    possible = [c for c in space.classes if c in table.values()]
    absent = [c for c in possible if not shares[c]]
    if len(absent) == len(possible):
        text = f"no label holds a class that is evaluated ({space.name}): wrong label files?"
        yield Fault(Severity.ERROR, text)
    elif absent:
        yield Fault(Severity.INFO, f"classes that never occur: {', '.join(absent)}")
    label_ids = [raw_id for raw_id in counts if raw_id < 35]
    if id_table in _LABEL_ID_TABLES and label_ids and max(label_ids) < 19:
        text = (
            "the labels hold ids 0 to 18 only: they look like train ids, expected label ids "
            f"(sky {next(i for i, c in table.items() if c == 'sky')}); use the original files"
        )
        yield Fault(Severity.ERROR, text)
    for raw_id in sorted(counts.keys() - table.keys() - {IGNORE}):
        files = [report.label for report in reports if report.counts[raw_id]]
        text = (
            f"holds id {raw_id}, which the id table '{id_table}' does not have; {len(files)} "
            f"labels do, in {100 * counts[raw_id] / pixels:.3f} % of all pixels"
        )
        yield Fault(Severity.ERROR, text, files[0])


def summarize_names(
    reports: Sequence[FrameReport], names: Mapping[str, Sequence[str]], classes: Sequence[str]
) -> Iterator[Fault]:
    """How many boxes each class name of the annotation files has, and names of no class.

    Args:
        names: that the files should hold → the classes they stand for.
        classes: those that the data set is used for.
    """
    counts = sum((report.counts for report in reports), Counter())
    if counts:
        listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        yield Fault(Severity.INFO, f"boxes: {listed}")
    present = {label for name in counts for label in names.get(name, ())}
    absent = [label for label in classes if label not in present]
    if absent:
        yield Fault(Severity.INFO, f"classes that never occur: {', '.join(absent)}")
    for name in sorted(counts.keys() - names.keys()):
        files = [report.label for report in reports if name in report.counts]
        text = (
            f"holds unknown class '{name}', whose boxes are left out; {len(files)} files do; "
            f"known: {', '.join(names)}"
        )
        yield Fault(Severity.WARNING, text, files[0])
