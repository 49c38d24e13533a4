"""Data by name or by path: the catalog's, or a user's own folder, description or classes.

Nothing here is registered: what a file on disk says travels inside the data set it describes.
"""

import colorsys
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from shared.data.catalog import (
    DETECTION,
    SEGMENTATION,
    check_classes,
    load_detection,
    load_segmentation,
)
from shared.data.coco import coco_detection
from shared.data.description import (
    DetectionDescription,
    SegmentationDescription,
    check_ids,
    is_description,
    read_description,
)
from shared.data.folders import IMAGE_SUFFIXES
from shared.data.images import image_size
from shared.data.label_maps import LABEL_SPACES, LabelSpace, label_space
from shared.data.records import (
    DetectionDataset,
    DetectionRecord,
    SegmentationDataset,
    SegmentationRecord,
    joined,
)
from shared.errors import MissingFileError, UserError

logger = logging.getLogger(__name__)

DOCUMENTATION = "docs/own_data.md"
_GOLDEN_RATIO_CONJUGATE = (5**0.5 - 1) / 2


def resolve_segmentation(
    name: str,
    root: Path,
    *,
    space: LabelSpace | None = None,
    labeled: bool = False,
) -> SegmentationDataset:
    """The data set that a registered name, a folder of images or a description file stands for.

    Args:
        name: a name of the catalog, which is looked up below `root`; or a path, relative to the
            current folder; or several of these, with commas between them.
        space: the label space that the labels will be mapped to; a description whose `ids` name a
            class that it lacks is refused.
        labeled: refuse a data set without labels, and leave out images without a label.
    """
    names = split_names(name)
    if len(names) > 1:
        one = partial(resolve_segmentation, root=root, space=space, labeled=labeled)
        return joined([one(name) for name in names])
    path = None if name in SEGMENTATION else _own_path(name, labeled)
    if path is None:
        return load_segmentation(name, root, labeled=labeled)
    description = read_description(path, SegmentationDescription)
    images, labels, ids = description.images, description.labels, description.ids
    if images is None:
        raise UserError(f"{path} has no 'images': add the folder of the images")
    if labeled and labels is None:
        raise UserError(
            f"{path} has no 'labels', and a source or test needs them; add the folder of the "
            "label PNGs and 'ids'"
        )
    if space is not None and labels is not None and not isinstance(ids, str):
        check_ids(path, ids, (*space.classes, *space.merged), f"label space '{space.name}'")
    records = _frames(description)
    if labels is not None:
        records = _pairs(description, records, labeled)
    return SegmentationDataset(
        description.name, records, ids or {}, description.encoding, labels or images
    )


def split_names(name: str) -> list[str]:
    """The data sets that a name with commas stands for; a path may have some of its own."""
    if "," not in name or Path(name).expanduser().exists():
        return [name]
    return [part.strip() for part in name.split(",") if part.strip()]


def resolve_detection(
    name: str,
    root: Path,
    *,
    labeled: bool = False,
    classes: Sequence[str] | None = None,
) -> DetectionDataset:
    """The data set that a registered name, a folder of images or a description file stands for.

    Args:
        name: as for segmentation.
        labeled: read the annotations, and refuse a data set without. Otherwise no annotation file
            is opened.
        classes: keep the boxes of these classes only.
    """
    path = None if name in DETECTION else _own_path(name, labeled)
    if path is None:
        return load_detection(name, root, labeled=labeled, classes=classes)
    description = read_description(path, DetectionDescription)
    for key in ("images", "coco") if labeled else ("images",):
        if getattr(description, key) is None:
            raise UserError(f"{path} has no '{key}'; see {DOCUMENTATION}")
    if not labeled:
        frames = _frames(SegmentationDescription(path, description.name, description.images))
        records = tuple(
            DetectionRecord(f.name, f.image, *image_size(f.image), None) for f in frames
        )
        return DetectionDataset(description.name, records, tuple(classes or ()))
    dataset = coco_detection(description.coco, description.images)
    chosen = dataset.classes if classes is None else tuple(classes)
    check_classes(description.name, chosen, dataset.classes)
    records = tuple(
        replace(r, annotations=tuple(a for a in r.annotations if a.category in chosen))
        for r in dataset.records
    )
    return DetectionDataset(description.name, records, chosen)


def resolve_label_space(name: str) -> LabelSpace:
    """The registered label space of that name, or the one a description's `classes` define.

    Args:
        name: a name, or the path of a .yaml or .json file; relative to the current folder.
    """
    if name in LABEL_SPACES or not is_description(name):
        return label_space(name)
    description = read_description(Path(name).expanduser(), SegmentationDescription)
    if description.classes is None:
        raise UserError(
            f"{name} defines no label space: add 'classes', the list of class names, or name one "
            f"of {', '.join(LABEL_SPACES)}"
        )
    colors = description.colors or distinct_colors(len(description.classes))
    # No official script and no published protocol applies to it.
    return LabelSpace(description.name, description.classes, colors, None, {})


