"""KITTI object detection: `kitti/training/{image_2/000000.png,label_2/000000.txt}`.

A label line has 15 fields: type, truncated, occluded, alpha, x1 y1 x2 y2, height width length,
x y z, rotation. Boxes are those of the visible pixels: 0-based, edges in continuous coordinates
(pixel i covers i to i + 1). What only 3D labels know has the values KITTI reserves for unknown.
"""

from shared.toy.layouts.base import LAYOUTS, Frame, Layout, Renderer, png, scenes
from shared.toy.layouts.instances import VisibleThing, visible_things

# Cityscapes class → KITTI type. Bicycles and motorcycles that nobody rides have no label there; a
# Cyclist is here the box of the rider alone.
KITTI_TYPES = {
    "person": "Pedestrian",
    "rider": "Cyclist",
    "car": "Car",
    "truck": "Truck",
    "bus": "Misc",
    "train": "Tram",
}
MIN_PIXELS = 10
# Upper bounds of the hidden share for "fully visible" (0) and "partly occluded" (1); beyond, 2.
OCCLUSION_LEVELS = (0.1, 0.5)
UNKNOWN_3D = "-1 -1 -1 -1000 -1000 -1000 -10"


def label_line(thing: VisibleThing) -> str:
    """One thing of a class in `KITTI_TYPES`; groups and specks are DontCare regions."""
    box = " ".join(f"{float(edge):.2f}" for edge in thing.box)
    if thing.group or thing.pixels < MIN_PIXELS:
        return f"DontCare -1 -1 -10 {box} {UNKNOWN_3D}"
    level = sum(thing.occlusion > bound for bound in OCCLUSION_LEVELS)
    return f"{KITTI_TYPES[thing.label]} {thing.truncation:.2f} {level} -10 {box} {UNKNOWN_3D}"


class Kitti(Layout):
    """The labelled half; KITTI's own test labels are not public."""

    owns = ("kitti",)

    def frames(self, count: int, val_count: int) -> list[Frame]:
        return scenes("kitti", "training", "real", count)

    def files(self, frame: Frame) -> tuple[str, ...]:
        stem = f"{frame.number:06d}"
        return f"kitti/training/image_2/{stem}.png", f"kitti/training/label_2/{stem}.txt"

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        toy = render(frame.domain, frame.index)
        things = [thing for thing in visible_things(toy) if thing.label in KITTI_TYPES]
        lines = "".join(f"{label_line(thing)}\n" for thing in things)
        return dict(zip(self.files(frame), (png(toy.image), lines.encode()), strict=True))


LAYOUTS.add("kitti", Kitti())
