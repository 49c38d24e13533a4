"""Endless pairs of source and target batches, in micro-batches, divided among processes."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import DataLoader

from seg_adapt.data.dataset import SlotDataset, collate
from seg_adapt.structures import SourceBatch, TargetBatch
from shared.errors import UserError


@dataclass(frozen=True)
class BatchPlan:
    """How an optimizer step's images are divided.

    Args:
        batch_size: images per domain of one forward (micro-batch).
        accumulate: micro-batches per optimizer step, over all processes.
        rank, world_size: process r takes the micro-batches r, r + world_size, …
    """

    batch_size: int
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.accumulate < 1:
            raise UserError(
                "SOLVER.IMS_PER_BATCH and SOLVER.ACCUMULATE must be at least 1, got "
                f"{self.batch_size} and {self.accumulate}"
            )
        if self.accumulate % self.world_size:
            raise UserError(
                f"SOLVER.ACCUMULATE {self.accumulate} micro-batches cannot be divided among "
                f"{self.world_size} processes: make it a multiple of {self.world_size}"
            )

    def micro_batches(self, iteration: int) -> list[tuple[int, list[int]]]:
        """(index, slots) of this process's micro-batches of one iteration."""
        first = iteration * self.accumulate
        return [
            (index, [(first + index) * self.batch_size + place for place in range(self.batch_size)])
            for index in range(self.rank, self.accumulate, self.world_size)
        ]


class _Slots:
    """Batch sampler over iterations [start, stop)."""

    def __init__(self, plan: BatchPlan, start: int, stop: int) -> None:
        self.plan, self.start, self.stop = plan, start, stop

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in range(self.start, self.stop):
            for _, slots in self.plan.micro_batches(iteration):
                yield slots

    def __len__(self) -> int:
        return (self.stop - self.start) * self.plan.accumulate // self.plan.world_size


class PairedLoader:
    """Yields, for every iteration, this process's micro-batches as (index, source, target).

    Args:
        target: None for methods that never look at the target domain.
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
        self.plan = plan
        self.iterations = range(start, stop)
        self._loaders = [
            DataLoader(
                dataset,
                batch_sampler=_Slots(plan, start, stop),
                collate_fn=collate,
                num_workers=workers,
            )
            for dataset in (source, target)
            if dataset is not None
        ]

    def __iter__(self) -> Iterator[list[tuple[int, SourceBatch, TargetBatch | None]]]:
        streams = [iter(loader) for loader in self._loaders]
        for iteration in self.iterations:
            micro_batches = []
            for index, _ in self.plan.micro_batches(iteration):
                batches = [next(stream) for stream in streams]
                for batch in batches:
                    if isinstance(batch, UserError):
                        raise batch
                micro_batches.append((index, *batches, *([None] * (2 - len(batches)))))
            yield micro_batches
