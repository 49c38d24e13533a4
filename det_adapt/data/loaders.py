"""Detection samples: of training by slot, of inference in their order."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from det_adapt.data.samples import Augmentation, read_sample, trained_on
from det_adapt.structures import Sample
from shared.data.records import DetectionDataset, DetectionRecord
from shared.domain_losses import Domain
from shared.errors import UserError
from shared.processes import prefetch
from shared.slots import Slots


class SlotDataset(Slots):
    """The samples of one domain.

    Args:
        masks: the source's instance masks too.
        filter_empty: leave out source images without a box to train on; the target is never
            filtered, which would read its annotations.
        min_size: pixels of the file; the source's boxes with a smaller side are not trained on.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        augmentation: Augmentation,
        *,
        domain: Domain,
        seed: int,
        masks: bool = False,
        filter_empty: bool = True,
        min_size: float = 0.0,
    ) -> None:
        super().__init__(dataset, domain=domain, seed=seed, labels=["annotations", "instances"])
        self.augmentation = augmentation
        self.masks = masks
        self.min_size = min_size
        self.classes = None if domain is Domain.TARGET else dataset.classes
        if domain is Domain.SOURCE and filter_empty:
            self.dataset = _without_empty(self.dataset, min_size)

    def load(self, slot: int) -> Sample:
        record, generator = self.record(slot), self.generator(slot)
        return read_sample(
            record,
            self.classes,
            self.augmentation,
            generator,
            masks=self.masks,
            min_size=self.min_size,
        )


def samples_in_order(
    dataset: DetectionDataset,
    augmentation: Augmentation,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> Iterator[Sample]:
    """Every image once, without its annotations, for inference.

    Args:
        rank, world_size: process r takes the records r, r + world_size, …
    """
    read = partial(_read_for_inference, augmentation)
    return prefetch(read, dataset.records[rank::world_size], workers)


def _read_for_inference(augmentation: Augmentation, record: DetectionRecord) -> Sample:
    return read_sample(record, None, augmentation, np.random.default_rng(0))


def _without_empty(dataset: DetectionDataset, min_size: float) -> DetectionDataset:
    records = tuple(record for record in dataset.records if trained_on(record, min_size))
    if not records:
        raise UserError(
            f"source dataset '{dataset.name}': none of its {len(dataset.records)} images has a box "
            f"of {', '.join(dataset.classes)} to train on"
        )
    return replace(dataset, records=records)
