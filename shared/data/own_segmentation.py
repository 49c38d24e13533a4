"""Segmentation data by name or by path."""

import logging
import os
from pathlib import Path

from shared.data.description import Description, check_ids, read_description
from shared.data.documents import is_document
from shared.data.folders import IMAGE_SUFFIXES
from shared.data.label_maps import LabelSpace
from shared.data.records import SegmentationDataset, SegmentationRecord
from shared.data.segmentation import SEGMENTATION, image_folder, load_segmentation
from shared.errors import MissingFileError, UserError

logger = logging.getLogger(__name__)

DOCUMENTATION = "docs/own_data.md"


def resolve_segmentation(
    name: str,
    root: Path,
    *,
    space: LabelSpace | None = None,
    labelled: bool = False,
) -> SegmentationDataset:
    """The data set that a registered name, a folder of images or a description file stands for.

    Args:
        name: a name of the catalog, which is looked up below `root`; or a path, relative to the
            current folder.
        space: the label space that the labels will be mapped to; a description whose `ids` name a
            class that it lacks is refused.
        labelled: refuse a data set without labels, and leave out images without a label.
    """
    path = Path(name).expanduser()
    if name in SEGMENTATION:
        return load_segmentation(name, root, labelled=labelled)
    if path.is_dir():
        return _folder(path, labelled)
    if is_document(path):
        return _described(read_description(path), space, labelled)
    if path.is_file():
        raise UserError(
            f"{path} is neither a folder of images nor a .yaml or .json description; "
            f"see {DOCUMENTATION}"
        )
    if len(path.parts) > 1:
        raise MissingFileError(
            f"no folder of images {path} (looked in {path.absolute().parent}); see {DOCUMENTATION}"
        )
    return load_segmentation(name, root, labelled=labelled)


def _folder(path: Path, labelled: bool) -> SegmentationDataset:
    if labelled:
        raise UserError(
            f"{path} is a folder of images, and a source or test needs labels; describe both in "
            f"a .yaml file, see {DOCUMENTATION}"
        )
    # Not path.name, which is empty for "." and "..".
    name = path.resolve().name or str(path)
    return SegmentationDataset(name, image_folder(path), {}, "index", "all", path)


def _described(
    description: Description, space: LabelSpace | None, labelled: bool
) -> SegmentationDataset:
    path, images, labels = description.path, description.images, description.labels
    if images is None:
        raise UserError(f"{path} has no 'images': add the folder of the images")
    if labelled and labels is None:
        raise UserError(
            f"{path} has no 'labels', and a source or test needs them; add the folder of the "
            "label PNGs and 'ids'"
        )
    for key, folder in (("images", images), ("labels", labels)):
        if folder is not None and not folder.is_dir():
            raise MissingFileError(
                f"{path}: no folder {folder} ('{key}' is relative to the description)"
            )
    if space is not None and labels is not None and not isinstance(description.ids, str):
        check_ids(path, description.ids, space.classes, f"label space '{space.name}'")
    records = _records(description)
    if labels is not None:
        records = _paired(description, records, labelled)
    return SegmentationDataset(
        description.name,
        records,
        {} if description.ids is None else description.ids,
        description.encoding,
        "all",
        labels or images,
    )


def _records(description: Description) -> tuple[SegmentationRecord, ...]:
    """Every image, sorted by name, each with its label where there is one."""
    folder, ending = description.images, description.label_suffix
    files = [] if description.labels is None else _files(description.labels, (ending,))
    labels = {file[: -len(ending)]: file for file in files}
    images: dict[str, str] = {}
    for file in _image_files(description, set(files)):
        name = file[: -len(description.image_suffix or Path(file).suffix)]
        if name in images:
            raise UserError(
                f"{description.path}: {folder / images[name]} and {folder / file} would share one "
                "result; rename one, or choose by 'image_suffix'"
            )
        images[name] = file
    return tuple(
        SegmentationRecord(
            name,
            folder / images[name],
            description.labels / labels[name] if name in labels else None,
        )
        for name in sorted(images)
    )


def _files(folder: Path, endings: tuple[str, ...]) -> list[str]:
    """The visible files below `folder`, as paths below it; the case of endings does not matter."""
    endings = tuple(ending.lower() for ending in endings)
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        place = Path(parent).relative_to(folder).as_posix()
        prefix = "" if place == "." else f"{place}/"
        found += [prefix + f for f in files if f[0] != "." and f.lower().endswith(endings)]
    return found


def _image_files(description: Description, label_files: set[str]) -> list[str]:
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


def _paired(
    description: Description, records: tuple[SegmentationRecord, ...], labelled: bool
) -> tuple[SegmentationRecord, ...]:
    pairs = tuple(record for record in records if record.label is not None)
    if not pairs:
        expected = description.labels / f"{records[0].name}{description.label_suffix}"
        raise UserError(
            f"{description.path}: none of the {len(records)} images has a label; the label of "
            f"{records[0].image} would be {expected} (see 'label_suffix' and 'image_suffix')"
        )
    if labelled and len(pairs) < len(records):
        logger.warning(
            "%s: %d images without a label left out, %d pairs remain",
            description.path,
            len(records) - len(pairs),
            len(pairs),
        )
    return pairs if labelled else records
