"""Interrupted runs, and what a run that goes on may change."""

import os
import signal

import pytest
import torch
from commandline import TOY, fails, interruption, run
from commands import comparable

from seg_adapt.engine.checkpoint import load_method
from seg_adapt.engine.run import Run
from shared import checkpoint
from shared.errors import UserError
from shared.events import read_metrics
from shared.run.folder import last_checkpoint


def test_interrupted_run_resumes_to_the_same_numbers(settings, tmp_path, monkeypatch):
    arguments = ("--method", "adaptseg", "--config-file", TOY, *settings, "LOG_PERIOD", "3")
    assert run(*arguments, "--output", tmp_path / "whole") == 0

    with interruption(monkeypatch):
        assert run(*arguments, "--output", tmp_path / "parts") == 130
    assert checkpoint.load(tmp_path / "parts" / "checkpoints" / "last.pt")["iteration"] == 2
    assert run(*arguments, "--output", tmp_path / "parts", "--resume") == 0

    whole, parts = (
        checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "parts")
    )
    for key, value in whole["method"].items():
        assert torch.equal(value, parts["method"][key]), key

    assert comparable(tmp_path / "whole") == comparable(tmp_path / "parts")


def test_a_signal_ends_after_its_iteration_and_no_score_is_lost(
    settings, tmp_path, monkeypatch, capsys
):
    """It comes while iteration 3 is trained, which is due to be scored; no checkpoint is due."""
    arguments = ("--method", "adaptseg", "--config-file", TOY, *settings, "TEST.EVAL_PERIOD", "3")
    assert run(*arguments, "--output", tmp_path / "whole") == 0
    on_step = Run.on_step

    def kill_at_3(self):
        on_step(self)
        if self.iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    arguments += ("--output", tmp_path / "parts")
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(Run, "on_step", kill_at_3)
        run(*arguments)
    assert ended.value.code == 128 + signal.SIGTERM
    assert "stopped after iteration 3, which is saved" in capsys.readouterr().err
    assert run(*arguments, "--resume") == 0
    whole, parts = (
        checkpoint.load(last_checkpoint(tmp_path / name))["method"] for name in ("whole", "parts")
    )
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
    assert comparable(tmp_path / "whole") == comparable(tmp_path / "parts")


def test_weights_that_are_not_finite_replace_no_checkpoint_and_are_not_scored(
    settings, tmp_path, monkeypatch, capsys
):
    on_step = Run.on_step

    def spoil_at_4(self):
        if self.iteration == 4:
            next(self.method.parameters()).data.fill_(float("nan"))
        on_step(self)

    monkeypatch.setattr(Run, "on_step", spoil_at_4)
    folder = tmp_path / "run"
    line = fails(capsys, "--method", "source_only", "--output", folder, *settings)
    assert "the weights are not finite after iteration 4" in line
    assert checkpoint.load(last_checkpoint(folder))["iteration"] == 2
    assert not [e for e in read_metrics(folder) if e["kind"] == "eval"]
    # On the way, where no checkpoint is due.
    periods = ("SOLVER.CHECKPOINT_PERIOD", "3", "TEST.EVAL_PERIOD", "4", "SOLVER.MAX_ITER", "5")
    folder = tmp_path / "again"
    line = fails(capsys, "--method", "source_only", "--output", folder, *settings, *periods)
    assert "the weights are not finite after iteration 4" in line and "nor scored" in line
    assert not [e for e in read_metrics(folder) if e["kind"] == "eval"]


def test_an_interrupted_baseline_is_finished_by_the_next_call(settings, tmp_path, monkeypatch):
    folder = tmp_path / "toy" / "road"
    arguments = ("--method", "road", "--output", folder, *settings)
    with interruption(monkeypatch):
        assert run(*arguments) == 130
    assert not folder.exists()
    assert run(*arguments) == 0
    trained = [e for e in read_metrics(folder.with_name("source_only")) if e["kind"] == "train"]
    assert [e["iteration"] for e in trained] == [1, 2, 3, 4]


def test_resume_refuses_other_settings(settings, tmp_path, capsys):
    arguments = ("--method", "source_only", "--output", tmp_path / "run", *settings)
    assert run(*arguments) == 0
    line = fails(capsys, *arguments, "--resume", "SEED", "7", "SOLVER.POWER", "0.5")
    assert "SEED was 0, is 7" in line and "SOLVER.POWER was" in line
    assert run(*arguments, "--resume", "DATALOADER.NUM_WORKERS", "1") == 0


def test_a_resumed_run_may_have_another_rate_and_says_so(settings, tmp_path, caplog):
    arguments = ("--method", "source_only", "--config-file", TOY, *settings)
    arguments += ("SOLVER.SCHEDULE", "constant", "--output", tmp_path / "run")
    assert run(*arguments) == 0
    changed = ("SOLVER.MODEL.LR", "1e-6", "SOLVER.CLIP_GRADIENTS.ENABLED", "True")
    assert run(*arguments, "--resume", *changed, "SOLVER.MAX_ITER", "5") == 0
    assert "goes on with SOLVER.MODEL.LR 1e-06 instead of" in caplog.text
    assert "goes on with SOLVER.CLIP_GRADIENTS.ENABLED True instead of False" in caplog.text
    [change] = [e for e in read_metrics(tmp_path / "run") if e["kind"] == "changed"]
    assert change["iteration"] == 4 and change["SOLVER.CLIP_GRADIENTS.ENABLED"] == [False, True]
    rates = [e["lr/model"] for e in read_metrics(tmp_path / "run") if e["kind"] == "train"]
    assert rates[-1] == pytest.approx(1e-6) and rates[-2] > 1e-5


def test_weights_that_are_not_finite_are_neither_predicted_with_nor_scored(
    settings, tmp_path, capsys
):
    folder = tmp_path / "run"
    assert run("--method", "source_only", "--output", folder, *settings) == 0
    state = checkpoint.load(last_checkpoint(folder))
    next(t for t in state["method"].values() if t.is_floating_point()).fill_(float("nan"))
    checkpoint.save(state, last_checkpoint(folder))
    with pytest.raises(UserError, match="not finite"):
        load_method(folder, torch.device("cpu"))
    arguments = ("--method", "source_only", "--output", folder, "--eval-only", *settings)
    assert "neither saved nor scored" in fails(capsys, *arguments)


def test_a_resumed_run_may_grow_where_the_schedule_allows_it(settings, tmp_path, capsys):
    constant = ("--method", "source_only", *settings, "SOLVER.SCHEDULE", "constant")
    folder, longer = tmp_path / "run", ("SOLVER.MAX_ITER", "6")
    assert run(*constant, "--output", folder) == 0
    assert run(*constant, "--output", folder, "--resume", *longer) == 0
    assert run(*constant, "--output", tmp_path / "whole", *longer) == 0
    grown, whole = (checkpoint.load(last_checkpoint(f)) for f in (folder, tmp_path / "whole"))
    assert grown["iteration"] == 6
    for key, value in whole["method"].items():
        assert torch.equal(value, grown["method"][key]), key

    poly = ("--method", "source_only", "--output", tmp_path / "poly", *settings)
    assert run(*poly) == 0
    line = fails(capsys, *poly, "--resume", *longer)
    assert "SOLVER.MAX_ITER was 4, is 6" in line and "poly schedule's rates depend" in line
