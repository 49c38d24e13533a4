import pytest
import torch
from processes import run_in_two
from torch import nn

from shared import distributed


def results_of(rank):
    """What a process with values of its rank gets from every collective."""
    everywhere, here_or_there, nowhere = (torch.zeros(2) for _ in range(3))
    everywhere.grad = torch.full((2,), 1.0 + rank)
    if rank == 0:
        here_or_there.grad = torch.full((2,), 5.0)
    parameters = [everywhere, here_or_there, nowhere]
    distributed.sum_gradients(parameters)
    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(float(rank))
    norm.num_batches_tracked.fill_(rank)
    distributed.mean_buffers(norm)
    distributed.barrier()
    return {
        "place": (distributed.rank(), distributed.world_size(), distributed.is_main()),
        "gradients": [None if p.grad is None else p.grad.tolist() for p in parameters],
        "buffers": (norm.running_mean.item(), norm.num_batches_tracked.item()),
        "scalars": distributed.mean_scalars({"a": 1.0 + rank, "b": 2.0}),
        "sum": distributed.sum_tensor(torch.tensor([1, rank])).tolist(),
    }


def save_results(folder):
    torch.save(results_of(distributed.rank()), folder / f"{distributed.rank()}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The results of each of two processes."""
    folder = tmp_path_factory.mktemp("processes")
    run_in_two(save_results, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_one_process_needs_nothing():
    distributed.init_process_group(torch.device("cpu"))
    assert results_of(0) == {
        "place": (0, 1, True),
        "gradients": [[1.0, 1.0], [5.0, 5.0], None],
        "buffers": (0.0, 0),
        "scalars": {"a": 1.0, "b": 2.0},
        "sum": [1, 0],
    }


def test_each_process_knows_its_place(two):
    assert [results["place"] for results in two] == [(0, 2, True), (1, 2, False)]


def test_gradients_are_summed_and_what_has_none_keeps_none(two):
    for results in two:
        assert results["gradients"] == [[3.0, 3.0], [5.0, 5.0], None]


def test_running_statistics_are_averaged_and_counts_are_not(two):
    assert [results["buffers"] for results in two] == [(0.5, 0), (0.5, 1)]


def test_scalars_are_averaged_and_counts_summed(two):
    for results in two:
        assert results["scalars"] == {"a": 1.5, "b": 2.0}
        assert results["sum"] == [2, 1]
