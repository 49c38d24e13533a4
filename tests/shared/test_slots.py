import multiprocessing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from shared.data.records import SegmentationDataset, SegmentationRecord
from shared.domain_losses import Domain
from shared.errors import MissingFileError, UserError
from shared.slots import BatchPlan, PairedLoader, Slots, check_room, share

RECORDS = tuple(SegmentationRecord(name, Path(name), Path(name)) for name in "abcde")
DATA = SegmentationDataset("made up", RECORDS, "gta5", "index", Path())


class Draws(Slots):
    """Each sample is its record's name and a number drawn for it."""

    broken = ""

    def __init__(self, dataset=DATA, domain=Domain.SOURCE, seed=3):
        super().__init__(dataset, domain=domain, seed=seed, labels=["label"])

    def load(self, slot):
        record = self.record(slot)
        if record.name == self.broken:
            raise MissingFileError(f"no file {record.image}")
        return record.name, int(self.generator(slot).integers(10**9))


def pairs(plan, *, start=0, stop=4, workers=0, source=None):
    source = source or Draws()
    target = Draws(domain=Domain.TARGET)
    return list(PairedLoader(source, target, plan, start=start, stop=stop, workers=workers))


def test_an_epoch_is_a_permutation_and_epochs_differ():
    source = Draws()
    epochs = [[source.record(5 * e + place).name for place in range(5)] for e in range(4)]
    assert all(sorted(epoch) == list("abcde") for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_slot_depends_on_seed_and_domain_alone():
    """Equal streams would pair each scene with its twin in the other domain for ever."""
    streams = [Draws(), Draws(), Draws(domain=Domain.TARGET), Draws(seed=4)]
    first, again, target, other = [[d.load(slot) for slot in range(20)] for d in streams]
    assert first == again
    for different in (target, other):
        assert [name for name, _ in first] != [name for name, _ in different]
        assert not {draw for _, draw in first} & {draw for _, draw in different}


def test_a_target_has_no_label_and_a_source_needs_one():
    assert all(r.label is None for r in Draws(domain=Domain.TARGET).dataset.records)
    partly = replace(DATA, records=(*RECORDS[1:], replace(RECORDS[0], label=None)))
    with pytest.raises(UserError, match=r"'made up' has no label for a \(1 of 5 images\)"):
        Draws(partly)
    assert len(Draws(partly, Domain.TARGET)) == 5
    with pytest.raises(UserError, match="'made up' has no images"):
        Draws(replace(DATA, records=()))


def test_micro_batches_hold_every_slot_once():
    slots = [s for i in range(3) for _, batch in BatchPlan(2, 4).micro_batches(i) for s in batch]
    assert slots == list(range(24))


@pytest.mark.parametrize(("accumulate", "images"), [(1, 3), (2, 2)])
def test_processes_divide_what_one_process_sees(accumulate, images):
    whole = pairs(BatchPlan(images, 2 * accumulate))
    parts = [pairs(BatchPlan(images, accumulate, rank, 2)) for rank in (0, 1)]
    for expected, *got in zip(whole, *parts, strict=True):
        assert sorted(chain(*got), key=lambda micro_batch: micro_batch[0]) == expected


def test_a_resumed_loader_continues_the_stream():
    assert pairs(BatchPlan(2, 2), start=2) == pairs(BatchPlan(2, 2))[2:]


def test_workers_change_nothing():
    state = torch.get_rng_state()
    assert pairs(BatchPlan(2, 2), workers=2) == pairs(BatchPlan(2, 2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_raised_as_it_is(workers):
    source = Draws()
    source.broken = "c"
    with pytest.raises(MissingFileError, match=r"^no file c$"):
        pairs(BatchPlan(1), stop=5, workers=workers, source=source)
    assert multiprocessing.active_children() == []


def test_no_target_where_none_is_needed():
    [[(index, source, target)]] = PairedLoader(Draws(), None, BatchPlan(1), start=0, stop=1)
    assert (index, source, target) == (0, [Draws().load(0)], None)


def test_what_cannot_be_divided_is_refused():
    assert share("SOLVER.ACCUMULATE", 6, 2) == 3
    with pytest.raises(UserError, match=r"ACCUMULATE 3 .* 2 processes: make it a multiple of 2"):
        share("SOLVER.ACCUMULATE", 3, 2)
    with pytest.raises(UserError, match=r"SOLVER.IMS_PER_BATCH is 0, expected at least 1"):
        share("SOLVER.IMS_PER_BATCH", 0, 1)


def test_results_that_the_shared_memory_cannot_hold_are_refused_with_the_numbers():
    """Of 3 MB each: two iterations' are held, and each of two workers is two ahead."""
    images = torch.zeros(2 * 2**20, dtype=torch.uint8), torch.zeros(2**20, dtype=torch.uint8)
    batches = [(0, {"source": images[0]}, {"target": images[1]})]
    check_room(batches, 2, 18 * 2**20)
    with pytest.raises(UserError, match=r"has 17 MB free .* 2 .* need 18 MB there: lower"):
        check_room(batches, 2, 17 * 2**20 + 9)
