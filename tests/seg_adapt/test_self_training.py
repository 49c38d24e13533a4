"""Stages of a whole run: the source alone, the method, rounds with pseudo-labels."""

import shutil

import pytest
import torch
from commandline import TOY, fails, interruption, run
from commands import comparable

from shared import checkpoint
from shared.events import read_metrics

STAGES = ("source", "train", "self_training_1", "self_training_2")


@pytest.fixture
def staged(settings):
    return [
        *settings,
        *("SOURCE_STAGE.ITERATIONS", "1", "SOLVER.MAX_ITER", "2"),
        *("SELF_TRAINING.ROUNDS", "2", "SELF_TRAINING.ITERATIONS", "3"),
    ]


@pytest.mark.parametrize("method", ["adaptseg", "source_only"])
def test_rounds_follow_the_method_and_resume_between_and_inside(
    staged, tmp_path, monkeypatch, method
):
    arguments = ("--method", method, "--config-file", TOY, *staged)
    assert run(*arguments, "--output", tmp_path / "whole") == 0
    events = read_metrics(tmp_path / "whole")
    trained = [e["stage"] for e in events if e["kind"] == "train"]
    assert trained == [
        n for n, count in zip(STAGES, (1, 2, 3, 3), strict=True) for _ in range(count)
    ]
    assert [e["stage"] for e in events if e["kind"] == "eval"] == list(STAGES)
    pseudo = ["loss/pseudo" in e for e in events if e["kind"] == "train"]
    assert pseudo == [False] * 3 + [True] * 6
    for stage in STAGES[2:]:
        folder = tmp_path / "whole" / "pseudo_labels" / stage
        assert (folder / "thresholds.json").is_file()
        assert len(list(folder.rglob("*.png"))) == 6

    parts = tmp_path / "parts"
    # Between the method and the first round, and inside the second.
    for done in (3, 7):
        with interruption(monkeypatch, done):
            assert run(*arguments, "--output", parts, "--resume") == 130
    assert run(*arguments, "--output", parts, "--resume") == 0
    states = [checkpoint.load(tmp_path / n / "checkpoints" / "last.pt") for n in ("whole", "parts")]
    for key, value in states[0]["method"].items():
        assert torch.equal(value, states[1]["method"][key]), key
    assert comparable(tmp_path / "whole") == comparable(parts)


def test_lost_pseudo_labels_are_named(staged, tmp_path, monkeypatch, capsys):
    arguments = ("--method", "adaptseg", "--config-file", TOY, "--output", tmp_path / "run")
    with interruption(monkeypatch, 5):
        assert run(*arguments, *staged) == 130
    shutil.rmtree(tmp_path / "run" / "pseudo_labels")
    message = fails(capsys, *arguments, "--resume", *staged)
    assert "pseudo-labels of this round are gone" in message


def test_the_baseline_of_self_training_trains_as_long_without_the_target(staged, tmp_path):
    folder = tmp_path / "toy" / "adaptseg"
    assert run("--method", "adaptseg", "--output", folder, *staged) == 0
    baseline = read_metrics(folder.with_name("source_only"))
    assert baseline[-1]["iteration"] == read_metrics(folder)[-1]["iteration"] == 9
    assert not (folder.with_name("source_only") / "pseudo_labels").exists()


def test_selection_starts_each_round_from_the_best_snapshot_and_resumes(
    staged, tmp_path, monkeypatch
):
    arguments = ("--method", "source_only", *staged)
    arguments += ("SELECTION.METHOD", "fda", "SELECTION.HELD_OUT", "2", "SELECTION.INTERVAL", "1")
    assert run(*arguments, "--output", tmp_path / "whole") == 0
    events = read_metrics(tmp_path / "whole")
    scores = {e["iteration"]: e["miou"] for e in events if e["kind"] == "selection"}
    assert sorted(scores) == list(range(1, 10))
    selected = checkpoint.load(tmp_path / "whole" / "checkpoints" / "selected.pt")
    assert selected["stage"] == "self_training_2"
    assert 100 * selected["score"] == max(scores[i] for i in (7, 8, 9))
    last = checkpoint.load(tmp_path / "whole" / "checkpoints" / "last.pt")
    for key, value in last["method"].items():
        assert torch.equal(value, selected["method"][key]), key

    # 7: the second round has chosen its first snapshot, the last checkpoint is older.
    for done in (3, 7, 8):
        with interruption(monkeypatch, done):
            assert run(*arguments, "--output", tmp_path / "parts", "--resume") == 130
    assert run(*arguments, "--output", tmp_path / "parts", "--resume") == 0
    assert comparable(tmp_path / "whole") == comparable(tmp_path / "parts")


def test_selection_needs_source_images_to_spare(staged, tmp_path, capsys):
    arguments = ("--method", "source_only", "--output", tmp_path / "run", *staged)
    message = fails(capsys, *arguments, "SELECTION.METHOD", "fda")
    assert "SELECTION.HELD_OUT is 500" in message
