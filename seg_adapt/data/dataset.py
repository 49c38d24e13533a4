"""Segmentation samples: an image with its labels, transformed and put into batches."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seg_adapt.data.cache import ResizedFiles
from seg_adapt.data.transforms import JointTransform
from seg_adapt.structures import Geometry, SourceBatch, TargetBatch
from shared.data.images import image_size, read_image, read_labels, remap
from shared.data.label_maps import LabelSpace, lookup_table
from shared.data.records import SegmentationDataset, SegmentationRecord
from shared.domain_losses import Domain
from shared.errors import MissingFileError, UserError
from shared.slots import Slots

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One transformed image; a source's labels, a target's pseudo-labels or none."""

    domain: Domain
    image: Tensor
    labels: Tensor | None
    geometry: Geometry
    name: str


def check_sizes(
    record: SegmentationRecord, image: tuple[int, int], labels: tuple[int, int]
) -> None:
    """UserError where an image and its labels differ in (height, width)."""
    if image != labels:
        raise UserError(
            f"{record.label} is {labels[1]}x{labels[0]} but its image {record.image} is "
            f"{image[1]}x{image[0]}: unpack the pair again or remove both files"
        )


def read_pair(
    record: SegmentationRecord, encoding: str, table: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Image (3, H, W) and train ids (H, W), both uint8, of one record.

    Args:
        table: (256,) raw id to train id.
    """
    image = read_image(record.image)
    labels = remap(read_labels(record.label, encoding), table)
    check_sizes(record, tuple(image.shape[-2:]), tuple(labels.shape))
    return image, labels


def pseudo_label_path(folder: Path, name: str) -> Path:
    """The PNG of train ids of the record of that name."""
    return folder / f"{name}.png"


class SlotDataset(Slots):
    """The samples of one domain.

    Args:
        space: label space of the source; None for a target.
        cache: folder of resized copies; None resizes every time. The samples are the same. Not
            used with random scales, which start from the whole image.
        pseudo_labels: folder of a target's labels by `pseudo_label_path`, of any size; None: the
            target has none.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: JointTransform,
        *,
        domain: Domain,
        seed: int,
        space: LabelSpace | None,
        cache: Path | None = None,
        pseudo_labels: Path | None = None,
    ) -> None:
        super().__init__(dataset, domain=domain, seed=seed, labels=["label"])
        if domain is Domain.SOURCE and space is None:
            raise ValueError("a source dataset needs a label space")
        if domain is Domain.SOURCE and pseudo_labels is not None:
            raise ValueError("a source dataset has labels of its own")
        self.table = lookup_table(dataset.id_table, space) if domain is Domain.SOURCE else None
        self.transform = transform
        self.pseudo_labels = pseudo_labels
        self.resized = None
        if cache is not None and transform.resize and transform.scales == (1.0, 1.0):
            self.resized = ResizedFiles(cache, tuple(transform.resize), transform.interpolation)
        elif cache is not None:
            logger.warning(
                "data set '%s' does not use DATASETS.CACHE: that takes a RESIZE and SCALES of 1",
                dataset.name,
            )

    def load(self, slot: int) -> Sample:
        record = self.record(slot)
        if self.resized is not None:
            image, labels, original = self._read_resized(record)
        elif self.domain is Domain.SOURCE:
            image, labels = read_pair(record, self.dataset.encoding, self.table)
            original = None
        else:
            image, labels, original = read_image(record.image), None, None
        if self.pseudo_labels is not None:
            labels = self._read_pseudo_labels(record)
        image, labels, geometry = self.transform(image, labels, self.generator(slot), original)
        return Sample(self.domain, image, labels, geometry, record.name)

    def _read_resized(
        self, record: SegmentationRecord
    ) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
        """Image and train ids at the transform's size, and the file's own (height, width)."""
        original = image_size(record.image)
        labels = None
        if self.domain is Domain.SOURCE:
            check_sizes(record, original, image_size(record.label))
            labels = remap(self.resized.labels(record.label, self.dataset.encoding), self.table)
        return self.resized.image(record.image), labels, original

    def _read_pseudo_labels(self, record: SegmentationRecord) -> Tensor:
        path = pseudo_label_path(self.pseudo_labels, record.name)
        try:
            return read_labels(path, "index")
        except MissingFileError:
            raise MissingFileError(
                f"no pseudo-labels {path} of {record.image}: restore the file, or start a new run "
                "with --output"
            ) from None

    def batch(self, slots: Sequence[int]) -> SourceBatch | TargetBatch:
        return collate(super().batch(slots))

    def labels(self, slot: int) -> np.ndarray:
        """The labels (H, W) uint8 of a source's sample, without reading its image."""
        record = self.record(slot)
        labels = remap(read_labels(record.label, self.dataset.encoding), self.table)
        blank = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(3, *labels.shape)
        return self.transform(blank, labels, self.generator(slot))[1].numpy()


def collate(samples: Sequence[Sample]) -> SourceBatch | TargetBatch:
    """One batch of samples of one size."""
    sizes = {tuple(sample.image.shape[-2:]) for sample in samples}
    if len(sizes) > 1:
        raise UserError(
            f"images of {len(sizes)} sizes in one batch: set INPUT.CROP or INPUT.<DOMAIN>.RESIZE"
        )
    images = torch.stack([sample.image for sample in samples])
    geometry = Geometry.stack([sample.geometry for sample in samples])
    names = tuple(sample.name for sample in samples)
    labels = None
    if samples[0].labels is not None:
        labels = torch.stack([sample.labels for sample in samples]).long()
    if samples[0].domain is Domain.TARGET:
        return TargetBatch(images, geometry, names, labels)
    return SourceBatch(images, labels, geometry, names)
