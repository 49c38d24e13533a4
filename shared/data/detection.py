"""Detection data sets by name; the twin of `x` below `<root>/toy` is `toy_x`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from shared.data.cityscapes import (
    FOG_BETAS,
    cityscapes_detection_layout,
    foggy_cityscapes_layout,
)
from shared.data.folders import data_root, real_place, toy_place
from shared.data.kitti import kitti_layout
from shared.data.records import DetectionDataset
from shared.data.voc import VOC_DATASETS, voc_layout
from shared.registry import Registry

# The papers' protocol: adaptation to the densest fog only.
DEFAULT_BETA = "0.02"


class Loader(Protocol):
    """A registered data set: root, whether annotations are read, classes (None: its default)."""

    def __call__(
        self, root: Path, labelled: bool, classes: Sequence[str] | None
    ) -> DetectionDataset: ...


DETECTION: Registry[Loader] = Registry("detection data set")


def _register(name: str, layout: Callable[..., DetectionDataset]) -> None:
    def real(root: Path, labelled: bool, classes: Sequence[str] | None) -> DetectionDataset:
        return layout(real_place(name, root), labelled, classes)

    def toy(root: Path, labelled: bool, classes: Sequence[str] | None) -> DetectionDataset:
        return layout(toy_place(f"toy_{name}", root), labelled, classes)

    DETECTION.add(name, real)
    DETECTION.add(f"toy_{name}", toy)


for _name, _arguments in VOC_DATASETS.items():
    _register(_name, partial(voc_layout, **_arguments))
_register("kitti_train", kitti_layout)
for _split in ("train", "val"):
    _clear = partial(cityscapes_detection_layout, split=_split)
    _foggy = partial(foggy_cityscapes_layout, split=_split)
    for _boxes, _polygons in (("", False), ("_polygons", True)):
        _register(f"cityscapes_det_{_split}{_boxes}", partial(_clear, polygons=_polygons))
        _default = partial(_foggy, beta=DEFAULT_BETA, polygons=_polygons)
        _register(f"foggy_cityscapes_{_split}{_boxes}", _default)
    for _beta in (*FOG_BETAS, "all"):
        _register(f"foggy_cityscapes_{_split}_beta_{_beta}", partial(_foggy, beta=_beta))


def load_detection(
    name: str,
    root: str | Path | None = None,
    *,
    labelled: bool = False,
    classes: Sequence[str] | None = None,
) -> DetectionDataset:
    """The data set `name` below `root` (default: `data_root()`).

    Args:
        labelled: read the annotations, and refuse a data set without. Otherwise no annotation file
            is opened, as for a target: a record's annotations are None.
        classes: keep the boxes of these classes only; VOC with `WATERCOLOR_CLASSES`, say. Default:
            the data set's own classes, of Sim10k and KITTI the cars.
    """
    return DETECTION.get(name)(data_root() if root is None else Path(root), labelled, classes)