def distinct_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """`count` RGB colors, the same at every call; no two are equal and none is black.

    Each hue is a golden angle on from the last, which spreads any number of them evenly; bright
    and dark alternate, since neighboring hues of many classes look alike.
    """
    colors: dict[tuple[int, int, int], None] = {}
    step = 0
    while len(colors) < count:
        hue = step * _GOLDEN_RATIO_CONJUGATE % 1.0
        rgb = colorsys.hsv_to_rgb(hue, 0.85, 0.6 if step % 2 else 0.95)
        colors[tuple(round(255 * value) for value in rgb)] = None
        step += 1
    return tuple(colors)


def _own_path(name: str, labeled: bool) -> Path | None:
    """The folder or description that `name` leads to; None where it is no path."""
    path = Path(name).expanduser()
    if path.is_dir():
        if labeled:
            raise UserError(
                f"{path} is a folder of images, and a source or test needs labels; describe both "
                f"in a .yaml file, see {DOCUMENTATION}"
            )
        return path
    if path.is_file():
        if is_description(path):
            return path
        raise UserError(
            f"{path} is neither a folder of images nor a .yaml or .json description; "
            f"see {DOCUMENTATION}"
        )
    if len(path.parts) > 1 or is_description(path):
        kind = "file" if is_description(path) else "folder of images"
        raise MissingFileError(
            f"no {kind} {path} (looked in {path.absolute().parent}); see {DOCUMENTATION}"
        )
    return None


def _frames(description: SegmentationDescription) -> tuple[SegmentationRecord, ...]:
    """Every image, sorted by name, each with its label where there is one."""
    path, folder, ending = description.path, description.images, description.label_suffix
    for key, value in (("images", folder), ("labels", description.labels)):
        if value is not None and not value.is_dir():
            raise MissingFileError(
                f"{path}: no folder {value} ('{key}' is relative to the description)"
            )
    files = [] if description.labels is None else _files(description.labels, (ending,))
    labels = {file[: -len(ending)]: description.labels / file for file in files}
    images: dict[str, Path] = {}
    for file in _image_files(description, set(files)):
        name = file[: -len(description.image_suffix or Path(file).suffix)]
        if name in images:
            raise UserError(
                f"{path}: {images[name]} and {folder / file} would share one result; rename one, "
                "or choose by 'image_suffix'"
            )
        images[name] = folder / file
    return tuple(SegmentationRecord(n, images[n], labels.get(n)) for n in sorted(images))


def _files(folder: Path, endings: tuple[str, ...]) -> list[str]:
    """The visible files below `folder`, as paths below it; the case of endings does not matter."""
    endings = tuple(ending.lower() for ending in endings)
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        below = Path(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + f for f in files if f[0] != "." and f.lower().endswith(endings)]
    return found


def _image_files(description: SegmentationDescription, label_files: set[str]) -> list[str]:
    """The images, where the labels may lie beside them or in a folder below."""
    suffix = description.image_suffix
    files = _files(description.images, IMAGE_SUFFIXES if suffix is None else (suffix,))
    hint = f" whose name ends in '{suffix}'" if suffix else ""
    images = description.images.resolve()
    labels = None if description.labels is None else description.labels.resolve()
    if labels == images:
        files = [file for file in files if file not in label_files]
        hint += "; labels beside the images need a 'label_suffix' of their own"
    elif labels is not None and labels.is_relative_to(images):
        below = labels.relative_to(images).as_posix() + "/"
        files = [file for file in files if not file.startswith(below)]
    if not files:
        raise UserError(f"{description.path}: no image in {description.images}{hint}")
    return files


def _pairs(
    description: SegmentationDescription, records: tuple[SegmentationRecord, ...], labeled: bool
) -> tuple[SegmentationRecord, ...]:
    pairs = tuple(record for record in records if record.label is not None)
    if not pairs:
        expected = description.labels / f"{records[0].name}{description.label_suffix}"
        raise UserError(
            f"{description.path}: none of the {len(records)} images has a label; the label of "
            f"{records[0].image} would be {expected} (see 'label_suffix' and 'image_suffix')"
        )
    if labeled and len(pairs) < len(records):
        logger.warning(
            "%s: %d images without a label left out, %d pairs remain",
            description.path,
            len(records) - len(pairs),
            len(pairs),
        )
    return pairs if labeled else records
