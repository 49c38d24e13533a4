"""The check of data sets: counts and pairs, then every file; writes nothing into them."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from shared.cli import Parser
from shared.data.annotations import DetectionFiles
from shared.data.catalog import DETECTION, SEGMENTATION, detection_files, segmentation_dataset
from shared.data.contact_sheet import contact_sheet
from shared.data.file_checks import (
    FrameJob,
    check_frame,
    summarize_ids,
    summarize_names,
    summarize_sizes,
)
from shared.data.folders import data_root
from shared.data.images import read_labels, write_png
from shared.data.records import Fault, SegmentationDataset, Severity
from shared.errors import MissingFileError, UserError
from shared.extensions import add_import_option, import_extensions
from shared.processes import in_processes
from shared.registry import nearest

EXIT_ERRORS_FOUND = 1


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
    """What is wrong with a data set.

    Attributes:
        frames: how many were decoded.
        files: what there is of it; None where that cannot be said.
    """

    name: str
    faults: tuple[Fault, ...]
    frames: int = 0
    files: SegmentationDataset | DetectionFiles | None = None

    @property
    def errors(self) -> int:
        return sum(fault.severity == Severity.ERROR for fault in self.faults)

    def __str__(self) -> str:
        """One line per fault, and one that counts them."""
        lines = [f"{fault.severity}: {self.name}: {fault}" for fault in self.faults]
        counts = Counter(fault.severity for fault in self.faults)
        listed = ", ".join(f"{counts[s]} {s.value}s" for s in (Severity.ERROR, Severity.WARNING))
        return "\n".join([*lines, f"{self.name}: {self.frames} frames decoded, {listed}"])


def check(name: str, root: Path, options: Options) -> Report:
    """Everything that is wrong with data set `name` below `root`.

    Raises:
        MissingFileError: it is not there.
    """
    require_known([name])
    try:
        files = _files(name, root)
    except MissingFileError:
        raise
    except UserError as error:
        return Report(name, (Fault(Severity.ERROR, str(error)),))
    if isinstance(files, SegmentationDataset):
        entry, read = SEGMENTATION.get(name), partial(read_labels, encoding=files.encoding)
    else:
        entry, read = DETECTION.get(name), files.read
    jobs = [FrameJob(frame.image, frame.label, read) for frame in files.records]
    faults = []
    if entry.frames not in (None, len(jobs)):
        text = f"{len(jobs)} frames, {entry.frames} were published"
        faults.append(Fault(Severity.WARNING, text))
    if jobs[0].label is None:
        faults.append(Fault(Severity.INFO, "no labels: good as a target only"))
    faults += files.faults
    if options.sample is not None and options.sample < len(jobs):
        jobs = [jobs[i] for i in np.linspace(0, len(jobs) - 1, options.sample).astype(int)]
    results = in_processes(check_frame, jobs, options.workers)
    disable = not options.progress
    reports = list(tqdm(results, total=len(jobs), desc=name, unit="frame", disable=disable))
    faults += [fault for report in reports for fault in report.faults]
    faults += summarize_sizes(reports)
    if isinstance(files, SegmentationDataset):
        faults += summarize_ids(reports, files.id_table)
    elif files.labeled:
        faults += summarize_names(reports, files.names, files.default or files.classes)
    return Report(name, tuple(faults), len(jobs), files)


def _files(name: str, root: Path) -> SegmentationDataset | DetectionFiles:
    """With labels where there are any."""
    if name in SEGMENTATION:
        return segmentation_dataset(name, root)
    try:
        return detection_files(name, root, labeled=True)
    except MissingFileError as error:
        try:
            return detection_files(name, root, labeled=False)
        except MissingFileError:
            raise error from None


def require_known(names: Sequence[str]) -> None:
    """UserError where a name is of no data set."""
    known = [*SEGMENTATION, *DETECTION]
    for name in names:
        if name not in known:
            raise UserError(
                f"unknown data set '{name}': {nearest(name, known)}"
                f"available: all, {', '.join(known)}"
            )


def present_names(root: Path) -> tuple[list[str], list[str]]:
    """Names of the data sets whose folders are below `root`, and of those that are not there.

    Those that only put together others, or are another name for one, are left out.
    """
    present, missing = [], []
    for registry in (SEGMENTATION, DETECTION):
        for name in registry:
            if registry.get(name).is_covered:
                continue
            try:
                _files(name, root)
            except MissingFileError:
                missing.append(name)
                continue
            except UserError:
                pass  # there, and faulty
            present.append(name)
    return present, missing


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of `datasets/check.py`."""
    parser = Parser(
        description="Check data sets: counts, pairs, damaged files, sizes, class ids, boxes.",
        epilog="One line per fault. Exit code 0: no errors; 1: errors; 2: could not check.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="data sets, or: all")
    parser.add_argument("--root", type=Path, help="default: DETECTRON2_DATASETS, else datasets/")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="open N frames of each data set (default: all)"
    )
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="draw labels and boxes over some frames"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes (default: automatic)")
    add_import_option(parser, "none")
    arguments = parser.parse(argv)
    import_extensions(arguments.imports)
    options, sheet = Options(arguments.sample, arguments.workers), arguments.sheet
    root = data_root() if arguments.root is None else arguments.root
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {sheet}: expected a name that ends in .png")
    if not root.is_dir():
        raise UserError(f"no folder {root}; --root or DETECTRON2_DATASETS names the data folder")
    names = _expand(arguments.names, root)
    reports = []
    for name in names:
        reports.append(check(name, root, options))
        print(reports[-1], flush=True)
    if sheet is not None:
        files = [report.files for report in reports if report.files is not None]
        if sheet.resolve().parent in {f.image.parent.resolve() for d in files for f in d.records}:
            raise UserError(f"--sheet {sheet}: lies among the images of a data set; choose another")
        write_png(sheet, contact_sheet(files))
        print(sheet)
    return EXIT_ERRORS_FOUND if any(report.errors for report in reports) else 0


def _expand(names: Sequence[str], root: Path) -> list[str]:
    if "all" not in names:
        require_known(names)
        return list(dict.fromkeys(names))
    present, missing = present_names(root)
    if missing:
        print(f"not below {root}: {', '.join(missing)}", file=sys.stderr)
    if not present:
        raise UserError(f"no data set below {root}; datasets/README.md says where to get them")
    return present
