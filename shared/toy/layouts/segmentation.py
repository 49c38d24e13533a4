"""Data sets with label pictures: GTA5, SYNTHIA, Cityscapes clear and foggy, BDD100K."""

import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image

from shared.data.label_maps import ID_TABLES, encode_colors, lookup_table
from shared.toy.frame import ToyFrame
from shared.toy.layouts.annotations import is_thing, outlines, shapes
from shared.toy.layouts.base import LAYOUTS, Frame, Layout, Renderer, jpeg, png

FOG_BETAS = (0.005, 0.01, 0.02)
CITIES = {"train": ("toyburg", "toyhaven"), "val": ("toyford", "toystadt")}


def palette(data_set: str) -> np.ndarray:
    """(256, 3) uint8 RGB per raw id of `data_set`; black for the ids that are never evaluated."""
    return encode_colors(lookup_table(data_set, "cityscapes19"), "cityscapes19")


def raw_ids(data_set: str, **renamed: str) -> np.ndarray:
    """Cityscapes label id → raw id of `data_set`; 0 where the data set has no such class.

    Args:
        renamed: Cityscapes class name → the name `data_set` files it under.

    Returns:
        (256,) uint8.
    """
    ids = {name: raw_id for raw_id, name in ID_TABLES.get(data_set).items()}
    table = np.zeros(256, np.uint8)
    for label_id, name in ID_TABLES.get("cityscapes").items():
        table[label_id] = ids.get(renamed.get(name, name), 0)
    return table


class GTA5(Layout):
    """Labels are mode-P PNGs: the index is the class id, the palette only its color."""

    data_sets = owns = ("gta5",)
    templates = ("gta5/images/{name}.png", "gta5/labels/{name}.png")

    def contents(self, frame: Frame, toy: ToyFrame) -> Sequence[bytes]:
        labels = Image.fromarray(raw_ids("gta5")[toy.label_ids])
        labels.putpalette(palette("gta5").tobytes())
        stream = io.BytesIO()
        labels.save(stream, "PNG", compress_level=1)
        return png(toy.image), stream.getvalue()


def synthia_labels(toy: ToyFrame, ids: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint16: class id, instance number from 1 (0 for stuff), 0.

    Args:
        ids: (256,) Cityscapes label id → class id of the data set.
    """
    channels = np.zeros((*toy.label_ids.shape, 3), np.uint16)
    channels[..., 0] = ids[toy.label_ids]
    things = np.unique(toy.instance_ids[toy.instance_ids >= 1000])
    numbers = np.searchsorted(things, toy.instance_ids) + 1
    channels[..., 1] = np.where(toy.instance_ids >= 1000, numbers, 0)
    return channels


class Synthia(Layout):
    """RAND_CITYSCAPES; depth is in centimeters, the same in all three 16-bit channels."""

    data_sets = ("synthia",)
    owns = ("RAND_CITYSCAPES",)
    templates = tuple(
        f"RAND_CITYSCAPES/{folder}/{{name}}.png"
        for folder in ("RGB", "GT/LABELS", "GT/COLOR", "Depth")
    )
    version = 2

    def contents(self, frame: Frame, toy: ToyFrame) -> Sequence[bytes]:
        labels = synthia_labels(toy, raw_ids("synthia"))
        colors = palette("synthia")[labels[..., 0]]
        centimeters = np.clip(np.rint(100.0 * toy.depth), 0, 65535).astype(np.uint16)
        depth = np.repeat(centimeters[..., None], 3, axis=2)
        return png(toy.image), png(labels), png(colors), png(depth)


class SynthiaSeqs(Layout):
    """Sequence 01 in three seasons, left camera looking forward; the ids are not RAND's."""

    data_sets = owns = ("synthia_seqs",)
    version = 2

    def files(self, frame: Frame) -> tuple[str, ...]:
        folder = f"synthia_seqs/SYNTHIA-SEQS-01-{frame.split.upper()}"
        file = f"Stereo_Left/Omni_F/{frame.name}.png"
        return f"{folder}/RGB/{file}", f"{folder}/GT/LABELS/{file}"

    def contents(self, frame: Frame, toy: ToyFrame) -> Sequence[bytes]:
        # The sequences have one class, cyclist, for whoever and whatever is on two wheels.
        labels = synthia_labels(toy, raw_ids("synthia_seqs", rider="bicycle"))
        return png(toy.image), png(labels)


class Cityscapes(Layout):
    """The clear pictures and gtFine."""

    data_sets = ("cityscapes",)
    owns = ("cityscapes/leftImg8bit", "cityscapes/gtFine")
    templates = (
        "cityscapes/leftImg8bit/{split}/{city}/{name}_leftImg8bit.png",
        "cityscapes/gtFine/{split}/{city}/{name}_gtFine_labelIds.png",
        "cityscapes/gtFine/{split}/{city}/{name}_gtFine_instanceIds.png",
        "cityscapes/gtFine/{split}/{city}/{name}_gtFine_color.png",
        "cityscapes/gtFine/{split}/{city}/{name}_gtFine_polygons.json",
    )

    def files(self, frame: Frame) -> tuple[str, ...]:
        # The scenes of a split take turns among its cities.
        sequence, turn = divmod(frame.number, len(CITIES[frame.split]))
        city = CITIES[frame.split][turn]
        fields = {"split": frame.split, "city": city, "name": f"{city}_{sequence:06d}_000019"}
        return tuple(template.format(**fields) for template in self.templates)

    def contents(self, frame: Frame, toy: ToyFrame) -> Sequence[bytes]:
        opaque = np.full((*toy.label_ids.shape, 1), 255, np.uint8)
        colors = np.concatenate([palette("cityscapes")[toy.label_ids], opaque], axis=2)
        pictures = (toy.image, toy.label_ids, toy.instance_ids, colors)
        return (*map(png, pictures), json.dumps(polygons(toy)).encode())


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


class FoggyCityscapes(Cityscapes):
    """Every frame of the clear set at three densities β (attenuation per meter)."""

    owns = ("cityscapes/leftImg8bit_foggy",)
    needs = ("cityscapes",)
    templates = tuple(
        f"cityscapes/leftImg8bit_foggy/{{split}}/{{city}}/{{name}}_leftImg8bit_foggy_beta_{beta}.png"
        for beta in FOG_BETAS
    )

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        fogs = (render("foggy", frame.index, fog_beta=beta).image for beta in FOG_BETAS)
        return dict(zip(self.files(frame), map(png, fogs), strict=True))


class BDD100K(Layout):
    """Masks hold Cityscapes train ids and 255."""

    data_sets = owns = ("bdd100k",)
    templates = (
        "bdd100k/images/10k/{split}/{name}.jpg",
        "bdd100k/labels/sem_seg/masks/{split}/{name}.png",
    )
    version = 2

    def contents(self, frame: Frame, toy: ToyFrame) -> Sequence[bytes]:
        return jpeg(toy.image), png(lookup_table("cityscapes", "cityscapes19")[toy.label_ids])


LAYOUTS.add("gta5", GTA5())
LAYOUTS.add("synthia", Synthia())
LAYOUTS.add("synthia_seqs", SynthiaSeqs())
LAYOUTS.add("cityscapes", Cityscapes())
LAYOUTS.add("cityscapes_foggy", FoggyCityscapes())
LAYOUTS.add("bdd100k", BDD100K())
