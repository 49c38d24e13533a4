"""SYNTHIA: RAND_CITYSCAPES and the seasons of one video sequence.

Label files are 16-bit RGB PNGs: red is the class, green the instance, blue is empty.
"""

import numpy as np

from shared.toy import ToyFrame
from shared.toy.layouts.base import LAYOUTS, Frame, Layout, Renderer, id_table, png, scenes
from shared.toy.layouts.gta5 import cityscapes_palette

SEASONS = ("summer", "fall", "winter")


def label_channels(toy: ToyFrame, class_ids: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint16: class id, instance number from 1 (0 for stuff), 0.

    Args:
        class_ids: (256,) Cityscapes label id → class id of the data set.
    """
    channels = np.zeros((*toy.label_ids.shape, 3), np.uint16)
    channels[..., 0] = class_ids[toy.label_ids]
    things = np.unique(toy.instance_ids[toy.instance_ids >= 1000])
    numbers = np.searchsorted(things, toy.instance_ids) + 1
    channels[..., 1] = np.where(toy.instance_ids >= 1000, numbers, 0)
    return channels


class Synthia(Layout):
    """RAND_CITYSCAPES; depth is in centimetres, the same in all three 16-bit channels."""

    owns = ("RAND_CITYSCAPES",)

    def frames(self, count: int, val_count: int) -> list[Frame]:
        return scenes("synthia", "train", "synthia", count)

    def files(self, frame: Frame) -> tuple[str, ...]:
        folders = ("RGB", "GT/LABELS", "GT/COLOR", "Depth")
        return tuple(f"RAND_CITYSCAPES/{folder}/{frame.number:07d}.png" for folder in folders)

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        toy = render(frame.domain, frame.index)
        labels = label_channels(toy, id_table("synthia"))
        colors = cityscapes_palette("synthia")[labels[..., 0]]
        centimetres = np.clip(np.rint(100.0 * toy.depth), 0, 65535).astype(np.uint16)
        depth = np.repeat(centimetres[..., None], 3, axis=2)
        contents = (png(toy.image), png(labels), png(colors), png(depth))
        return dict(zip(self.files(frame), contents, strict=True))


class SynthiaSeqs(Layout):
    """Sequence 01 in three seasons, left camera looking forward; the ids are not RAND's."""

    owns = tuple(f"synthia_seqs/SYNTHIA-SEQS-01-{season.upper()}" for season in SEASONS)

    def frames(self, count: int, val_count: int) -> list[Frame]:
        return [
            frame for season in SEASONS for frame in scenes("synthia_seqs", season, season, count)
        ]

    def files(self, frame: Frame) -> tuple[str, ...]:
        folder = f"synthia_seqs/SYNTHIA-SEQS-01-{frame.split.upper()}"
        name = f"Stereo_Left/Omni_F/{frame.number:06d}.png"
        return f"{folder}/RGB/{name}", f"{folder}/GT/LABELS/{name}"

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        toy = render(frame.domain, frame.index)
        # The sequences have one class, cyclist, for whoever and whatever is on two wheels.
        class_ids = id_table("synthia_seqs", rename={"rider": "bicycle"})
        contents = (png(toy.image), png(label_channels(toy, class_ids)))
        return dict(zip(self.files(frame), contents, strict=True))


LAYOUTS.add("synthia", Synthia())
LAYOUTS.add("synthia_seqs", SynthiaSeqs())
