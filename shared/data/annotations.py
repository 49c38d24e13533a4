"""Annotation files in parallel, and only once: afterwards the rows come from the index cache.

A row is JSON: height, width, things, and how many things were left out because nothing of their
boxes is inside the picture. The things are one flat list (a list for each would take JSON four
times as long), `FIELDS` values each: category (None: any class), x1, y1, x2, y2, and the fields
`difficult`, `crowd` and `instance` of `shared.data.records.Annotation`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shared.data.folders import Place
from shared.data.images import image_size
from shared.data.index_cache import cached
from shared.data.records import Annotation
from shared.errors import UserError
from shared.registry import nearest

logger = logging.getLogger(__name__)

Box = tuple[float, float, float, float]
Thing = tuple[str | None, float, float, float, float, bool, bool, int | None]
Row = tuple[int, int, list, int]
File = TypeVar("File")

# 10,000 XML files take half a second of parsing, less than worker processes take to start; on a
# network disk it is the waiting that takes long, which threads share. Nor do threads, unlike
# processes, ask a calling script for its `if __name__ == "__main__":`.
THREADS = 16
FIELDS = 8
# In the cache's keys: raised whenever a reader gives other rows for the same files.
VERSION = 1


@dataclass(frozen=True)
class AnnotationFile:
    """The content of one VOC or KITTI file, faults included: no box is clipped or dropped.

    Attributes:
        things: with the class names of the file.
        size: (height, width) that the file claims, None where it claims none.
    """

    things: tuple[Thing, ...]
    size: tuple[int, int] | None = None


def thing(
    category: str | None,
    box: Box,
    *,
    difficult: bool = False,
    crowd: bool = False,
    instance: int | None = None,
) -> Thing:
    """One thing, before `row` puts it among the others."""
    return (category, *box, difficult, crowd, instance)


def row(height: int, width: int, things: Iterable[Thing]) -> Row:
    """Clips the boxes at the picture's borders; of those outside, only the number is kept."""
    kept: list = []
    dropped = 0
    for category, x1, y1, x2, y2, *flags in things:
        box = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if box[0] < box[2] and box[1] < box[3]:
            kept += (category, *box, *flags)
        else:
            dropped += 1
    return height, width, kept, dropped


def _in_threads(function: Callable[[File], object], files: Mapping[str, File]) -> dict:
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(files, pool.map(function, files.values()), strict=True))


def read_rows(
    place: Place,
    key: str,
    watched: Sequence[Path],
    read: Callable[[File], Row],
    files: Mapping[str, File],
) -> dict[str, Row]:
    """`read` of every file, by name.

    Args:
        key: names layout and split; data sets that share files and reader share it.
        watched: the folders whose change makes the rows stale.
    """

    def build() -> dict[str, Row]:
        logger.info("data set '%s': reading %d annotation files", place.name, len(files))
        return _in_threads(read, files)

    rows = cached(f"{key}-rows-{VERSION}", watched, build)
    dropped = [name for name, (*_, count) in rows.items() if count]
    if dropped:
        logger.warning(
            "data set '%s': %d boxes without a pixel inside their picture left out, in %d "
            "pictures (first: %s)",
            place.name,
            sum(count for *_, count in rows.values()),
            len(dropped),
            min(dropped),
        )
    return rows


def read_sizes(
    key: str, watched: Sequence[Path], images: Mapping[str, Path]
) -> dict[str, tuple[int, int]]:
    """(height, width) of every image, from its header."""

    def build() -> dict[str, tuple[int, int]]:
        return _in_threads(image_size, images)

    return cached(f"{key}-sizes-{VERSION}", watched, build)


def annotations_of(things: Sequence, classes: Sequence[str]) -> tuple[Annotation, ...]:
    """A row's things of the given classes; a thing of any class once for each of them."""
    values = iter(things)
    return tuple(
        Annotation(name, (x1, y1, x2, y2), difficult, crowd, instance)
        for category, x1, y1, x2, y2, difficult, crowd, instance in zip(
            *[values] * FIELDS, strict=True
        )
        for name in (classes if category is None else (category,))
        if name in classes
    )


def choose_classes(
    place: Place, wanted: Sequence[str] | None, known: Sequence[str], default: Sequence[str]
) -> tuple[str, ...]:
    """`wanted`, or `default` where that is None; a UserError for what the layout does not know."""
    if wanted is None:
        return tuple(default)
    if isinstance(wanted, str) or not wanted or len(set(wanted)) < len(wanted):
        raise UserError(
            f"data set '{place.name}': got classes {wanted!r}, expected a list of different names "
            f"out of: {', '.join(known)}"
        )
    for name in wanted:
        if name not in known:
            raise UserError(
                f"data set '{place.name}' has no class '{name}': {nearest(name, known)}"
                f"available: {', '.join(known)}"
            )
    return tuple(wanted)
