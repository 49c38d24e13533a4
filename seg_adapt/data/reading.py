"""Images and train ids of records, from their files."""

from pathlib import Path

from torch import Tensor

from seg_adapt.data.cache import ResizedFiles
from shared.data.images import image_size, read_image, read_labels, remap
from shared.data.label_maps import LabelSpace, lookup_table
from shared.data.records import SegmentationDataset, SegmentationRecord
from shared.errors import MissingFileError, UserError


class Reader:
    """Reads the records of a data set.

    Args:
        space: the classes of the train ids; None: no label file is opened.
        resized: what is read instead of the files themselves.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        space: LabelSpace | None,
        resized: ResizedFiles | None = None,
    ) -> None:
        self.encodings = {part: f.encoding for part, f in dataset.formats.items()}
        self.tables = None
        if space is not None:
            formats = dataset.formats.items()
            self.tables = {part: lookup_table(f.id_table, space) for part, f in formats}
        self.resized = resized

    def __call__(self, record: SegmentationRecord) -> tuple[Tensor, Tensor | None]:
        """Image (3, H, W) and train ids (H, W), both uint8.

        Raises:
            UserError: they differ in size, or a file is damaged.
        """
        image = (read_image if self.resized is None else self.resized.image)(record.image)
        if self.tables is None:
            return image, None
        labels = self.labels(record)
        if self.resized is None:
            check_sizes(record, tuple(image.shape[-2:]), tuple(labels.shape))
        else:
            check_sizes(record, image_size(record.image), image_size(record.label))
        return image, labels

    def labels(self, record: SegmentationRecord) -> Tensor:
        """Train ids (H, W) uint8 alone."""
        read = read_labels if self.resized is None else self.resized.labels
        return remap(read(record.label, self.encodings[record.part]), self.tables[record.part])

    def original_size(self, record: SegmentationRecord) -> tuple[int, int] | None:
        """(height, width) of the file where that is not the size it is read at."""
        return None if self.resized is None else image_size(record.image)


def check_sizes(
    record: SegmentationRecord, image: tuple[int, int], labels: tuple[int, int]
) -> None:
    """UserError where an image and its labels differ in (height, width)."""
    if image != labels:
        raise UserError(
            f"{record.label} is {labels[1]}x{labels[0]} but its image {record.image} is "
            f"{image[1]}x{image[0]}: unpack the pair again or remove both files"
        )


def pseudo_label_path(folder: Path, record: SegmentationRecord) -> Path:
    """The PNG of a record's train ids."""
    return folder / f"{record.name}.png"


def read_pseudo_labels(folder: Path, record: SegmentationRecord) -> Tensor:
    """Train ids (h, w) uint8, of any size."""
    path = pseudo_label_path(folder, record)
    try:
        return read_labels(path, "index")
    except MissingFileError:
        raise MissingFileError(
            f"no pseudo-labels {path} of {record.image}: restore the file, or start a new run "
            "with --output"
        ) from None
