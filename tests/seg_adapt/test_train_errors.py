"""What the training command refuses, in one line."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commandline import REPOSITORY, TOY, fails, run

from seg_adapt.config import defaults
from shared.data.images import write_png


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "raod"], r"unknown method 'raod': did you mean 'road'\? "),
        (["--confg-file", "x.yaml"], "unknown option '--confg-file': did you mean '--config-file'"),
        (["--method"], "expected one argument"),
        (
            ["--config-file", str(REPOSITORY / "configs/sapnet_sim10k.yaml")],
            "an experiment of detection: street-adapt train --config-file",
        ),
        (["--num-gpus", "2"], "SOLVER.ACCUMULATE 1 cannot be divided among 2 processes"),
        (["--num-machines", "2"], "--dist-url auto with --num-machines 2"),
        (["--config-file", "configs/none.yaml"], "no config file 'configs/none.yaml'"),
        (["SOLVER.MAX_ITERS", "3"], "did you mean 'SOLVER.MAX_ITER'"),
        (["SEED"], "KEY VALUE pairs"),
        (["MODEL.DEVICE", "tpu"], "MODEL.DEVICE is 'tpu', expected one of cpu, cuda"),
        (["DATASETS.TEST", "cityscapes_va"], "did you mean 'cityscapes_val'"),
        (["DATASETS.TEST", "cityscapes_val"], "no folder .*cityscapes/leftImg8bit/val"),
        (["DATASETS.TRAIN", ""], "DATASETS.TRAIN is empty"),
        (["DATASETS.LABEL_SPACE", "city"], "unknown label space 'city'"),
        (["MODEL.WEIGHTS", "gone.pth"], "no weights file 'gone.pth'"),
        (["MODEL.WEIGHTS", "", "METHOD", "road"], "MODEL.WEIGHTS is empty"),
        (["MODEL.ARCHITECTURE", "resnet34"], "unknown architecture 'resnet34'"),
        (["MODEL.FREEZE_STAGES", "['conv9']"], "conv9"),
        (["INPUT.CROP", "[96]"], r"INPUT.CROP is \[96\], expected \[width, height\] or \[\]"),
        (["SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER is 0"),
        (["SOLVER.MODEL.TYPE", "lion"], "SOLVER.MODEL.TYPE is 'lion'"),
        (["LOSS.RESOLUTION", "half"], "LOSS.RESOLUTION is 'half'"),
        (["SOLVER.CHECKPOINT_PERIOD", "0"], "SOLVER.CHECKPOINT_PERIOD is 0, expected at least 1"),
        (["TEST.PICTURES", "-1"], "TEST.PICTURES is -1"),
        (["SEED", "-1"], "SEED is -1"),
        (["SOLVER.SCHEDULE", "cosine"], "SOLVER.SCHEDULE is 'cosine'"),
        (["INPUT.INTERPOLATION", "area"], "INPUT.INTERPOLATION is 'area'"),
        (["SELF_TRAINING.CAP", "0"], "SELF_TRAINING.CAP is 0.0, expected above 0"),
        (["SELF_TRAINING.BN", "group"], "SELF_TRAINING.BN is 'group'"),
        (["INPUT.FLIP", "2"], "INPUT.FLIP is 2.0"),
        (["INPUT.CROP", "[a, b]"], r"expected \[width, height\]"),
        (["SOLVER.STEPS", "[a, b]"], "expected whole numbers"),
        (
            ["SOLVER.AMP.PRECISION", "fp32"],
            "SOLVER.AMP.PRECISION is 'fp32', expected one of fp16, bf16",
        ),
        (["TEST.WINDOW", "[321, 0]"], r"TEST.WINDOW is \[321, 0\], expected \[width, height\]"),
        (["TEST.STRIDE", "1.5"], "TEST.STRIDE is 1.5, expected above 0 and at most 1"),
        (["MODEL.ASPP.RATES", "[]"], r"MODEL.ASPP.RATES is \[\], expected whole numbers >= 1"),
        (["INPUT.SOURCE.SCALES", "[1.0]"], "expected two numbers"),
        (["INPUT.TEST.RESIZE", "[96]"], r"INPUT.TEST.RESIZE is \[96\], expected \[width, height\]"),
        (["SOLVER.IMS_PER_BATCH", "null"], "'SOLVER.IMS_PER_BATCH' .* has no value"),
        (
            ["MODEL.FREEZE_STAGES", "[stem,layer1,layer2,layer3,layer4,head]"],
            "nothing of 'model' is trained",
        ),
        (["--baseline", "nowhere"], "no finished run 'nowhere'"),
        (["--eval-only"], "no checkpoint"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, settings, tmp_path, capsys):
    import re

    flags = [a for a in arguments if a.startswith("--")]
    first = arguments if flags else []
    last = [] if flags else arguments
    method = [] if "--config-file" in flags or "--method" in flags else ["--method", "adaptseg"]
    method += [] if "--config-file" in flags else ["--config-file", TOY]
    output = ["--output", tmp_path / "run"]
    assert re.search(message, fails(capsys, *method, *first, *output, *settings, *last))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_dry_run_finds_what_would_stop_the_training_later(settings, tmp_path, capsys):
    for key, value in (("SOLVER.SCHEDULE", "cosine"), ("INPUT.TEST.RESIZE", "[96]")):
        arguments = ("--method", "source_only", "--output", tmp_path, "--dry-run", *settings)
        assert key in fails(capsys, *arguments, key, value)


def test_output_that_cannot_be_written_is_found_before_training(settings, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = ("--method", "source_only", *settings)
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        assert "--output" in fails(capsys, *arguments, "--output", output)
    road = ("--method", "road", "--output", tmp_path / "source_only", *settings)
    assert "where the baseline goes" in fails(capsys, *road)


def finished_run(folder, iterations, scored_at, dataset="toy_cityscapes_val"):
    """What the command line reads of another run."""
    cfg = defaults()
    cfg.SOLVER.MAX_ITER, cfg.DATASETS.TEST = iterations, dataset
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    event = {"kind": "eval", "iteration": scored_at, "miou": 5.0, "dataset": dataset}
    (folder / "metrics.jsonl").write_text(json.dumps(event) + "\n")
    return folder


def test_a_baseline_must_be_comparable(settings, tmp_path, capsys, caplog):
    other = finished_run(tmp_path / "other", 4, 4, dataset="toy_synthia_seqs_winter")
    road = ("--method", "road", "--output", tmp_path / "a" / "road", *settings)
    line = fails(capsys, "--baseline", other, *road)
    assert "DATASETS.TEST is 'toy_synthia_seqs_winter', here 'toy_cityscapes_val'" in line
    assert not (tmp_path / "a").exists()

    shorter = finished_run(tmp_path / "shorter", 2, 2)
    assert run("--baseline", shorter, *road, "--dry-run") == 0
    assert "total iterations is 2, here 4" in caplog.text


def test_damaged_files_are_named_while_training(settings, toy_root, tmp_path, capsys):
    shutil.copytree(toy_root, tmp_path / "data")
    folder = tmp_path / "data" / "toy" / "gta5"
    for label in (folder / "labels").iterdir():
        write_png(label, np.zeros((5, 9), np.uint8))
    arguments = ("--method", "source_only", "--output", tmp_path / "run", *settings)
    other = ("DATASETS.ROOT", tmp_path / "data")
    line = fails(capsys, *arguments, *other)
    assert "labels/" in line and "is 9x5 but its image" in line
    assert "9x5" in fails(capsys, *arguments, *other, "--dry-run")
    for image in (folder / "images").iterdir():
        image.write_bytes(b"not an image")
    assert "images/" in fails(capsys, *arguments, *other)
    for image in (folder / "images").iterdir():
        image.unlink()
    assert "no images in" in fails(capsys, *arguments, *other)


def subprocess_run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def test_exit_code_of_the_real_process():
    result = subprocess_run("seg_adapt/train.py", "--method", "raod")
    assert result.returncode == 2
    assert "did you mean 'road'" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "script",
    [
        "seg_adapt/train.py",
        "seg_adapt/predict.py",
        "seg_adapt/convert_weights.py",
        "datasets/make_toy.py",
    ],
)
def test_without_installation_one_line_says_what_to_do(script):
    # -S hides site-packages and with them the installed project, -E what PYTHONPATH adds.
    result = subprocess_run("-E", "-S", script, "--help")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "pip install -e ." in result.stderr
