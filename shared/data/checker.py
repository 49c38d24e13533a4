"""The whole check of one data set: its tree, its list of frames, then every file."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from shared.data import check_detection, check_segmentation
from shared.data.check_detection import BoxJob, check_boxes
from shared.data.detection import DETECTION, load_detection
from shared.data.findings import Finding, Severity
from shared.data.pixels import FrameJob, check_frame
from shared.data.records import DetectionDataset, SegmentationDataset
from shared.data.segmentation import SEGMENTATION, load_segmentation
from shared.data.trees import (
    check_tree,
    class_names,
    foggy_betas,
    foggy_frames,
    is_foggy,
    listed_images,
    trees,
)
from shared.errors import MissingFileError, UserError
from shared.processes import in_processes
from shared.registry import nearest

# Every frame of these is in another data set.
_COVERED = frozenset(
    {
        "voc0712_trainval",
        "clipart_train",
        "clipart_test",
        *(
            f"foggy_cityscapes_{split}{beta}"
            for split in ("train", "val")
            for beta in ("", "_beta_all", "_polygons")
        ),
        *(f"cityscapes_det_{split}_polygons" for split in ("train", "val")),
    }
)

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Options:
    """How to go through the files.

    Attributes:
        sample: decode so many frames of each data set, spread evenly; None decodes all.
        workers: processes; 0 takes what the machine and the work allow.
    """

    sample: int | None = None
    workers: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        if self.sample is not None and self.sample < 1:
            raise UserError(f"got a sample of {self.sample} frames, expected 1 or more")


@dataclass(frozen=True)
class Report:
    """What was found in one data set.

    Attributes:
        frames: how many were decoded.
        dataset: as loaded, for a contact sheet; None where it cannot be loaded.
    """

    name: str
    findings: tuple[Finding, ...]
    frames: int
    dataset: SegmentationDataset | DetectionDataset | None

    @property
    def errors(self) -> int:
        return sum(finding.severity == Severity.ERROR for finding in self.findings)

    def summary(self) -> str:
        counts = Counter(finding.severity for finding in self.findings)
        found = ", ".join(f"{counts[s]} {s.value}s" for s in (Severity.ERROR, Severity.WARNING))
        return f"{self.name}: {self.frames} frames decoded, {found}"


def known_names() -> list[str]:
    """The segmentation data sets, then those for detection."""
    return [*SEGMENTATION, *DETECTION]


def require_known(names: Sequence[str]) -> None:
    """UserError where a name is of no data set."""
    known = known_names()
    for name in names:
        if name not in known:
            raise UserError(
                f"unknown data set '{name}': {nearest(name, known)}"
                f"available: all, {', '.join(known)}"
            )


def check(name: str, root: Path, options: Options) -> Report:
    """Everything that is wrong with data set `name` below `root`.

    Raises:
        MissingFileError: it is not there.
    """
    require_known([name])
    if name in SEGMENTATION:
        return _check_segmentation(name, root, options)
    return _check_detection(name, root, options)


def _check_segmentation(name: str, root: Path, options: Options) -> Report:
    try:
        dataset = load_segmentation(name, root)
    except MissingFileError:
        raise
    except UserError as error:
        return Report(name, (Finding(Severity.ERROR, name, str(error)),), 0, None)
    findings = list(check_segmentation.check_files(name, dataset))
    chosen = _sample(dataset.records, options.sample)
    jobs = [FrameJob(name, record, dataset.encoding) for record in chosen]
    reports = _run(name, check_frame, jobs, options)
    findings += [finding for report in reports for finding in report.findings]
    findings += check_segmentation.check_reports(name, dataset, reports)
    return Report(name, tuple(findings), len(jobs), dataset)


def _check_detection(name: str, root: Path, options: Options) -> Report:
    findings = list(check_tree(name, root))
    try:
        dataset = _load_boxes(name, root)
    except UserError as error:
        told = any(finding.severity == Severity.ERROR for finding in findings)
        if isinstance(error, MissingFileError) and not told:
            raise
        # One bad file keeps a data set from loading; the others are looked through all the same.
        dataset = None
        findings.append(Finding(Severity.ERROR, name, str(error)))
        jobs = [BoxJob(name, image, None) for image in listed_images(name, root)]
    else:
        jobs = [BoxJob(name, record.image, record) for record in dataset.records]
        findings += check_detection.check_files(name, dataset)
    jobs = _sample(jobs, options.sample)
    reports = _run(name, check_boxes, jobs, options)
    findings += [finding for report in reports for finding in report.findings]
    findings += check_segmentation.size_line(name, [r.size for r in reports if r.size is not None])
    findings += check_detection.check_names(name, reports, class_names(name))
    return Report(name, tuple(findings), len(jobs), dataset)


def _load_boxes(name: str, root: Path) -> DetectionDataset:
    """With annotations where there are any."""
    try:
        return load_detection(name, root, labelled=True)
    except MissingFileError as error:
        try:
            return load_detection(name, root, labelled=False)
        except MissingFileError:
            raise error from None


def _sample(items: Sequence[Job], count: int | None) -> list[Job]:
    if count is None or count >= len(items):
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).astype(int)]


def _run(
    name: str, function: Callable[[Job], Result], jobs: Sequence[Job], options: Options
) -> list[Result]:
    results = in_processes(function, jobs, options.workers)
    disable = not options.progress or not jobs
    return list(tqdm(results, total=len(jobs), desc=name, unit="frame", disable=disable))


def present_names(root: Path) -> tuple[list[str], list[str]]:
    """Names of the data sets whose folders are below `root`, and of those that are not there.

    Those that only put together others, or are another name for one, are left out.
    """
    present, missing = [], []
    for name in known_names():
        if name.removeprefix("toy_") in _COVERED:
            continue
        (present if _is_present(name, root) else missing).append(name)
    return present, missing


def _is_present(name: str, root: Path) -> bool:
    if is_foggy(name):
        frames = foggy_frames(name, root).values()
        return any(beta in paths for paths in frames for beta in foggy_betas(name))
    try:
        (load_segmentation if name in SEGMENTATION else load_detection)(name, root)
    except MissingFileError:
        # With some of its lists it is there, and incomplete.
        return any(path.is_file() for tree in trees(name, root) for path in tree.lists)
    except UserError:
        return True
    return True
