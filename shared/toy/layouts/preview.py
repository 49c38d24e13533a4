"""A contact sheet: every domain of the toy scenes, pictures beside their labels."""

import numpy as np

from shared.pictures import panel, sheet
from shared.toy import DOMAINS, ToyFrame, render
from shared.toy.layouts.gta5 import cityscapes_palette

OUTLINE = (255, 255, 255)


def contact_sheet(*, seed: int = 0, height: int = 256, width: int = 512) -> np.ndarray:
    """One row per domain, two scenes each; the labels show the instances' borders in white.

    Returns:
        (H, W, 3) uint8 RGB.
    """
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
    """The labels' colours; a white line where one instance meets another or the rest."""
    picture = cityscapes_palette("cityscapes")[toy.label_ids]
    things = np.where(toy.instance_ids >= 1000, toy.instance_ids, 0)
    border = np.zeros(things.shape, bool)
    border[:, 1:] |= things[:, 1:] != things[:, :-1]
    border[1:] |= things[1:] != things[:-1]
    picture[border] = OUTLINE
    return picture
