"""The command line of `datasets/make_toy.py`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.data.folders import data_root
from shared.data.images import write_png
from shared.errors import UserError
from shared.pictures import panel, sheet
from shared.toy import DOMAINS, ToyFrame, render
from shared.toy.layouts import LAYOUTS, make_toy
from shared.toy.layouts.segmentation import palette


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Make toy data sets in the layouts of the real ones, below ROOT/toy."
    )
    add = parser.add_argument
    add("--root", type=Path, help="default: DETECTRON2_DATASETS, else datasets/")
    names = ", ".join(LAYOUTS)
    add("--layouts", nargs="+", metavar="NAME", help=f"default all: {names}")
    add("--count", type=int, default=200, help="training frames (default 200)")
    add("--val-count", type=int, default=50, help="test frames (default 50)")
    add("--size", type=int, nargs=2, default=(256, 512), metavar=("H", "W"), help="default 256 512")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=0, help="processes (default: automatic)")
    add("--force", action="store_true", help="replace toy data made before with other parameters")
    help_preview = "write a contact sheet of all domains instead of data sets"
    add("--preview", type=Path, metavar="FILE.png", help=help_preview)
    arguments = parser.parse_args(argv)
    size = {"seed": arguments.seed, "height": arguments.size[0], "width": arguments.size[1]}
    if arguments.preview is not None:
        if arguments.preview.suffix.lower() != ".png":
            raise UserError(f"--preview {arguments.preview}: expected a name that ends in .png")
        write_png(arguments.preview, contact_sheet(**size))
        print(arguments.preview)
        return 0
    root = data_root() if arguments.root is None else arguments.root
    make_toy(
        root,
        arguments.layouts or list(LAYOUTS),
        count=arguments.count,
        val_count=arguments.val_count,
        workers=arguments.workers,
        force=arguments.force,
        **size,
    )
    print(f"toy data sets in {root / 'toy'}")
    return 0


def contact_sheet(*, seed: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a row per domain with two scenes, pictures beside their labels."""
    rows = []
    for domain in DOMAINS:
        tiles, titles = [], []
        for index in range(2):
            toy = render(domain, index, seed=seed, height=height, width=width)
            tiles += [toy.image, label_picture(toy)]
            titles += [f"{domain}, scene {index}", "labels"]
        rows.append(panel(tiles, titles, height=height))
    return sheet(rows)


def label_picture(toy: ToyFrame) -> np.ndarray:
    """The labels' colors; a white line where one instance meets another or the rest."""
    picture = palette("cityscapes")[toy.label_ids]
    things = np.where(toy.instance_ids >= 1000, toy.instance_ids, 0)
    border = np.zeros(things.shape, bool)
    border[:, 1:] |= things[:, 1:] != things[:, :-1]
    border[1:] |= things[1:] != things[:-1]
    picture[border] = 255
    return picture
