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
from processes import run_in_two
from scenes import detections

from det_adapt import train_net
from det_adapt.config import defaults
from det_adapt.detection_files import read_detections, write_detections
from det_adapt.engines import engine_config
from det_adapt.run import Run
from det_adapt.torchvision_engine.trainer import Trainer
from shared import checkpoint
from shared.config import CONFIGS, changed
from shared.errors import UserError
from shared.events import read_metrics
from shared.run.folder import write_config
from shared.toy.layouts import make_toy

TINY = [
    *("INPUT.MIN_SIZE_TRAIN", "[32]", "INPUT.MIN_SIZE_TEST", "32", "DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "[3]", "SOLVER.CHECKPOINT_PERIOD", "2"),
    *("SOLVER.IMS_PER_BATCH", "1", "SOLVER.WARMUP_ITERS", "0", "SAP.LEVELS", "[1, 3, 6]"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "16", "SAP.EMBED_CHANNELS", "8", "SAP.GUIDE_CHANNELS", "8"),
]
NAMES = {"config.yaml", "environment.json", "metrics.jsonl", "tensorboard", "predictions"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six game frames, six + three real and foggy ones, of 64x128. Not to be written."""
    root = tmp_path_factory.mktemp("data")
    layouts = ["sim10k", "cityscapes", "cityscapes_foggy"]
    size = {"height": 64, "width": 128}
    make_toy(root, layouts, count=6, val_count=3, **size, workers=1, progress=False)
    return root


@pytest.fixture
def settings(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [*TINY, "DATASETS.ROOT", str(root)]


def command(name):
    return train_net.main, "--config-file", CONFIGS / f"{name}.yaml", "--engine", "torchvision"


def run(name, *arguments):
    return commands.run(*command(name), *arguments)


def fails(capsys, name, *arguments):
    return commands.fails(capsys, *command(name), *arguments)


def config(root, output, *overrides):
    """Of a run on the toy pair, from scratch."""
    own = ["DATASETS.ROOT", str(root), "OUTPUT_DIR", str(output), "MODEL.WEIGHTS", ""]
    cfg = engine_config("torchvision", CONFIGS / "sapnet_toy.yaml", [*TINY, *own, *overrides])
    return cfg


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapted(root, tmp_path_factory):
    """A folder in which the toy pair was trained and adapted, and what the command said."""
    folder = tmp_path_factory.mktemp("adapted")
    settings = [*TINY, "DATASETS.ROOT", str(root)]
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


def test_masks_are_scored_by_the_official_script(settings, tmp_path, capsys):
    assert run("source_toy_foggy", *settings, "SOLVER.MAX_ITER", "1") == 0
    score = [e for e in read_metrics(tmp_path / "runs/source_toy_foggy") if e["kind"] == "eval"][-1]
    assert len(score["ap50"]) == 8 and score["coco"].keys() == {"box", "mask"}
    assert set(score["cityscapes"]) == {"ap", "ap50", "map", "map50"}
    assert "(masks), Cityscapes' script" in capsys.readouterr().out


def test_a_dry_run_builds_everything_and_trains_nothing(settings, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    assert run("sapnet_toy", "--dry-run", *settings) == 0
    assert "nothing was trained" in capsys.readouterr().out
    assert "would first train its source-only stage, runs/source_toy" in caplog.text
    assert not (tmp_path / "runs").exists()
    (tmp_path / "frames").mkdir()
    arguments = ("--dry-run", *settings, "DATASETS.TARGET", "[frames]", "MODEL.WEIGHTS", "")
    assert "frames" in fails(capsys, "sapnet_toy", *arguments)
    Image.new("RGB", (128, 64)).save(tmp_path / "frames" / "one.png")
    assert run("sapnet_toy", *arguments, "DATASETS.TEST", "[]") == 0
    assert "divided among 3" in fails(capsys, "sapnet_toy", *arguments, "--num-gpus", "3")
    assert "(--baseline)" in fails(capsys, "sapnet_toy", *arguments, "--baseline", "none")


def test_bad_input_is_one_line(settings, tmp_path, capsys):
    message = fails(capsys, "sapnet_sim10k", *settings, "MODEL.DEVICE", "cpu")
    assert "no checkpoint" in message
    assert "street-adapt train --config-file source_sim10k" in message
    message = fails(capsys, "sapnet_toy", *settings, "DATASETS.TARGET", "[]", "MODEL.WEIGHTS", "")
    assert "DATASETS.TARGET is empty" in message
    message = fails(capsys, "source_toy", *settings, "MODEL.ROI_HEADS.NUM_CLASSES", "3")
    assert "NUM_CLASSES is 3" in message and "set it to 1" in message
    message = fails(capsys, "source_toy", *settings, "--eval-only")
    assert "no checkpoint in runs/source_toy" in message
    message = fails(capsys, "source_toy", *settings, "MODEL.FPN.FUSE_TYPE", "avg")
    assert "MODEL.FPN.FUSE_TYPE" in message and "--engine detectron2" in message
    message = fails(capsys, "source_toy", *settings, "SOLVER.BASE_LR", "1e30")
    assert "the loss is not finite" in message and "SOLVER.BASE_LR" in message
    message = fails(capsys, "source_toy", *settings, "--num-gpus", "3", "SOLVER.IMS_PER_BATCH", "4")
    assert "cannot be divided among 3 processes" in message
    (tmp_path / "file").write_text("")
    message = fails(capsys, "source_toy", *settings, "OUTPUT_DIR", str(tmp_path / "file"))
    assert "cannot write to the folder" in message
    message = fails(capsys, "source_toy", *settings, "DATASETS.TEST", "[toy_sim10k, toy_sim10k]")
    assert "expected different names" in message
    message = fails(capsys, "road_gta5", *settings)
    assert "an experiment of segmentation: street-adapt train --config-file" in message
    message = fails(capsys, "source_toy", *settings, "--num-gpu", "2")
    assert "unknown option '--num-gpu': did you mean '--num-gpus'" in message


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["sapnet_toy", "sapnet_toy_fpn", "da_faster_toy"])
def test_two_processes_equal_one(root, settings, tmp_path, capsys, experiment):
    """Every anchor and every proposal counts, so that what is drawn makes no difference."""
    everything = [
        *(*settings, "MODEL.WEIGHTS", "", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "1"),
        *("SOLVER.ACCUMULATE", "2"),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "4000", "MODEL.RPN.POSITIVE_FRACTION", "1.0"),
        *("MODEL.RPN.NMS_THRESH", "1.0", "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False"),
        *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "200", "SOLVER.OPTIMIZER", "SGD"),
        *("SOLVER.BASE_LR", "0.01", "SAP.LR_MULT", "1.0", "DA_FASTER.DROPOUT", "0.0"),
        *("MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.0"),
        # Their statistics are those of both processes' images.
        *("SAP.EMBED_NORM", "bn", "SAP.Z_NORM", "bn"),
    ]
    assert run(experiment, *everything, "OUTPUT_DIR", "one") == 0
    run_in_two(run, experiment, *everything, "OUTPUT_DIR", "two")
    one, two = (
        checkpoint.load(tmp_path / n / "checkpoints/last.pt")["model"] for n in ("one", "two")
    )
    # Compared as steps: a weight is large beside what one iteration changes of it.
    cfg = engine_config("torchvision", tmp_path / "one/config.yaml", [])
    for name, start in Trainer(cfg).model.state_dict().items():
        step = one[name] - start
        tolerance = 0.01 * step.abs().max().item() + 1e-7
        torch.testing.assert_close(two[name] - start, step, rtol=0, atol=tolerance)
    scores = [
        [e for e in read_metrics(tmp_path / name) if e["kind"] == "eval"][-1]["images"]
        for name in ("one", "two")
    ]
    assert scores == [3, 3]


# --- folders that hold something already ---------------------------------------------------------


def interrupted(root, folder, *overrides):
    """A source stage at iteration 2 of 4."""
    names = ["SAP.ENABLED", "False", "DATASETS.TEST", "[toy_cityscapes_det_val]", *overrides]
    cfg = config(root, folder, *names)
    write_config(folder, cfg, defaults())
    training = Trainer(cfg)
    training.iteration = 2
    training.save()


def test_adaptation_never_starts_from_half_a_source_stage(root, settings, tmp_path, capsys, caplog):
    interrupted(root, tmp_path / "runs/half")
    half = ("sapnet_toy", *settings, "MODEL.WEIGHTS", "runs/half")
    assert "was not trained and scored to its end" in fails(capsys, *half)
    checkpoint_file = "runs/half/checkpoints/last.pt"
    assert run(*half[:-1], checkpoint_file, "--dry-run") == 0  # named as a file, it is meant
    # Interrupted in a toy's source stage, --resume goes on with that.
    caplog.set_level("INFO")
    assert run("source_toy", *settings, "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "[]") == 0
    (tmp_path / "runs/source_toy/metrics.jsonl").unlink()
    stage = tmp_path / "runs/source_toy"
    stored = checkpoint.load(stage / "checkpoints/last.pt")
    checkpoint.save(stored | {"iteration": 1}, stage / "checkpoints/last.pt")
    short = ("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "[]")
    assert run("sapnet_toy", "--resume", *settings, *short) == 0
    assert "first the source-only stage" in caplog.text
    assert read_metrics(stage)[-1]["iteration"] == 2


def test_an_interrupted_run_is_scored_where_it_stands(root, settings, tmp_path, capsys):
    interrupted(root, tmp_path / "half")
    arguments = ("--eval-only", *settings, "SAP.ENABLED", "False", "MODEL.WEIGHTS", "")
    assert run("sapnet_toy", *arguments, "OUTPUT_DIR", "half") == 0
    [event] = read_metrics(tmp_path / "half")
    assert (event["kind"], event["iteration"]) == ("eval", 2)
    assert "no evaluation" not in (tmp_path / "half/report.html").read_text()


def test_scoring_needs_no_training_data(root, settings, tmp_path, capsys):
    cfg = config(root, tmp_path / "run", "SOLVER.MAX_ITER", "1")
    write_config(tmp_path / "run", changed(cfg, "DATASETS.CLASSES", ["car"]), defaults())
    Trainer(cfg).save()
    elsewhere = ["DATASETS.TRAIN", "[sim10k]", "DATASETS.TARGET", "[cityscapes_det_train]"]
    given = ["--eval-only", *settings, "MODEL.WEIGHTS", "run/checkpoints/last.pt"]
    assert run("sapnet_toy", *given, *elsewhere, "OUTPUT_DIR", "scored") == 0
    assert (tmp_path / "scored/pictures/attention_test.png").is_file()
    # What was scored in a folder is not taken for the run that is trained there later.
    source = ["SAP.ENABLED", "False", "MODEL.WEIGHTS", "", "OUTPUT_DIR", "scored"]
    assert run("sapnet_toy", *settings, *source) == 0
    assert 0 not in [event["iteration"] for event in read_metrics(tmp_path / "scored")]
    given[-1] = ""
    assert "MODEL.WEIGHTS is empty" in fails(capsys, "sapnet_toy", *given, "OUTPUT_DIR", "random")


# --- predictions ---------------------------------------------------------------------------------


def test_detections_survive_their_file(tmp_path):
    masks = torch.zeros(2, 30, 40, dtype=torch.bool)
    masks[0, 3:9, 5:20] = True
    found = detections((1, 0.9, (5, 3, 20, 9)), (0, 0.25, (0.5, 1.25, 7, 8)), masks=masks)
    for written in (found, detections(), detections((0, 0.5, (1, 2, 3, 4)))):
        write_detections(tmp_path / "a.json", written, ("car", "bus"))
        read = read_detections(tmp_path / "a.json", ("car", "bus"))
        for name in ("boxes", "scores", "classes"):
            assert torch.equal(getattr(read, name), getattr(written, name)), name
        assert (read.masks is None) == (written.masks is None)
    write_detections(tmp_path / "a.json", found, ("car", "bus"))
    assert torch.equal(read_detections(tmp_path / "a.json", ("car", "bus")).masks, masks)
    with pytest.raises(UserError, match="has a 'bus'"):
        read_detections(tmp_path / "a.json", ("car",))
