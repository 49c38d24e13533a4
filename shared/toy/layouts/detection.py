"""Data sets with boxes: the PASCAL VOC form (Sim10k, Clipart1k, Watercolor2k, VOC) and KITTI."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from shared.toy.frame import ToyFrame
from shared.toy.layouts.annotations import VisibleObject, visible_objects
from shared.toy.layouts.base import LAYOUTS, Frame, Layout, jpeg, png

# Cityscapes class → name in VOC. Trucks have none; a rider is a person.
VOC_CLASSES = {
    **{"person": "person", "rider": "person", "car": "car", "bus": "bus", "train": "train"},
    **{"motorcycle": "motorbike", "bicycle": "bicycle"},
}
# Cityscapes class → KITTI type. Bicycles and motorcycles that nobody rides have no label there; a
# Cyclist is here the box of the rider alone.
KITTI_TYPES = {
    **{"person": "Pedestrian", "rider": "Cyclist", "car": "Car", "truck": "Truck"},
    **{"bus": "Misc", "train": "Tram"},
}
# Fewer visible pixels than these tell nobody what the thing is.
MIN_PIXELS = 10
# Shares of the silhouette, hidden or out of the picture, that VOC's flags and KITTI's levels name.
VOC_TRUNCATED, VOC_OCCLUDED, KITTI_OCCLUSION_LEVELS = 0.15, 0.05, (0.1, 0.5)
KITTI_UNKNOWN_3D = "-1 -1 -1 -1000 -1000 -1000 -10"


class Voc(Layout):
    """Trees in the form of PASCAL VOC.

    Boxes are those of the visible pixels: 1-based pixel indices, both ends inclusive.

    Args:
        trees: data sets, each a folder.
        classes: Cityscapes class → name in the annotations; things of other classes get no box.
    """

    templates = ("{data_set}/JPEGImages/{name}.jpg", "{data_set}/Annotations/{name}.xml")

    def __init__(self, *trees: str, classes: Mapping[str, str], version: int = 1) -> None:
        self.data_sets = self.owns = trees
        self.classes = classes
        self.version = version

    def contents(self, frame: Frame, toy: ToyFrame) -> Sequence[bytes]:
        things = [t for t in visible_objects(toy) if t.label in self.classes]
        named = [(self.classes[thing.label], thing) for thing in things]
        size = toy.label_ids.shape
        return jpeg(toy.image), voc_xml(frame.data_set, f"{frame.name}.jpg", size, named)

    def lists(self, frames: Sequence[Frame]) -> dict[str, bytes]:
        lists: dict[str, bytes] = defaultdict(bytes)
        for frame in frames:
            path = f"{frame.data_set}/ImageSets/Main/{frame.split}.txt"
            lists[path] += f"{frame.name}\n".encode()
        return dict(lists)


def voc_xml(
    folder: str, file_name: str, size: tuple[int, int], things: Sequence[tuple[str, VisibleObject]]
) -> bytes:
    """The annotation of one picture.

    Args:
        size: height, width.
        things: name and thing for every box.
    """
    root = ElementTree.Element("annotation")
    _add(root, folder=folder, filename=file_name)
    _add(ElementTree.SubElement(root, "size"), width=size[1], height=size[0], depth=3)
    _add(root, segmented=0)
    for name, thing in things:
        item = ElementTree.SubElement(root, "object")
        _add(
            item,
            name=name,
            pose="Unspecified",
            truncated=int(thing.truncation > VOC_TRUNCATED),
            occluded=int(thing.occlusion > VOC_OCCLUDED),
            difficult=int(thing.group or thing.pixels < MIN_PIXELS),
        )
        x0, y0, x1, y1 = thing.box
        _add(ElementTree.SubElement(item, "bndbox"), xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root) + b"\n"


def _add(parent: ElementTree.Element, **values: object) -> None:
    for tag, value in values.items():
        ElementTree.SubElement(parent, tag).text = str(value)


class Kitti(Layout):
    """The labelled half; KITTI's own test labels are not public.

    A label line has 15 fields: type, truncated, occluded, alpha, x1 y1 x2 y2, height width length,
    x y z, rotation. Boxes are those of the visible pixels: 0-based, edges in continuous coordinates
    (pixel i covers i to i + 1). What only 3D labels know has the values reserved for unknown.
    """

    data_sets = owns = ("kitti",)
    templates = ("kitti/training/image_2/{name}.png", "kitti/training/label_2/{name}.txt")

    def contents(self, frame: Frame, toy: ToyFrame) -> Sequence[bytes]:
        things = [thing for thing in visible_objects(toy) if thing.label in KITTI_TYPES]
        return png(toy.image), "".join(f"{kitti_line(thing)}\n" for thing in things).encode()


def kitti_line(thing: VisibleObject) -> str:
    """One thing of a class in `KITTI_TYPES`; groups and specks are DontCare regions."""
    box = " ".join(f"{float(edge):.2f}" for edge in thing.box)
    if thing.group or thing.pixels < MIN_PIXELS:
        return f"DontCare -1 -1 -10 {box} {KITTI_UNKNOWN_3D}"
    level = sum(thing.occlusion > bound for bound in KITTI_OCCLUSION_LEVELS)
    kind = KITTI_TYPES[thing.label]
    return f"{kind} {thing.truncation:.2f} {level} -10 {box} {KITTI_UNKNOWN_3D}"


_SIX = {name: VOC_CLASSES[name] for name in ("person", "rider", "car", "bicycle")}
LAYOUTS.add("sim10k", Voc("sim10k", classes={"car": "car"}))
LAYOUTS.add("clipart", Voc("clipart", classes=VOC_CLASSES))
LAYOUTS.add("watercolor", Voc("watercolor", classes=_SIX, version=2))
LAYOUTS.add("voc", Voc("VOC2007", "VOC2012", classes=VOC_CLASSES))
LAYOUTS.add("kitti", Kitti())
