"""Data sets by name: where they lie, and how many frames the authors published.

A name stands for a layout with its arguments; `toy_<name>` is the same layout below `<root>/toy`.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from shared.data.annotations import DetectionFiles, read_records
from shared.data.cityscapes import FOG_BETAS, cityscapes_files
from shared.data.folders import data_root, locate
from shared.data.kitti import kitti_files
from shared.data.records import DetectionDataset, Fault, SegmentationDataset, Severity
from shared.data.segmentation import (
    GTA5_INVALID,
    bdd100k_layout,
    camvid_layout,
    cityscapes_layout,
    gta5_layout,
    kitti_semantics_layout,
    synthia_layout,
    synthia_seqs_layout,
)
from shared.data.voc import SIM10K_CLASSES, WATERCOLOR_CLASSES, voc_files
from shared.errors import MissingFileError, UserError
from shared.registry import Registry, nearest

logger = logging.getLogger(__name__)

# The papers' protocol: adaptation to the densest fog only.
DEFAULT_BETA = "0.02"


@dataclass(frozen=True)
class Entry:
    """A data set.

    Attributes:
        frames: how many the authors published (`datasets/README.md` names the sources); None where
            that depends on what was downloaded.
        layout: a `Location`, and for detection whether annotations are wanted → what is there.
        is_covered: every frame is in another data set, too.
        has_toy: `toy_<name>` can be made.
    """

    frames: int | None
    layout: Callable[..., Any]
    is_covered: bool = False
    has_toy: bool = True


_SEGMENTATION = {
    "gta5": Entry(24_966 - len(GTA5_INVALID), gta5_layout),
    "synthia": Entry(9_400, synthia_layout),
    "synthia_seqs_summer": Entry(None, partial(synthia_seqs_layout, season="summer")),
    "synthia_seqs_fall": Entry(None, partial(synthia_seqs_layout, season="fall")),
    "synthia_seqs_winter": Entry(None, partial(synthia_seqs_layout, season="winter")),
    "cityscapes_train": Entry(2_975, partial(cityscapes_layout, split="train")),
    "cityscapes_val": Entry(500, partial(cityscapes_layout, split="val")),
    "bdd100k_train": Entry(7_000, partial(bdd100k_layout, split="train")),
    "bdd100k_val": Entry(1_000, partial(bdd100k_layout, split="val")),
    "kitti_semantics": Entry(200, kitti_semantics_layout, has_toy=False),
}
for _split, _frames in (("train", 367), ("val", 101), ("test", 233)):
    _camvid = partial(camvid_layout, split=_split)
    _SEGMENTATION[f"camvid_{_split}"] = Entry(_frames, _camvid, has_toy=False)
for _sequence, _frames in (("0001TP", 124), ("0006R0", 101), ("0016E5", 305), ("Seq05VD", 171)):
    _camvid = partial(camvid_layout, sequence=_sequence)
    _SEGMENTATION[f"camvid_{_sequence.lower()}"] = Entry(_frames, _camvid, True, has_toy=False)

_SIM10K = partial(voc_files, classes=SIM10K_CLASSES, default=("car",))
_WATERCOLOR = partial(voc_files, classes=WATERCOLOR_CLASSES)
_VOC2007, _VOC2012 = {"VOC2007": ["trainval"]}, {"VOC2012": ["trainval"]}
_DETECTION = {
    "sim10k": Entry(10_000, partial(_SIM10K, lists={"sim10k": ["trainval10k"]})),
    "kitti_train": Entry(7_481, kitti_files),
    "voc2007_trainval": Entry(5_011, partial(voc_files, lists=_VOC2007)),
    "voc2007_test": Entry(4_952, partial(voc_files, lists={"VOC2007": ["test"]})),
    "voc2012_trainval": Entry(11_540, partial(voc_files, lists=_VOC2012)),
    "voc0712_trainval": Entry(16_551, partial(voc_files, lists=_VOC2007 | _VOC2012), True),
    "clipart_train": Entry(500, partial(voc_files, lists={"clipart": ["train"]}), True),
    "clipart_test": Entry(500, partial(voc_files, lists={"clipart": ["test"]}), True),
    # Papers adapt to all of Clipart, unlabeled, and test on it.
    "clipart_traintest": Entry(1_000, partial(voc_files, lists={"clipart": ["train", "test"]})),
    "watercolor_train": Entry(1_000, partial(_WATERCOLOR, lists={"watercolor": ["train"]})),
    "watercolor_test": Entry(1_000, partial(_WATERCOLOR, lists={"watercolor": ["test"]})),
}
for _split, _frames in (("train", 2_975), ("val", 500)):
    _clear = partial(cityscapes_files, split=_split)
    _foggy = partial(_clear, beta=DEFAULT_BETA)
    _all = partial(_clear, beta="all")
    _DETECTION |= {
        f"cityscapes_det_{_split}": Entry(_frames, _clear),
        f"cityscapes_det_{_split}_polygons": Entry(_frames, partial(_clear, polygons=True), True),
        f"foggy_cityscapes_{_split}": Entry(_frames, _foggy, True),
        f"foggy_cityscapes_{_split}_polygons": Entry(_frames, partial(_foggy, polygons=True), True),
        f"foggy_cityscapes_{_split}_beta_all": Entry(len(FOG_BETAS) * _frames, _all, True),
    }
    for _beta in FOG_BETAS:
        _one = Entry(_frames, partial(_clear, beta=_beta))
        _DETECTION[f"foggy_cityscapes_{_split}_beta_{_beta}"] = _one

SEGMENTATION: Registry[Entry] = Registry("segmentation data set")
DETECTION: Registry[Entry] = Registry("detection data set")
for _registry, _entries in ((SEGMENTATION, _SEGMENTATION), (DETECTION, _DETECTION)):
    for _name, _entry in _entries.items():
        _registry.add(_name, _entry)
        if _entry.has_toy:
            _registry.add(f"toy_{_name}", _entry)


def segmentation_dataset(name: str, root: Path) -> SegmentationDataset:
    """The data set `name` below `root` with its faults; no file is opened."""
    return SEGMENTATION.get(name).layout(locate(name, root))


def detection_files(name: str, root: Path, labeled: bool) -> DetectionFiles:
    """The files of data set `name` below `root` with their faults; none is opened."""
    return DETECTION.get(name).layout(locate(name, root), labeled)


def load_segmentation(
    name: str, root: str | Path | None = None, labeled: bool = False
) -> SegmentationDataset:
    """The data set `name` below `root` (default: `data_root()`).

    Args:
        labeled: refuse a data set without labels, which is good for nothing but a target.
    """
    dataset = segmentation_dataset(name, data_root() if root is None else Path(root))
    _settle(name, dataset.faults)
    if labeled and dataset.records[0].label is None:
        raise MissingFileError(
            f"data set '{name}': labels are needed, but there is no folder {dataset.label_folder}"
        )
    return dataset


def load_detection(
    name: str,
    root: str | Path | None = None,
    *,
    labeled: bool = False,
    classes: Sequence[str] | None = None,
) -> DetectionDataset:
    """The data set `name` below `root` (default: `data_root()`).

    Args:
        labeled: read the annotations, and refuse a data set without. Otherwise no annotation file
            is opened, as for a target: a record's annotations are None.
        classes: keep the boxes of these classes only; VOC with `WATERCOLOR_CLASSES`, say. Default:
            the data set's own classes, of Sim10k and KITTI the cars.
    """
    files = detection_files(name, data_root() if root is None else Path(root), labeled)
    if classes is not None:
        check_classes(name, classes, files.classes)
    chosen = tuple(classes or files.default or files.classes)
    _settle(name, files.faults)
    return DetectionDataset(name, read_records(files, chosen), chosen, files.official_root)


def _settle(name: str, faults: Iterable[Fault]) -> None:
    """Logs what is left out, one line for each kind; raises where it is an ERROR."""
    for (severity, _), group in groupby(faults, lambda fault: (fault.severity, fault.message)):
        first, *others = group
        more = f" (and {len(others)} more)" if others else ""
        text = f"data set '{name}': {first}{more}"
        if severity is Severity.ERROR:
            raise (UserError if first.file.exists() else MissingFileError)(text)
        if severity is Severity.WARNING:
            logger.warning("%s", text)


def check_classes(name: str, classes: Sequence[str], known: Sequence[str]) -> None:
    if isinstance(classes, str) or not classes or len(set(classes)) < len(classes):
        raise UserError(
            f"data set '{name}': got classes {classes!r}, expected a list of different names "
            f"out of: {', '.join(known)}"
        )
    for label in classes:
        if label not in known:
            raise UserError(
                f"data set '{name}' has no class '{label}': {nearest(label, known)}"
                f"available: {', '.join(known)}"
            )
