"""A user's own backbone and data set in one file, from training to prediction."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shared.run.folder import settings_of

REPOSITORY = Path(__file__).parents[2]
OWN = """
from functools import partial

from torch import nn

from det_adapt.torchvision_engine.backbones import BACKBONES, Backbone
from shared.data.catalog import DETECTION, Entry
from shared.data.cityscapes import cityscapes_files


@BACKBONES.register("own_backbone")
def own_backbone(cfg):
    stages = {"only": nn.Conv2d(3, 8, 8, stride=8)}
    return Backbone(
        stages, channels={"only": 8}, strides={"only": 8}, rounds_down=True, freeze_at=0
    )


DETECTION.add("toy_own_city", Entry(None, partial(cityscapes_files, split="val")))
"""
TINY = [
    *(
        "MODEL.BACKBONE.NAME",
        "own_backbone",
        "MODEL.WEIGHTS",
        "",
        "DATASETS.TEST",
        "[toy_own_city]",
    ),
    *("MODEL.RPN.IN_FEATURES", "[only]", "MODEL.ROI_HEADS.IN_FEATURES", "[only]"),
    *("DATASETS.TRAIN", "[toy_cityscapes_det_train]", "DATALOADER.NUM_WORKERS", "1"),
    *("INPUT.MIN_SIZE_TRAIN", "[32]", "SOLVER.STEPS", "[]", "SOLVER.IMS_PER_BATCH", "1"),
]


def python(folder: Path, script: str, *arguments) -> None:
    """A script in a process of its own, which knows nothing of earlier imports."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, REPOSITORY / "det_adapt" / script, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_records_what_it_imported_and_finds_it_again(toy_root, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    own = ["DATASETS.ROOT", toy_root, *TINY, "--engine", "torchvision", "--output", "run"]
    begun = ("--config-file", "source_toy", *own)
    python(tmp_path, "train_net.py", *begun, "SOLVER.MAX_ITER", "1", "--import", "own.py")
    assert settings_of(tmp_path / "run")["IMPORTS"] == [str(tmp_path / "own.py")]
    python(tmp_path, "train_net.py", *begun, "SOLVER.MAX_ITER", "2", "--resume")
    state = torch.load(tmp_path / "run/checkpoints/last.pt", weights_only=True)
    assert state["iteration"] == 2 and "backbone.only.weight" in state["model"]
    image = next((toy_root / "toy/cityscapes/leftImg8bit/val").rglob("*.png"))
    predict = ("--checkpoint", "run", image, "--engine", "torchvision")
    python(tmp_path, "predict.py", *predict, "--output", "out")
    assert len(list((tmp_path / "out").glob("*.json"))) == 1
    (tmp_path / "own.py").rename(tmp_path / "moved.py")
    python(tmp_path, "predict.py", *predict, "--output", "again", "--import", "moved.py")
    assert len(list((tmp_path / "again").glob("*.json"))) == 1
