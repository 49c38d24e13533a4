"""Writes Clipart1k's list of all images, which the papers adapt to and test on.

python datasets/prepare_clipart.py                    the real one
python datasets/prepare_clipart.py --root data/toy    any other folder that holds clipart/

The archive ships lists of 500 training and 500 test images but none of both.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

try:
    from shared.cli import run
except ModuleNotFoundError:
    raise SystemExit("not installed: run `pip install -e .` in the repository first") from None

from shared.catalog import data_root
from shared.errors import MissingFileError, UserError
from shared.files import write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Write clipart/ImageSets/Main/traintest.txt: the training and the test list."
    )
    parser.add_argument("--root", type=Path, help="default: DETECTRON2_DATASETS, else datasets/")
    arguments = parser.parse_args(argv)
    root = data_root() if arguments.root is None else arguments.root
    lists = root / "clipart/ImageSets/Main"
    names = sorted(_read(lists / "train.txt") | _read(lists / "test.txt"))
    if not names:
        raise UserError(f"{lists}/train.txt and test.txt are empty; unpack Clipart1k again")
    path = lists / "traintest.txt"
    if not path.exists():
        write_atomically(path, "".join(f"{name}\n" for name in names).encode())
        print(f"{path}: {len(names)} images")
    elif path.is_file() and _read(path) == set(names):
        print(f"{path} is there already: {len(names)} images")
    else:
        raise UserError(
            f"{path} is there and is not the union of train.txt and test.txt; it is left as it is: "
            "move it away first"
        )
    return 0


def _read(path: Path) -> set[str]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise MissingFileError(f"no file {path}; datasets/README.md says where to get it") from None
    return {line.split()[0] for line in lines if line.strip()}


if __name__ == "__main__":
    run(main)
