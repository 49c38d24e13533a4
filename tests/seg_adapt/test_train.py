"""The command line, in process and, where the process matters, outside."""

import contextlib
import io
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commandline import TOY, fails, run
from PIL import Image

from seg_adapt import train
from shared import checkpoint
from shared.events import read_metrics
from shared.run.folder import last_checkpoint


@pytest.fixture(scope="module")
def toy_default(settings, tmp_path_factory):
    """The run of ROAD on the toy default, its baseline beside it, and what the command said."""
    folder = tmp_path_factory.mktemp("runs") / "toy" / "road"
    printed, logged = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(logged)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    with contextlib.redirect_stdout(printed):
        assert run("--method", "road", "--output", folder, *settings) == 0
    logging.getLogger().removeHandler(handler)
    return SimpleNamespace(folder=folder, printed=printed.getvalue(), log=logged.getvalue())


def test_the_toy_default_says_what_it_is_and_both_scores(toy_default):
    assert "toy default, game → real" in toy_default.log
    assert "--config-file road_gta5" in toy_default.log
    assert "source_only: mIoU" in toy_default.printed and "road: mIoU" in toy_default.printed


@pytest.mark.parametrize("name", ["source_only", "road"])
def test_a_run_leaves_predictions_official_scores_and_a_report(toy_default, name):
    folder = toy_default.folder.with_name(name)
    assert {path.name for path in folder.iterdir()} >= {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "predictions",
        "panels",
        "report.html",
    }
    score = [e for e in read_metrics(folder) if e["kind"] == "eval"][-1]
    assert score["images"] == 3
    assert score["miou"] == score["official"]["miou"]
    assert score["iou"] == score["official"]["iou"]


def test_a_run_says_how_it_was_trained_and_shows_before_and_after(toy_default):
    folder = toy_default.folder
    trained = [e for e in read_metrics(folder) if e["kind"] == "train"]
    assert [e["iteration"] for e in trained] == [1, 2, 3, 4]
    assert trained[0].keys() >= {"loss/seg", "loss/distillation", "loss/spatial", "lr/model"}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["seed"] == 0 and environment["torch"] == torch.__version__
    panel = np.asarray(Image.open(next((folder / "panels").glob("*.png"))))
    assert panel.shape[1] > 4 * panel.shape[0] * 1.5  # input, truth, before, after
    assert "source_only" in (folder / "report.html").read_text()


def test_a_run_that_is_there_is_scored_again_but_not_overwritten(toy_default, settings, capsys):
    arguments = ("--method", "road", "--output", toy_default.folder, *settings)
    assert "already holds a run" in fails(capsys, *arguments)
    before = score_of(toy_default.folder)
    assert run("--eval-only", *arguments) == 0
    assert score_of(toy_default.folder) == before


def test_a_run_is_scored_on_other_data_beside_its_own_scores(toy_default, settings):
    other = ("--output", toy_default.folder, *settings, "DATASETS.TEST", "toy_gta5", "--eval-only")
    before = score_of(toy_default.folder)
    assert run("--method", "road", *other) == 0
    assert score_of(toy_default.folder) == before
    scored = toy_default.folder / "test_toy_gta5"
    (score,) = [event for event in read_metrics(scored) if event["kind"] == "eval"]
    assert score["dataset"] == "toy_gta5" and score["images"] == 6
    assert len(list((scored / "predictions").rglob("*.png"))) == 6
    assert (scored / "report.html").is_file() and not (scored / "checkpoints").exists()


def test_panels_show_other_runs_and_what_the_method_sees(settings, tmp_path, capsys):
    assert run("--method", "adaptseg", "--output", tmp_path / "adaptseg", *settings) == 0
    message = fails(capsys, "--method", "dast", "--compare", tmp_path / "none", *settings)
    assert "no predictions in" in message and "--compare" in message
    widths = []
    for number, compared in enumerate(([], ["--compare", tmp_path / "adaptseg"])):
        output = tmp_path / f"dast{number}"
        baseline = ("--baseline", tmp_path / "source_only")
        arguments = ("--method", "dast", "--output", output, *baseline, *compared, *settings)
        assert run(*arguments, "SELF_TRAINING.ROUNDS", "0") == 0
        panel = np.asarray(Image.open(next((output / "panels").glob("*.png"))))
        widths.append(panel.shape[1])
    # 512 pixels and a gap each: input, truth, attention, before, DAST; then AdaptSegNet as well.
    assert widths == [5 * 512 + 4 * 6, 6 * 512 + 5 * 6]


