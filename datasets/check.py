"""Looks through data sets before anything is trained on them; writes nothing into them.

python datasets/check.py gta5 cityscapes_train cityscapes_val
python datasets/check.py all --sheet check.png        every data set that is there
python datasets/check.py all --sample 100             a quick look: 100 files of each

Ends with 0 where no error was found, 1 where one was, 2 where the check could not be made.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from street_adapt import run
except ModuleNotFoundError:
    raise SystemExit("not installed: run `pip install -e .` in the repository first") from None

from shared.catalog import data_root
from shared.dataset_check import (
    Options,
    Report,
    check,
    contact_sheet,
    present_names,
    require_known,
)
from shared.errors import UserError
from shared.images import write_png

EXIT_ERRORS_FOUND = 1


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Check data sets: counts, pairs, damaged files, sizes, class ids, boxes.",
        epilog="One line per finding. Exit code 0: no errors; 1: errors; 2: could not check.",
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
    arguments = parser.parse_args(argv)
    options = Options(arguments.sample, arguments.workers)
    if arguments.sheet is not None and arguments.sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {arguments.sheet}: expected a name that ends in .png")
    root = data_root() if arguments.root is None else arguments.root
    if not root.is_dir():
        raise UserError(f"no folder {root}; --root or DETECTRON2_DATASETS names the data folder")
    names = _names(arguments.names, root)
    reports = []
    for name in names:
        reports.append(check(name, root, options))
        for finding in reports[-1].findings:
            print(finding)
        print(reports[-1].summary(), flush=True)
    if arguments.sheet is not None:
        _write_sheet(arguments.sheet, reports)
    return EXIT_ERRORS_FOUND if any(report.errors for report in reports) else 0


def _names(asked: Sequence[str], root: Path) -> list[str]:
    if "all" not in asked:
        require_known(asked)
        return list(dict.fromkeys(asked))
    names, missing = present_names(root)
    if missing:
        print(f"not below {root}: {', '.join(missing)}", file=sys.stderr)
    if not names:
        raise UserError(f"no data set below {root}; datasets/README.md says where to get them")
    return names


def _write_sheet(path: Path, reports: Sequence[Report]) -> None:
    datasets = [report.dataset for report in reports if report.dataset is not None]
    folders = {record.image.parent.resolve() for d in datasets for record in d.records}
    if path.resolve().parent in folders:
        raise UserError(f"--sheet {path}: lies among the images of a data set; choose another")
    write_png(path, contact_sheet(datasets))
    print(path)


if __name__ == "__main__":
    run(main)
