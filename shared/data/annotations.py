"""Annotation files of detection data sets: finding, reading and clipping what is in them.

They are read in parallel, and only once: afterwards the index cache has their rows. A row is JSON:
height, width, annotations, and how many more had no pixel in the picture. The annotations are one
flat list (a list for each would take JSON four times as long), the fields of `Annotation` in turn
with the box as four numbers.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shared.data.images import image_size
from shared.data.index_cache import cached
from shared.data.records import Annotation, DetectionRecord, Fault, Frame, Severity

logger = logging.getLogger(__name__)

# 10,000 XML files take half a second of parsing, less than worker processes take to start; on a
# network disk it is the waiting that takes long, which threads share. Nor do threads, unlike
# processes, ask a calling script for its `if __name__ == "__main__":`.
THREADS = 16
FIELDS = 8
# In the cache's keys: raised whenever a reader gives other rows for the same files.
VERSION = 2
# Annotators and converters disagree by a pixel about where an image ends.
SLACK = 1.0


@dataclass(frozen=True)
class AnnotationFile:
    """What one annotation file says: boxes are not clipped, categories are the file's names.

    Attributes:
        size: (height, width) that the file claims, None where it claims none.
    """

    objects: tuple[Annotation, ...]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class DetectionFiles:
    """What a layout finds in its folders, before any file is opened.

    Attributes:
        name: of the data set.
        records: the frames, sorted by name; without label files where annotations are not wanted.
        read: reads an annotation file; UserError where it is damaged.
        names: class name in the files → the classes that it stands for.
        default: the classes to keep where none are chosen; None: all.
        key: of the index cache; data sets that share annotation files and reader may share it.
        watched: the folders whose change makes the index stale.
        faults: files that are left out; with an ERROR among them the data set cannot be loaded.
        indexed: label files in the index besides those of the frames, for all that share the key.
        instances: whether the annotation files are PNGs of instance ids.
        official_root: as in `DetectionDataset`.
    """

    name: str
    records: Sequence[Frame]
    labeled: bool
    read: Callable[[Path], AnnotationFile]
    names: Mapping[str, Sequence[str]]
    default: tuple[str, ...] | None
    key: str
    watched: Sequence[Path]
    faults: Sequence[Fault]
    indexed: Iterable[Path] = ()
    instances: bool = False
    official_root: Path | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that the data set knows."""
        return tuple(dict.fromkeys(c for classes in self.names.values() for c in classes))


def clip(
    objects: Iterable[Annotation], height: int, width: int, file: Path | None = None
) -> tuple[list[Annotation], list[Fault]]:
    """Boxes clipped at the picture's borders, those without a pixel inside left out, and faults."""
    kept, faults = [], []
    for item in objects:
        x1, y1, x2, y2 = item.box
        box = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        is_inside = box[0] < box[2] and box[1] < box[3]
        if is_inside:
            kept.append(Annotation(item.category, box, item.difficult, item.crowd, item.instance))
        if is_inside and box == item.box:
            continue
        severity, picture, problem = Severity.WARNING, f"its {width}×{height} image", ""
        if not all(map(math.isfinite, item.box)):
            severity, problem = Severity.ERROR, "is not finite"
        elif x2 <= x1 or y2 <= y1:
            problem = "is empty: left out"
        elif not is_inside:
            problem = f"is outside {picture}: left out"
        elif min(x1, y1) < -SLACK or x2 > width + SLACK or y2 > height + SLACK:
            problem = f"reaches beyond {picture}: clipped"
        if problem:
            text = f"box {item.category} [{x1:g}, {y1:g}, {x2:g}, {y2:g}] {problem}"
            faults.append(Fault(severity, text, file))
    return kept, faults


def read_records(files: DetectionFiles, classes: Sequence[str]) -> tuple[DetectionRecord, ...]:
    """The records of all frames with their annotations of `classes`, out of the index."""
    # By stems: several frames may share an annotation file.
    jobs = {path.stem: Frame("", path, path) for path in files.indexed}
    jobs |= {_key(frame): frame for frame in files.records}

    def build() -> dict[str, Sequence]:
        logger.info("data set '%s': reading %d files", files.name, len(jobs))
        with ThreadPoolExecutor(THREADS) as pool:
            rows = pool.map(lambda frame: _row(files, frame), jobs.values())
            return dict(zip(jobs, rows, strict=True))

    kind = "rows" if files.labeled else "sizes"
    rows = cached(f"{files.key}-{kind}-{VERSION}", files.watched, build)
    dropped = [key for key, (*_, count) in rows.items() if count]
    if dropped:
        logger.warning(
            "data set '%s': %d boxes without a pixel inside their picture left out, in %d "
            "pictures (first: %s)",
            files.name,
            sum(count for *_, count in rows.values()),
            len(dropped),
            min(dropped),
        )
    return tuple(_record(files, f, rows[_key(f)], classes) for f in files.records)


def read_record(files: DetectionFiles, frame: Frame, classes: Sequence[str]) -> DetectionRecord:
    """The record of one frame, out of its own files."""
    return _record(files, frame, _row(files, frame), classes)


def _key(frame: Frame) -> str:
    return (frame.label or frame.image).stem


def _row(files: DetectionFiles, frame: Frame) -> Sequence:
    content = files.read(frame.label) if files.labeled else AnnotationFile(())
    height, width = content.size or image_size(frame.image)
    kept, _ = clip(content.objects, height, width)
    values = [
        value
        for item in kept
        for value in (item.category, *item.box, item.difficult, item.crowd, item.instance)
    ]
    return height, width, values, len(content.objects) - len(kept)


def _record(
    files: DetectionFiles, frame: Frame, row: Sequence, classes: Sequence[str]
) -> DetectionRecord:
    height, width, values, _ = row
    fields = [iter(values)] * FIELDS
    annotations = tuple(
        Annotation(chosen, (x1, y1, x2, y2), difficult, crowd, instance)
        for category, x1, y1, x2, y2, difficult, crowd, instance in zip(*fields, strict=True)
        for chosen in classes
        if chosen in files.names.get(category, ())
    )
    return DetectionRecord(
        frame.name,
        frame.image,
        height,
        width,
        annotations if files.labeled else None,
        frame.label if files.instances else None,
    )