def score_of(folder):
    return [e for e in read_metrics(folder) if e["kind"] == "eval"][-1]["miou"]


def test_two_processes_equal_one(settings, tmp_path):
    """BatchNorm in training mode averages its statistics; Adam blows rounding up."""
    arguments = ("--method", "adaptseg", "--config-file", TOY, *settings)
    arguments += ("SOLVER.MODEL.TYPE", "sgd", "SOLVER.DISCRIMINATOR.TYPE", "sgd")
    arguments += ("SOLVER.ACCUMULATE", "2", "SOLVER.IMS_PER_BATCH", "1", "MODEL.BN", "frozen")
    assert run(*arguments, "--output", tmp_path / "one") == 0
    assert run(*arguments, "--output", tmp_path / "two", "--num-gpus", "2") == 0
    one, two = (
        checkpoint.load(last_checkpoint(tmp_path / name))["method"] for name in ("one", "two")
    )
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-3, rtol=1e-3)
    assert score_of(tmp_path / "two") == pytest.approx(score_of(tmp_path / "one"), abs=1.0)


def test_dry_run_builds_everything_and_trains_nothing(settings, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run("--method", "road", "--output", folder, "--dry-run", *settings) == 0
    assert "nothing was trained" in capsys.readouterr().out
    assert not folder.exists()


def test_help_lists_the_methods(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    assert stop.value.code == 0
    assert "adaptseg, " in (shown := capsys.readouterr().out) and ", source_only" in shown


@pytest.fixture
def scored(all_toys, tmp_path, tiny_network):
    """The scores after one iteration on toy data."""

    def train_and_score(source, target, test, space):
        overrides = [
            *("DATASETS.ROOT", str(all_toys), "DATASETS.TRAIN", source, "DATASETS.TARGET", target),
            *("DATASETS.TEST", test, "DATASETS.LABEL_SPACE", space),
            *("SOURCE_STAGE.ITERATIONS", "0", *tiny_network, "MODEL.WEIGHTS", ""),
            *("INPUT.CROP", "[64, 64]", "SOLVER.MAX_ITER", "1", "DATALOADER.NUM_WORKERS", "0"),
        ]
        folder = tmp_path / "run"
        assert run("--method", "source_only", "--output", folder, *overrides) == 0
        return [e for e in read_metrics(folder) if e["kind"] == "eval"][-1]

    return train_and_score


def test_seasons_are_scored_in_their_own_label_space(scored):
    score = scored(
        "toy_synthia_seqs_summer",
        "toy_synthia_seqs_fall",
        "toy_synthia_seqs_fall",
        "synthia_seqs13",
    )
    assert len(score["iou"]) == 13 and "lane marking" in score["iou"]
    assert score["official"] is None


def test_synthia_is_scored_by_its_16_and_13_class_protocols(scored):
    score = scored("toy_synthia", "toy_cityscapes_train", "toy_cityscapes_val", "cityscapes16")
    assert len(score["iou"]) == 16 and "terrain" not in score["iou"]
    assert set(score["protocols"]) == set(score["official"]["protocols"]) == {"16", "13"}
    assert score["protocols"]["16"] == score["miou"]
    assert len(score["official"]["iou"]) == 19


@pytest.mark.parametrize("words", [["--method", "source_only"], ["METHOD", "source_only"]])
def test_source_only_of_any_experiment_has_no_stage_with_the_target(words):
    def configured(*more):
        words_of_dast = ["--config-file", "dast_gta5", *words, *more]
        return train.configure(train.parser().parse(words_of_dast))

    cfg = configured()
    assert (cfg.METHOD, cfg.SELF_TRAINING.ROUNDS, cfg.SELECTION.METHOD) == (
        "source_only",
        0,
        "none",
    )
    assert configured("SELF_TRAINING.ROUNDS", "2").SELF_TRAINING.ROUNDS == 2
