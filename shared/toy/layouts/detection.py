"""Data sets in the form of PASCAL VOC: Sim10k, Clipart1k, Watercolor2k, VOC2007 and VOC2012.

`<folder>/{JPEGImages/<id>.jpg,Annotations/<id>.xml,ImageSets/Main/<split>.txt}`. Boxes are those of
the visible pixels: 1-based pixel indices, both ends inclusive.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from shared.toy.layouts.base import LAYOUTS, Frame, Layout, Renderer, jpeg, scenes
from shared.toy.layouts.instances import VisibleThing, visible_things

# Cityscapes class → VOC class. Trucks have none; a rider is a person.
VOC_CLASSES = {
    "person": "person",
    "rider": "person",
    "car": "car",
    "bus": "bus",
    "train": "train",
    "motorcycle": "motorbike",
    "bicycle": "bicycle",
}
WATERCOLOR_CLASSES = {name: VOC_CLASSES[name] for name in ("person", "rider", "car", "bicycle")}

# Fewer visible pixels than these tell nobody what the thing is.
MIN_PIXELS = 10
TRUNCATED = 0.15
OCCLUDED = 0.05
TEST_OFFSET = 500_000


def annotation(
    folder: str, file_name: str, size: tuple[int, int], things: Sequence[tuple[str, VisibleThing]]
) -> bytes:
    """The XML of one picture.

    Args:
        size: height, width.
        things: name and thing for every box.
    """
    root = ElementTree.Element("annotation")
    _add(root, "folder", folder)
    _add(root, "filename", file_name)
    extent = ElementTree.SubElement(root, "size")
    for tag, value in (("width", size[1]), ("height", size[0]), ("depth", 3)):
        _add(extent, tag, value)
    _add(root, "segmented", 0)
    for name, thing in things:
        entry = ElementTree.SubElement(root, "object")
        _add(entry, "name", name)
        _add(entry, "pose", "Unspecified")
        _add(entry, "truncated", int(thing.truncation > TRUNCATED))
        _add(entry, "occluded", int(thing.occlusion > OCCLUDED))
        _add(entry, "difficult", int(thing.group or thing.pixels < MIN_PIXELS))
        box = ElementTree.SubElement(entry, "bndbox")
        x0, y0, x1, y1 = thing.box
        for tag, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            _add(box, tag, value)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root) + b"\n"


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = str(value)


class VOCForm(Layout):
    """Trees of VOC form; a scene's `data_set` is the name of its tree.

    Args:
        train: (tree, split) of every split that shares the training frames.
        test: (tree, split) of the test frames, None where there is no such split.
        classes: Cityscapes class → name in the annotations; things of other classes get no box.
    """

    def __init__(
        self,
        domain: str,
        train: Sequence[tuple[str, str]],
        test: tuple[str, str] | None,
        classes: Mapping[str, str],
    ) -> None:
        self.domain = domain
        self.train = tuple(train)
        self.test = test
        self.classes = classes
        self.owns = tuple(tree for tree, _ in train)

    def frames(self, count: int, val_count: int) -> list[Frame]:
        found = []
        for place, (tree, split) in enumerate(self.train):
            share = len(range(place, count, len(self.train)))
            found += scenes(tree, split, self.domain, share)
        if self.test is not None:
            found += scenes(*self.test, self.domain, val_count)
        return found

    def stem(self, frame: Frame) -> str:
        # Both splits lie in one folder: the test frames are numbered beyond any training frame.
        number = frame.number + 1 + (TEST_OFFSET if frame.split == "test" else 0)
        return f"2012_{number:06d}" if frame.data_set == "VOC2012" else f"{number:06d}"

    def files(self, frame: Frame) -> tuple[str, ...]:
        tree, stem = frame.data_set, self.stem(frame)
        return f"{tree}/JPEGImages/{stem}.jpg", f"{tree}/Annotations/{stem}.xml"

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        toy = render(frame.domain, frame.index)
        things = [
            (self.classes[thing.label], thing)
            for thing in visible_things(toy)
            if thing.label in self.classes
        ]
        size = toy.label_ids.shape
        xml = annotation(frame.data_set, f"{self.stem(frame)}.jpg", size, things)
        return dict(zip(self.files(frame), (jpeg(toy.image), xml), strict=True))

    def lists(self, frames: Sequence[Frame]) -> dict[str, bytes]:
        stems: dict[str, list[str]] = defaultdict(list)
        for frame in frames:
            path = f"{frame.data_set}/ImageSets/Main/{frame.split}.txt"
            stems[path].append(self.stem(frame))
        return {path: "".join(f"{s}\n" for s in names).encode() for path, names in stems.items()}


LAYOUTS.add(
    "sim10k", VOCForm("game", [("sim10k", "trainval10k")], None, {"car": VOC_CLASSES["car"]})
)
for _style, _classes in (("clipart", VOC_CLASSES), ("watercolor", WATERCOLOR_CLASSES)):
    LAYOUTS.add(_style, VOCForm(_style, [(_style, "train")], (_style, "test"), _classes))
LAYOUTS.add(
    "voc",
    VOCForm(
        "real",
        [("VOC2007", "trainval"), ("VOC2012", "trainval")],
        ("VOC2007", "test"),
        VOC_CLASSES,
    ),
)
