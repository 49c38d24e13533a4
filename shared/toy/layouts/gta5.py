"""GTA5: `gta5/images/00001.png` and, under the same name, a palette PNG in `gta5/labels`."""

import io

import numpy as np
from PIL import Image

from shared.data.label_maps import ID_TABLES, LABEL_SPACES
from shared.toy.layouts.base import LAYOUTS, Frame, Layout, Renderer, id_table, png, scenes


def cityscapes_palette(data_set: str) -> np.ndarray:
    """(256, 3) uint8 RGB per raw id of `data_set`; black for the ids that are never evaluated."""
    space = LABEL_SPACES.get("cityscapes19")
    colors = dict(zip(space.classes, space.colors, strict=True))
    palette = np.zeros((256, 3), np.uint8)
    for raw_id, name in ID_TABLES.get(data_set).items():
        palette[raw_id] = colors.get(name, (0, 0, 0))
    return palette


class GTA5(Layout):
    """Labels are mode-P PNGs: the index is the class id, the palette only its colour."""

    owns = ("gta5",)

    def frames(self, count: int, val_count: int) -> list[Frame]:
        return scenes("gta5", "train", "game", count)

    def files(self, frame: Frame) -> tuple[str, ...]:
        name = f"{frame.number + 1:05d}.png"
        return f"gta5/images/{name}", f"gta5/labels/{name}"

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        toy = render(frame.domain, frame.index)
        labels = Image.fromarray(id_table("gta5")[toy.label_ids])
        labels.putpalette(cityscapes_palette("gta5").tobytes())
        stream = io.BytesIO()
        labels.save(stream, "PNG", compress_level=1)
        return dict(zip(self.files(frame), (png(toy.image), stream.getvalue()), strict=True))


LAYOUTS.add("gta5", GTA5())
