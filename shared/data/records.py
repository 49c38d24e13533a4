"""What a data set is made of: its frames, what is known about each, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from shared.errors import UserError


class Severity(StrEnum):
    """ERROR: training on it would fail or go wrong. WARNING: look at it. INFO: for the record."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file; with the data set as a whole where `file` is None."""

    severity: Severity
    message: str
    file: Path | None = None

    def __str__(self) -> str:
        text = self.message if self.file is None else f"{self.file} {self.message}"
        return " ".join(text.split())


@dataclass(frozen=True)
class Frame:
    """The files of one frame. `name` is unique in its data set; `label` is None without one.

    Attributes:
        part: the data set that it came from, where several are joined.
    """

    name: str
    image: Path
    label: Path | None
    part: str = ""


SegmentationRecord = Frame  # all that is known before its label is opened


@dataclass(frozen=True)
class LabelFormat:
    """What label files hold.

    Attributes:
        id_table: raw id → class name, or the name of one (`shared.data.label_maps.ID_TABLES`).
        encoding: how they hold the ids (`shared.data.images.read_labels`).
    """

    id_table: str | Mapping[int, str]
    encoding: str


@dataclass(frozen=True)
class SegmentationDataset:
    """The frames of a data set, sorted by name.

    Attributes:
        id_table, encoding: of its labels; see `LabelFormat`.
        label_folder: where its labels are, or would be.
        official_root: the Cityscapes tree whose `gtFine/val` the official script reads; None where
            that script does not apply.
        faults: files that are left out, and why.
        parts: of joined data sets, the format of each one's labels by its name.
    """

    name: str
    records: tuple[SegmentationRecord, ...]
    id_table: str | Mapping[int, str]
    encoding: str
    label_folder: Path
    official_root: Path | None = None
    faults: tuple[Fault, ...] = field(default=(), compare=False, repr=False)
    parts: Mapping[str, LabelFormat] = field(default_factory=dict, hash=False)

    @property
    def formats(self) -> dict[str, LabelFormat]:
        """By the `part` of a record."""
        return {"": LabelFormat(self.id_table, self.encoding), **self.parts}


def joined(datasets: Sequence[SegmentationDataset]) -> SegmentationDataset:
    """Several data sets as one; each keeps the format of its labels."""
    names = [dataset.name for dataset in datasets]
    if len(set(names)) < len(names):
        raise UserError(f"one data set twice in '{', '.join(names)}'")
    records = (
        replace(record, name=f"{dataset.name}/{record.name}", part=dataset.name)
        for dataset in datasets
        for record in dataset.records
    )
    first = datasets[0]
    return SegmentationDataset(
        " + ".join(names),
        tuple(sorted(records, key=lambda record: record.name)),
        first.id_table,
        first.encoding,
        first.label_folder,
        parts={dataset.name: dataset.formats[""] for dataset in datasets},
    )


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object, or one region whose objects nobody separated (`crowd`).

    Attributes:
        box: x1, y1, x2, y2 in pixels from the image's top left corner; pixel i covers i to i + 1.
        difficult: VOC's flag: ignored in training and evaluation.
        instance: the object's value in the record's instance PNG; None where there is no such PNG.
    """

    category: str
    box: tuple[float, float, float, float]
    difficult: bool = False
    crowd: bool = False
    instance: int | None = None

    def is_at_least(self, pixels: float) -> bool:
        """Whether width and height are no smaller; every box is of 0."""
        x1, y1, x2, y2 = self.box
        return pixels <= 0 or min(x2 - x1, y2 - y1) >= pixels


@dataclass(frozen=True, slots=True)
class DetectionRecord:
    """One frame. `name` is unique in its data set.

    Attributes:
        annotations: None where nothing is known, an empty tuple where nothing is in the picture.
        instances: PNG of instance ids (`shared.data.cityscapes.read_instance_ids`).
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
    official_root: Path | None = None
