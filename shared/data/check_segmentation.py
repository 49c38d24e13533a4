"""What the files of a segmentation data set, taken together, show to be wrong."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shared.data.findings import Finding, Severity
from shared.data.folders import IMAGE_SUFFIXES
from shared.data.label_maps import ID_TABLES, IGNORE, LabelSpace, label_space
from shared.data.pixels import FrameReport
from shared.data.records import SegmentationDataset, SegmentationRecord
from shared.data.segmentation import GTA5_INVALID

# How many frames the authors published; `datasets/README.md` names the sources:
# (data set, split) → frames.
SEGMENTATION_FRAMES = {
    ("gta5", "train"): 24_966 - len(GTA5_INVALID),
    ("synthia", "train"): 9_400,
    ("cityscapes", "train"): 2_975,
    ("cityscapes", "val"): 500,
    ("bdd100k", "train"): 7_000,
    ("bdd100k", "val"): 1_000,
}

# A histogram names no more files than these.
_EXAMPLES = 3
# Ids of the two tables whose data sets also circulate as train ids (0 to 18).
_LABEL_ID_TABLES = ("cityscapes", "gta5")


def evaluated_space(dataset: str) -> LabelSpace:
    """The label space to count and draw the classes of id table `dataset` in."""
    return label_space("synthia_seqs13" if dataset == "synthia_seqs" else "cityscapes19")


def check_files(name: str, dataset: SegmentationDataset) -> Iterator[Finding]:
    """Counts, and files that the loader leaves out. Opens no file."""
    expected = SEGMENTATION_FRAMES.get((dataset.id_table, dataset.split))
    if expected is not None and len(dataset.records) != expected:
        message = f"{len(dataset.records)} frames, {expected} were published"
        yield Finding(Severity.WARNING, name, message)
    if dataset.records[0].label is None:
        message = f"no labels ({dataset.label_folder} is missing): good as a target only"
        yield Finding(Severity.INFO, name, message)
    images = [record.image for record in dataset.records]
    labels = [record.label for record in dataset.records if record.label is not None]
    sides = [("image", "label", images, IMAGE_SUFFIXES)] if labels else []
    sides += [("label", "image", labels, (".png",))] if labels else []
    for kind, other, used, suffixes in sides:
        for path in _left_out(dataset, used, suffixes):
            if dataset.id_table == "gta5" and path.stem in GTA5_INVALID:
                message = f"{kind} of a frame known to be broken: left out"
                yield Finding(Severity.INFO, name, message, path)
            else:
                yield Finding(Severity.WARNING, name, f"{kind} without {other}: left out", path)


def _left_out(
    dataset: SegmentationDataset, used: Sequence[Path], suffixes: tuple[str, ...]
) -> list[Path]:
    """Files beside those that are used, named alike, that no record holds."""
    folders = {path.parent for path in used}
    if dataset.id_table == "cityscapes":
        # A city of which nothing is used is found beside the others.
        splits = {folder.parent for folder in folders}
        folders = {city for split in splits for city in split.iterdir() if city.is_dir()}
    endings = {_ending(r, path) for r, path in zip(dataset.records, used, strict=True)}
    known = set(used)
    return sorted(
        path
        for folder in folders
        for path in folder.iterdir()
        if path not in known
        and path.suffix.lower() in suffixes
        and path.name[0] != "."
        and any(path.stem.endswith(ending) for ending in endings)
    )


def _ending(record: SegmentationRecord, path: Path) -> str:
    """What the file's stem has beyond the record's name: `_gtFine_labelIds`."""
    stem = path.stem
    return stem.removeprefix(record.name) if stem.startswith(record.name) else ""


def check_reports(
    name: str, dataset: SegmentationDataset, reports: Sequence[FrameReport]
) -> Iterator[Finding]:
    """Sizes and class ids over all frames that were decoded."""
    yield from size_line(name, [report.size for report in reports if report.size is not None])
    counted = [report for report in reports if report.histogram is not None]
    if counted:
        yield from _check_ids(name, dataset.id_table, counted)


def size_line(name: str, sizes: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """The most common sizes, (height, width) each."""
    common = Counter(sizes).most_common()
    if common:
        shown = ", ".join(f"{w}×{h} ({count})" for (h, w), count in common[:_EXAMPLES])
        rest = f" and {len(common) - _EXAMPLES} more" if len(common) > _EXAMPLES else ""
        yield Finding(Severity.INFO, name, f"image sizes: {shown}{rest}")


def _check_ids(name: str, dataset: str, reports: Sequence[FrameReport]) -> Iterator[Finding]:
    table = ID_TABLES.get(dataset)
    space = evaluated_space(dataset)
    histogram = np.sum([report.histogram for report in reports], axis=0)
    pixels = int(histogram.sum())
    shares = dict.fromkeys(space.classes, 0.0)
    for raw_id, class_name in table.items():
        if class_name in shares:
            shares[class_name] += 100 * int(histogram[raw_id]) / pixels
    listed = ", ".join(f"{c} {share:.2f}" for c, share in shares.items() if share)
    ignored = 100 - sum(shares.values())
    yield Finding(Severity.INFO, name, f"% of pixels: {listed or 'none'}, ignored {ignored:.2f}")
    # What a data set has no id for is no surprise.
    absent = [c for c in space.classes if c in table.values() and not shares[c]]
    if len(absent) == len(set(space.classes) & set(table.values())):
        message = f"no label holds a class that is evaluated ({space.name}): wrong label files?"
        yield Finding(Severity.ERROR, name, message)
    elif absent:
        yield Finding(Severity.INFO, name, f"classes that never occur: {', '.join(absent)}")
    if dataset in _LABEL_ID_TABLES and histogram[:19].any() and not histogram[19:35].any():
        message = (
            "the labels hold ids 0 to 18 only: they look like train ids, expected label ids "
            f"(sky {next(i for i, c in table.items() if c == 'sky')}); use the original files"
        )
        yield Finding(Severity.ERROR, name, message)
    for raw_id in np.flatnonzero(histogram):
        if int(raw_id) in table or raw_id == IGNORE:
            continue
        files = [report.label for report in reports if report.histogram[raw_id]]
        message = (
            f"holds id {raw_id}, which the id table '{dataset}' does not have; {len(files)} labels "
            f"do, in {100 * int(histogram[raw_id]) / pixels:.3f} % of all pixels"
        )
        yield Finding(Severity.ERROR, name, message, files[0])
