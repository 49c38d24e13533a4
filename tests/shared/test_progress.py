import pytest
import torch

from shared.progress import Progress, peak_memory


def add(progress, iteration, last=False, **logs):
    return progress.add(logs, iteration, last=last)


def test_a_line_has_the_means_since_the_one_before():
    progress = Progress(2)
    assert add(progress, 1, loss=1.0) is None
    means = add(progress, 2, loss=4.0, only_now=7.0)
    assert means.pop("seconds_per_iteration") >= 0
    assert means == {"loss": 2.5, "only_now": 7.0}
    assert add(progress, 3, loss=5.0) is None
    assert add(progress, 4, loss=6.0)["loss"] == 5.5


def test_the_end_of_a_stage_is_a_line():
    progress = Progress(100)
    add(progress, 1, loss=1.0)
    assert add(progress, 2, loss=2.0, last=True)["loss"] == 1.5


def test_an_interval_of_0_is_a_line_each_time():
    assert add(Progress(0), 1, loss=3.0)["loss"] == 3.0


def test_time_between_steps_does_not_count(monkeypatch):
    clock = iter([0.0, 100.0, 101.0, 101.0]).__next__
    monkeypatch.setattr("shared.progress.time.perf_counter", clock)
    progress = Progress(1)
    progress.resume_clock()
    assert add(progress, 1)["seconds_per_iteration"] == pytest.approx(1.0)


def test_memory_is_of_a_plausible_size():
    assert 10 < peak_memory(torch.device("cpu")) < 10**6  # MB
