"""Cityscapes and Foggy Cityscapes.

`cityscapes/leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png` with four annotation
files each in `cityscapes/gtFine`; the same frames in fog in `cityscapes/leftImg8bit_foggy`.
"""

import json

import numpy as np

from shared.toy import ToyFrame
from shared.toy.layouts.base import LAYOUTS, Frame, Layout, Renderer, png, scenes
from shared.toy.layouts.gta5 import cityscapes_palette
from shared.toy.layouts.instances import is_thing, outlines, shapes

CITIES = {"train": ("toyburg", "toyhaven"), "val": ("toyford", "toystadt")}
FOG_BETAS = (0.005, 0.01, 0.02)


def frame_name(frame: Frame) -> tuple[str, str]:
    """City and `<city>_<seq>_<frame>`: the scenes of a split take turns among its cities."""
    cities = CITIES[frame.split]
    city = cities[frame.number % len(cities)]
    return city, f"{city}_{frame.number // len(cities):06d}_000019"


def polygons(toy: ToyFrame) -> dict:
    """The content of a `_gtFine_polygons.json`: one polygon per instance, in painter's order."""
    height, width = toy.label_ids.shape
    visible = set(np.unique(toy.instance_ids).tolist())
    objects = [
        {"label": parts[0].label, "polygon": outline.tolist()}
        for parts in shapes(toy.objects)
        # Nobody annotates a thing that is wholly hidden.
        if not is_thing(parts[0]) or parts[0].instance_id in visible
        for outline in outlines(parts, (height, width))
    ]
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


class Cityscapes(Layout):
    """The clear pictures and gtFine."""

    owns = ("cityscapes/leftImg8bit", "cityscapes/gtFine")

    def frames(self, count: int, val_count: int) -> list[Frame]:
        return [
            *scenes("cityscapes", "train", "real", count),
            *scenes("cityscapes", "val", "real", val_count),
        ]

    def files(self, frame: Frame) -> tuple[str, ...]:
        city, name = frame_name(frame)
        truth = f"cityscapes/gtFine/{frame.split}/{city}/{name}_gtFine"
        return (
            f"cityscapes/leftImg8bit/{frame.split}/{city}/{name}_leftImg8bit.png",
            f"{truth}_labelIds.png",
            f"{truth}_instanceIds.png",
            f"{truth}_color.png",
            f"{truth}_polygons.json",
        )

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        toy = render(frame.domain, frame.index)
        opaque = np.full((*toy.label_ids.shape, 1), 255, np.uint8)
        colors = cityscapes_palette("cityscapes")[toy.label_ids]
        contents = (
            png(toy.image),
            png(toy.label_ids),
            png(toy.instance_ids),
            png(np.concatenate([colors, opaque], axis=2)),
            json.dumps(polygons(toy)).encode(),
        )
        return dict(zip(self.files(frame), contents, strict=True))


class FoggyCityscapes(Layout):
    """Every frame of the clear set at three densities β (attenuation per metre)."""

    owns = ("cityscapes/leftImg8bit_foggy",)
    needs = ("cityscapes",)

    def frames(self, count: int, val_count: int) -> list[Frame]:
        return [
            *scenes("cityscapes", "train", "foggy", count),
            *scenes("cityscapes", "val", "foggy", val_count),
        ]

    def files(self, frame: Frame) -> tuple[str, ...]:
        city, name = frame_name(frame)
        folder = f"cityscapes/leftImg8bit_foggy/{frame.split}/{city}"
        return tuple(f"{folder}/{name}_leftImg8bit_foggy_beta_{beta}.png" for beta in FOG_BETAS)

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        fogs = (render(frame.domain, frame.index, fog_beta=beta).image for beta in FOG_BETAS)
        return dict(zip(self.files(frame), map(png, fogs), strict=True))


LAYOUTS.add("cityscapes", Cityscapes())
LAYOUTS.add("cityscapes_foggy", FoggyCityscapes())
