"""The detection commands of docs/own_data.md, on their files, as small as can be."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from det_adapt import train_net
from shared.cli import call
from shared.events import read_metrics
from shared.toy.layouts import make_toy

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "own_data.md").read_text()
COMMANDS = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("python det_adapt")]
TINY = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.VGG.WIDTH", "0.0625"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "8", "SAP.EMBED_CHANNELS", "8", "SAP.LEVELS", "[1,3]"),
    *("INPUT.MIN_SIZE_TRAIN", "[64]", "DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "[]"),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with the page's frames and boxes, and game frames for Sim10k."""
    generator = np.random.default_rng(0)
    for folder in ("my_city/frames", "traffic/images"):
        (tmp_path / folder).mkdir(parents=True)
        pixels = generator.integers(0, 256, (64, 128, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "1.png")
    described = re.search(r"^```yaml\n(# traffic/traffic.yaml\n.*?)^```$", PAGE, re.M | re.S)[1]
    (tmp_path / "traffic/traffic.yaml").write_text(described)
    boxes = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "tram"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": n, "bbox": [8 * n, 8, 30, 20]} for n in (1, 2)
        ],
    }
    (tmp_path / "traffic/instances.json").write_text(json.dumps(boxes))
    size = {"height": 64, "width": 128}
    make_toy(tmp_path, ["sim10k"], count=2, val_count=1, **size, workers=1, progress=False)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(command, *overrides):
    arguments = [*command[2:], "--engine", "torchvision", *TINY, *overrides]
    return call(train_net.main, arguments)


def test_the_page_has_two_commands():
    assert len(COMMANDS) == 2


def test_a_folder_is_adapted_to_without_scores(here, capsys):
    [command] = [c for c in COMMANDS if "[my_city/frames]" in c]
    assert start(command, "DATASETS.TRAIN", "[toy_sim10k]", "DATASETS.ROOT", str(here)) == 0
    assert "runs/sapnet_sim10k/report.html" in capsys.readouterr().out
    kinds = [event["kind"] for event in read_metrics(here / "runs/sapnet_sim10k")]
    assert kinds == ["train"]


def test_boxes_of_a_description_are_trained_on(here):
    [command] = [c for c in COMMANDS if "[traffic/traffic.yaml]" in c]
    assert start(command) == 0
    [event] = read_metrics(here / "runs/from_traffic")
    assert event["loss/box_reg"] > 0
