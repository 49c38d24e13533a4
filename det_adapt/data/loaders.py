"""Endless pairs of source and target samples; each follows from (seed, domain, slot) alone.

A slot is a running number over the whole training: slot = iteration · images per iteration + place.
Resuming, another number of workers or of processes thus need no generator state.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from det_adapt.data.samples import Augmentation, read_sample, trained_on
from det_adapt.structures import Sample
from shared.data.records import DetectionDataset, DetectionRecord
from shared.domain_losses import Domain
from shared.errors import UserError


class SlotDataset(Dataset):
    """Endless: slot s is place s mod n of the permutation of epoch s div n.

    Args:
        dataset: what to read; of a target, no annotation or instance file is kept.
        seed: of the run; source and target draw from separate streams of it, so that a scene is
            not paired with its foggy twin.
        masks: the source's instance masks too.
        filter_empty: leave out source images without a box to train on; the target is never
            filtered, which would read its annotations.
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
    ) -> None:
        if not dataset.records:
            raise UserError(f"dataset '{dataset.name}' has no images")
        self.augmentation = augmentation
        self.domain = domain
        self.seed = seed
        self.masks = masks
        if domain is Domain.TARGET:
            self.classes = None
            self.records = tuple(
                replace(record, annotations=None, instances=None) for record in dataset.records
            )
            return
        self.classes = dataset.classes
        self.records = _labelled(dataset, filter_empty)

    def record(self, slot: int) -> DetectionRecord:
        epoch, place = divmod(slot, len(self.records))
        order = np.random.default_rng([self.seed, self.domain, 0, epoch])
        return self.records[order.permutation(len(self.records))[place]]

    def load(self, slot: int) -> Sample:
        generator = np.random.default_rng([self.seed, self.domain, 1, slot])
        return read_sample(
            self.record(slot), self.classes, self.augmentation, generator, masks=self.masks
        )

    def __getitem__(self, slot: int) -> Sample | UserError:
        # Returned, not raised: a worker process would wrap it into a page of traceback.
        try:
            return self.load(slot)
        except UserError as error:
            return error

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class BatchPlan:
    """How an iteration's images are divided.

    Args:
        batch_size: images per domain of one iteration, over all processes.
        rank, world_size: each process takes as many of them, neighbours.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH {self.batch_size} images cannot be divided among "
                f"{self.world_size} processes: make it a multiple of {self.world_size}"
            )

    def slots(self, iteration: int) -> list[int]:
        """This process's slots of one iteration."""
        share = self.batch_size // self.world_size
        first = iteration * self.batch_size + self.rank * share
        return list(range(first, first + share))


class PairedLoader:
    """Yields, for every iteration of [start, stop), this process's (source, target) samples.

    Args:
        target: None on the source only; the pairs then have None there.
        workers: processes per domain.
    """

    def __init__(
        self,
        source: SlotDataset,
        target: SlotDataset | None,
        plan: BatchPlan,
        *,
        start: int,
        stop: int,
        workers: int = 0,
    ) -> None:
        self.iterations = range(start, stop)
        self._loaders = [
            DataLoader(
                dataset,
                batch_sampler=[plan.slots(iteration) for iteration in self.iterations],
                collate_fn=list,
                num_workers=workers,
                # Its own: a resumed run would draw from the network's where another did not.
                generator=torch.Generator(),
            )
            for dataset in (source, target)
            if dataset is not None
        ]

    def __len__(self) -> int:
        return len(self.iterations)

    def __iter__(self) -> Iterator[tuple[list[Sample], list[Sample] | None]]:
        streams = [iter(loader) for loader in self._loaders]
        for _ in self.iterations:
            batches = [_checked(next(stream)) for stream in streams]
            yield batches[0], (batches[1] if len(batches) == 2 else None)


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
    images = _InOrder(dataset.records[rank::world_size], augmentation)
    for batch in DataLoader(images, batch_size=1, collate_fn=list, num_workers=workers):
        yield _checked(batch)[0]


class _InOrder(Dataset):
    def __init__(self, records: Sequence[DetectionRecord], augmentation: Augmentation) -> None:
        self.records = records
        self.augmentation = augmentation

    def __getitem__(self, index: int) -> Sample | UserError:
        generator = np.random.default_rng(0)
        try:
            return read_sample(self.records[index], None, self.augmentation, generator)
        except UserError as error:
            return error

    def __len__(self) -> int:
        return len(self.records)


def _labelled(dataset: DetectionDataset, filter_empty: bool) -> tuple[DetectionRecord, ...]:
    unknown = [record.name for record in dataset.records if record.annotations is None]
    if unknown:
        raise UserError(
            f"source dataset '{dataset.name}' has no annotations for {unknown[0]} "
            f"({len(unknown)} of {len(dataset.records)} images)"
        )
    if not filter_empty:
        return dataset.records
    records = tuple(record for record in dataset.records if trained_on(record))
    if not records:
        raise UserError(
            f"source dataset '{dataset.name}': none of its {len(dataset.records)} images has a box "
            f"of {', '.join(dataset.classes)} to train on"
        )
    return records


def _checked(samples: Sequence[Sample | UserError]) -> list[Sample]:
    for sample in samples:
        if isinstance(sample, UserError):
            raise sample
    return list(samples)
