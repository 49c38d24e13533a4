"""The command line, the loop of the torchvision engine, and the folder of a run."""

import contextlib
import io
import json
import logging
import os
import shutil
import signal
from types import SimpleNamespace

import commands
import numpy as np
import pytest
import torch
from PIL import Image
from toy_runs import TINY, fails, run

from det_adapt.run import Run
from shared import checkpoint
from shared.events import read_metrics


@pytest.fixture
def settings(pair_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [*TINY, "DATASETS.ROOT", str(pair_root)]


NAMES = {"config.yaml", "environment.json", "metrics.jsonl", "tensorboard", "predictions"}


@pytest.fixture(scope="module")
def adapted(pair_root, tmp_path_factory):
    """A folder in which the toy pair was trained and adapted, and what the command said."""
    folder = tmp_path_factory.mktemp("adapted")
    settings = [*TINY, "DATASETS.ROOT", str(pair_root)]
    printed, logged = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(logged)
    logging.getLogger().addHandler(handler)
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        logging.getLogger().setLevel(logging.INFO)
        assert run("sapnet_toy", *settings) == 0
    logging.getLogger().removeHandler(handler)
    return SimpleNamespace(folder=folder, printed=printed.getvalue(), log=logged.getvalue())


@pytest.fixture
def beside(adapted, settings, tmp_path, monkeypatch):
    """A copy of that folder, entered: a test may write into it."""
    copy = tmp_path / "beside"
    shutil.copytree(adapted.folder, copy)
    monkeypatch.chdir(copy)
    return copy


def last_score(folder):
    return [event for event in read_metrics(folder) if event["kind"] == "eval"][-1]


def test_a_toy_pair_trains_its_source_stage_and_adapts(adapted):
    assert "first the source-only stage: runs/source_toy" in adapted.log
    assert "missing (new layers): sap.upper.*" in adapted.log
    assert "source_toy: AP50" in adapted.printed and "sapnet_toy: AP50" in adapted.printed
    assert "The first is the stage that the second starts from" in adapted.printed


@pytest.mark.parametrize(
    ("name", "pictures"), [("source_toy", set()), ("sapnet_toy", {"pictures"})]
)
def test_a_run_leaves_predictions_scores_and_a_report(adapted, name, pictures):
    folder = adapted.folder / "runs" / name
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == NAMES | {"checkpoints", "panels", "report.html"} | pictures
    assert len(list((folder / "predictions").glob("*.json"))) == 3
    score = last_score(folder)
    assert score["images"] == 3 and score["iteration"] == 4
    assert set(score["ap50"]) == {"car"} and score["coco"].keys() == {"box"}
    assert score["cityscapes"] is None
    protocols = {"AP50 (paper)", "11-point", "COCO box AP50", "COCO box AP"}
    assert score["protocols"].keys() == protocols and score["protocol"] == "ours"


def test_a_run_says_how_it_was_trained_and_draws_before_and_after(adapted):
    folder = adapted.folder / "runs/sapnet_toy"
    [line] = [e for e in read_metrics(folder) if e["kind"] == "train"]
    losses = {"loss/rpn_cls", "loss/rpn_loc", "loss/cls", "loss/box_reg", "loss/sap"}
    assert line.keys() >= losses | {"accuracy/domain", "lr/model", "peak_memory_mb"}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["engine"] == "torchvision"
    panel = np.asarray(Image.open(next((folder / "panels").glob("*.png"))))
    assert panel.shape[1] > 4 * panel.shape[0] * 1.5  # input, truth, before, after


def test_a_run_that_is_there_is_scored_again_but_not_overwritten(beside, adapted, settings, capsys):
    assert "already holds a run" in fails(capsys, "sapnet_toy", *settings)
    assert run("sapnet_toy", "--eval-only", *settings) == 0
    assert capsys.readouterr().out == adapted.printed
    message = fails(capsys, "sapnet_toy", "--resume", *settings, "SAP.LOSS_WEIGHT", "0.5")
    assert "SAP.LOSS_WEIGHT was 0.1, is 0.5" in message
    message = fails(capsys, "sapnet_toy", "--resume", *settings, "SOLVER.MOMENTUM", "0.5")
    assert "SOLVER.MOMENTUM was 0.9, is 0.5" in message  # a default, which config.yaml leaves out


def test_a_run_grows_where_it_is_resumed_to_more_iterations(beside, settings):
    longer = ("--resume", *settings, "SOLVER.MAX_ITER", "6")
    assert run("sapnet_toy", *longer) == 0
    assert last_score(beside / "runs/sapnet_toy")["iteration"] == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_after_its_iteration_which_is_saved(
    adapted, settings, tmp_path, monkeypatch, capsys, number
):
    def kill_at_3(self):
        if self.iteration == 3:
            os.kill(os.getpid(), number)

    arguments = ("sapnet_toy", *settings, "MODEL.WEIGHTS", str(adapted.folder / "runs/source_toy"))
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(Run, "on_step", kill_at_3)
        run(*arguments)
    assert ended.value.code == 128 + number
    assert "stopped after iteration 3, which is saved; to go on:" in capsys.readouterr().err
    assert run(*arguments, "--resume") == 0
    ours, whole = (folder / "runs/sapnet_toy" for folder in (tmp_path, adapted.folder))
    assert commands.comparable(ours) == commands.comparable(whole)
    ours, whole = (
        checkpoint.load(folder / "checkpoints/last.pt")["model"] for folder in (ours, whole)
    )
    assert all(torch.equal(ours[name], tensor) for name, tensor in whole.items())


def test_the_baseline_that_is_named_was_scored_on_the_same_images(beside, settings, capsys):
    matched = [*settings, "SAP.ENABLED", "False", "--output", "runs/matched"]
    assert run("sapnet_toy", *matched) == 0
    compared = ["sapnet_toy", "--eval-only", *settings, "--baseline"]
    capsys.readouterr()
    assert run(*compared, "runs/matched", "--compare", "runs/source_toy") == 0
    printed = capsys.readouterr().out
    assert "matched: AP50" in printed and "starts from" not in printed
    panel = np.asarray(Image.open(next((beside / "runs/sapnet_toy/panels").glob("*.png"))))
    assert panel.shape[1] > 5 * panel.shape[0] * 1.5  # input, truth, before, compared, after
    assert "no finished run 'runs/none'" in fails(capsys, *compared, "runs/none")
    other = [*matched[:-1], "runs/other", "DATASETS.TEST", "[toy_foggy_cityscapes_val]"]
    assert run("sapnet_toy", *other) == 0
    assert "its DATASETS.TEST is" in fails(capsys, *compared, "runs/other")
    assert "no predictions in 'runs/none'" in fails(
        capsys, "sapnet_toy", *settings, "--compare", "runs/none"
    )


def test_both_measures_of_ap50_stand_side_by_side(beside, settings, capsys):
    given = ["--eval-only", *settings, "MODEL.WEIGHTS", "runs/sapnet_toy"]
    measured = {}
    for protocol, first, second in (
        ("ours", "boxes", "boxes, paper's protocol"),
        ("paper", "boxes, paper's protocol", "boxes"),
    ):
        folder = beside / f"runs/{protocol}"
        keys = ["TEST.PROTOCOL", protocol, "TEST.PAPER_MIN_BOX_SIZE", "12"]
        assert run("sapnet_toy", *given, *keys, "OUTPUT_DIR", f"runs/{protocol}") == 0
        score = measured[protocol] = last_score(folder)
        assert score["map50"] == score["boxes"][protocol]["map50"]
        one, other = score["map50"], score["boxes"][{"ours": "paper", "paper": "ours"}[protocol]]
        line = f"{protocol}: AP50 {one:.2f} ({first}), {other['map50']:.2f} ({second})"
        assert line in capsys.readouterr().out
    ours, paper = measured["ours"], measured["paper"]
    assert ours["boxes"] == paper["boxes"] and ours["map50"] != paper["map50"]
    assert ours["protocols"]["AP50 (paper)"] == paper["map50"]
    assert paper["protocols"]["AP50 (ours)"] == ours["map50"]
    page = (beside / "runs/paper/report.html").read_text()
    assert "AP50 (paper&#39;s protocol)" in page and "protocol AP50 (ours)" in page


def test_a_detector_is_scored_as_it_is_in_a_folder_of_its_own(beside, settings, capsys):
    given = ["--eval-only", *settings, "MODEL.WEIGHTS", "runs/sapnet_toy", "OUTPUT_DIR", "runs/on"]
    assert run("sapnet_toy", *given, "DATASETS.TEST", "[toy_foggy_cityscapes_val]") == 0
    assert "on: AP50" in capsys.readouterr().out
    [score] = read_metrics(beside / "runs/on")
    assert (score["kind"], score["dataset"]) == ("eval", "toy_foggy_cityscapes_val")
    assert (beside / "runs/on/report.html").is_file()
    assert run("sapnet_toy", *given) == 0
    [score] = read_metrics(beside / "runs/on")
    assert score["ap50"] == last_score(beside / "runs/sapnet_toy")["ap50"]
    given[given.index("runs/sapnet_toy")] = "runs/source_toy"
    assert "is no whole detector" in fails(capsys, "sapnet_toy", *given)


def test_several_data_sets_are_scored_in_one_table(beside, settings, capsys):
    names = ["toy_cityscapes_det_val", "toy_foggy_cityscapes_val"]
    given = ["--eval-only", *settings, "MODEL.WEIGHTS", "runs/sapnet_toy", "OUTPUT_DIR", "runs/on"]
    assert run("sapnet_toy", *given, "DATASETS.TEST", f"[{', '.join(names)}]") == 0
    [score] = read_metrics(beside / "runs/on")
    assert score["dataset"] == names[0] and list(score["data_sets"]) == names
    assert score["ap50"] == last_score(beside / "runs/sapnet_toy")["ap50"]
    foggy = score["data_sets"][names[1]]
    assert foggy["images"] == 3 and foggy["protocols"].keys() == score["protocols"].keys()
    files = {path.name for path in (beside / "runs/on/predictions" / names[1]).iterdir()}
    assert len(files) == 3 and all("foggy" in name for name in files)
    head, *rows = capsys.readouterr().out.splitlines()[1:4]
    assert head.split()[:4] == ["data", "set", "images", "AP50"]
    assert [row.split()[:2] for row in rows] == [[name, "3"] for name in names]
    report = (beside / "runs/on/report.html").read_text()
    assert f"<tr><td>{names[1]}</td><td>3</td>" in report
    alone = [*given[:-1], "runs/alone", "DATASETS.TEST", f"[{names[1]}]"]
    assert run("sapnet_toy", *alone) == 0
    assert last_score(beside / "runs/alone")["map50"] == foggy["map50"]
