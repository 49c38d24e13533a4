"""What a data set is made of: its frames, and what is known about each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SegmentationRecord:
    """One frame. `name` is unique in its data set; `label` is None where there is none."""

    name: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class SegmentationDataset:
    """The frames of a data set, sorted by name.

    Attributes:
        id_table: raw id → class name, or the name of one (`shared.data.label_maps.ID_TABLES`).
        encoding: how its label files hold the ids (`shared.data.images.read_labels`).
        label_folder: where its labels are, or would be.
        official_root: the Cityscapes tree whose `gtFine/val` the official script reads; None where
            that script does not apply.
    """

    name: str
    records: tuple[SegmentationRecord, ...]
    id_table: str | Mapping[int, str]
    encoding: str
    split: str
    label_folder: Path
    official_root: Path | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One thing, or one region whose things nobody separated (`crowd`).

    Attributes:
        box: x1, y1, x2, y2 in pixels from the image's top left corner; pixel i covers i to i + 1.
        difficult: VOC's flag: ignored in training and evaluation.
        instance: the thing's value in the record's instance PNG; None where there is no such PNG.
    """

    category: str
    box: tuple[float, float, float, float]
    difficult: bool = False
    crowd: bool = False
    instance: int | None = None


@dataclass(frozen=True, slots=True)
class DetectionRecord:
    """One frame. `name` is unique in its data set.

    Attributes:
        annotations: None where nothing is known, an empty tuple where nothing is in the picture.
        instances: PNG of instance ids (`shared.data.read_instance_ids`).
    """

    name: str
    image: Path
    height: int
    width: int
    annotations: tuple[Annotation, ...] | None
    instances: Path | None = None


@dataclass(frozen=True)
class DetectionDataset:
    """The frames of a data set, sorted by name; those without any box are among them.

    Attributes:
        classes: the classes that the annotations are restricted to, in the order of class indices.
        official_root: the Cityscapes tree whose `gtFine/val` the official script reads; None where
            that script does not apply.
    """

    name: str
    records: tuple[DetectionRecord, ...]
    classes: tuple[str, ...]
    split: str
    official_root: Path | None = None
