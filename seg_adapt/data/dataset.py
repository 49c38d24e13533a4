"""Segmentation samples: an image with its labels, transformed and put into batches."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seg_adapt.data.cache import ResizedFiles
from seg_adapt.data.reading import Reader, read_pseudo_labels
from seg_adapt.data.transforms import JointTransform
from seg_adapt.structures import Geometry, SourceBatch, TargetBatch
from shared.data.label_maps import LabelSpace
from shared.data.records import SegmentationDataset
from shared.domain_losses import Domain
from shared.errors import UserError
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
        self.transform = transform
        self.pseudo_labels = pseudo_labels
        resized = None
        if cache is not None and transform.resize and transform.scales == (1.0, 1.0):
            resized = ResizedFiles(cache, tuple(transform.resize), transform.interpolation)
        elif cache is not None:
            logger.warning(
                "data set '%s' does not use DATASETS.CACHE: that takes a RESIZE and SCALES of 1",
                dataset.name,
            )
        self.read = Reader(self.dataset, space, resized)

    def load(self, slot: int) -> Sample:
        record = self.record(slot)
        image, labels = self.read(record)
        if self.pseudo_labels is not None:
            labels = read_pseudo_labels(self.pseudo_labels, record)
        original = self.read.original_size(record)
        image, labels, geometry = self.transform(image, labels, self.generator(slot), original)
        return Sample(self.domain, image, labels, geometry, record.name)

    def batch(self, slots: Sequence[int]) -> SourceBatch | TargetBatch:
        return collate(super().batch(slots))

    def labels(self, slot: int) -> np.ndarray:
        """The labels (H, W) uint8 of a source's sample, without reading its image."""
        record = self.record(slot)
        labels, original = self.read.labels(record), self.read.original_size(record)
        blank = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(3, *labels.shape)
        return self.transform(blank, labels, self.generator(slot), original)[1].numpy()


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
        labels = torch.stack([sample.labels for sample in samples])
    if samples[0].domain is Domain.TARGET:
        return TargetBatch(images, geometry, names, labels)
    return SourceBatch(images, labels, geometry, names)
