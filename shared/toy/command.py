"""The command line of `datasets/make_toy.py`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from shared.data.folders import data_root
from shared.data.images import write_png
from shared.errors import UserError
from shared.toy.layouts import LAYOUTS, make_toy
from shared.toy.layouts.preview import contact_sheet


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Make toy data sets in the layouts of the real ones, below ROOT/toy."
    )
    parser.add_argument("--root", type=Path, help="default: DETECTRON2_DATASETS, else datasets/")
    parser.add_argument(
        "--layouts",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help=f"all (default), or some of: {', '.join(LAYOUTS)}",
    )
    parser.add_argument("--count", type=int, default=200, help="training frames (default 200)")
    parser.add_argument("--val-count", type=int, default=50, help="test frames (default 50)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(256, 512), metavar=("H", "W"), help="default 256 512"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes (default: automatic)")
    parser.add_argument(
        "--force", action="store_true", help="replace toy data made before with other parameters"
    )
    parser.add_argument(
        "--preview",
        type=Path,
        metavar="FILE.png",
        help="write a contact sheet of all domains instead of data sets",
    )
    arguments = parser.parse_args(argv)
    height, width = arguments.size
    if arguments.preview is not None:
        if arguments.preview.suffix.lower() != ".png":
            raise UserError(f"--preview {arguments.preview}: expected a name that ends in .png")
        sheet = contact_sheet(seed=arguments.seed, height=height, width=width)
        write_png(arguments.preview, sheet)
        print(arguments.preview)
        return 0
    root = data_root() if arguments.root is None else arguments.root
    make_toy(
        root,
        list(LAYOUTS) if arguments.layouts == ["all"] else arguments.layouts,
        count=arguments.count,
        val_count=arguments.val_count,
        seed=arguments.seed,
        height=height,
        width=width,
        workers=arguments.workers,
        force=arguments.force,
    )
    print(f"toy data sets in {root / 'toy'}")
    return 0
