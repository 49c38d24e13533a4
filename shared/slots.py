"""Samples by slot: everything random about a sample follows from (seed, domain, slot) alone.

A slot is a running number over the whole training: slot = iteration · images per iteration + place.
Resuming, another number of workers or of processes thus need no generator state.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np

from shared import distributed
from shared.data.records import (
    DetectionDataset,
    DetectionRecord,
    SegmentationDataset,
    SegmentationRecord,
)
from shared.domain_losses import Domain
from shared.errors import MORE_SHARED_MEMORY, UserError
from shared.processes import PREFETCHED, prefetch, shared_memory_room, tensors_in


class Slots(ABC):
    """A domain's samples without end: slot s is place s mod n of the permutation of epoch s div n.

    Args:
        dataset: what to read; of a target, no record keeps its labels.
        seed: of the run; source and target draw from separate streams of it, so that a scene is
            not paired with its twin in the other domain.
        labels: the fields of a record that hold labels; a source needs the first of them.
    """

    def __init__(
        self,
        dataset: SegmentationDataset | DetectionDataset,
        *,
        domain: Domain,
        seed: int,
        labels: Sequence[str],
    ) -> None:
        if not dataset.records:
            raise UserError(f"dataset '{dataset.name}' has no images")
        if domain is Domain.TARGET:
            none = dict.fromkeys(labels)
            records = tuple(replace(record, **none) for record in dataset.records)
            dataset = replace(dataset, records=records)
        else:
            unlabeled = [r.name for r in dataset.records if getattr(r, labels[0]) is None]
            if unlabeled:
                raise UserError(
                    f"source dataset '{dataset.name}' has no {labels[0]} for {unlabeled[0]} "
                    f"({len(unlabeled)} of {len(dataset.records)} images)"
                )
        self.dataset = dataset
        self.domain = domain
        self.seed = seed

    def __len__(self) -> int:
        """Images of an epoch."""
        return len(self.dataset.records)

    def record(self, slot: int) -> SegmentationRecord | DetectionRecord:
        epoch, place = divmod(slot, len(self))
        order = np.random.default_rng([self.seed, self.domain, 0, epoch])
        return self.dataset.records[order.permutation(len(self))[place]]

    def generator(self, slot: int) -> np.random.Generator:
        """Of the random choices that a sample's transform makes."""
        return np.random.default_rng([self.seed, self.domain, 1, slot])

    @abstractmethod
    def load(self, slot: int) -> Any:
        """The sample of a slot; UserError where its files are not what they should be."""

    def batch(self, slots: Sequence[int]) -> Any:
        """The samples of some slots as training takes them."""
        return [self.load(slot) for slot in slots]


@dataclass(frozen=True)
class BatchPlan:
    """How the images of an iteration are divided.

    Args:
        batch_size: images per domain of one micro-batch.
        accumulate: micro-batches of each process.
        rank, world_size: process r takes the micro-batches r, r + world_size, …
    """

    batch_size: int
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1

    def micro_batches(self, iteration: int) -> Iterator[tuple[int, list[int]]]:
        """(index, slots) of this process's micro-batches of one iteration."""
        count = self.accumulate * self.world_size
        for index in range(self.rank, count, self.world_size):
            first = (iteration * count + index) * self.batch_size
            yield index, list(range(first, first + self.batch_size))


def share(key: str, number: int, world_size: int) -> int:
    """What each process has of a `number` in the config; UserError where it cannot be divided."""
    if number < 1:
        raise UserError(f"{key} is {number}, expected at least 1")
    if number % world_size:
        raise UserError(
            f"{key} {number} cannot be divided among {world_size} processes: make it a multiple of "
            f"{world_size}"
        )
    return number // world_size


def check_room(batches: Sequence[Any], workers: int, room: int) -> None:
    """UserError where results of workers like these would fill the shared memory.

    Args:
        batches: an iteration's, which are held until the next one's are there.
        workers: processes per domain.
        room: bytes that were free before, for this process.
    """
    held = sum(tensor.nbytes for tensor in tensors_in(batches))
    need = 2 * held + PREFETCHED * workers * held // len(batches)
    if need > room:
        raise UserError(
            f"/dev/shm has {room / 2**20:.0f} MB free for a process, {workers} workers per domain "
            f"need {need / 2**20:.0f} MB there: {MORE_SHARED_MEMORY}"
        )


class PairedLoader:
    """Yields, for every iteration of [start, stop), this process's micro-batches.

    Each is (index, source, target), the domains as their `Slots.batch` returns them.

    Args:
        target: None for methods that never look at the target domain; it is then None in the
            micro-batches as well.
        workers: processes per domain.
        timeout: of `shared.processes.prefetch`.
    """

    def __init__(
        self,
        source: Slots,
        target: Slots | None,
        plan: BatchPlan,
        *,
        start: int,
        stop: int,
        workers: int = 0,
        timeout: int = 0,
    ) -> None:
        self.domains = (source, target)
        self.plan = plan
        self.iterations = range(start, stop)
        self.workers = workers
        self.timeout = timeout

    def __iter__(self) -> Iterator[list[tuple[int, Any, Any]]]:
        room = shared_memory_room() if self.workers else None
        processes = distributed.local_world_size()
        streams = [
            repeat(None)
            if slots is None
            else prefetch(slots.batch, self._slots(), self.workers, timeout=self.timeout)
            for slots in self.domains
        ]
        try:
            for iteration in self.iterations:
                batches = [
                    (index, *(next(stream) for stream in streams))
                    for index, _ in self.plan.micro_batches(iteration)
                ]
                if room is not None:
                    check_room(batches, self.workers, room // processes)
                    room = None
                yield batches
        finally:
            # One domain's error ends the workers of the other as well.
            streams.clear()

    def _slots(self) -> Iterator[list[int]]:
        for iteration in self.iterations:
            for _, slots in self.plan.micro_batches(iteration):
                yield slots
