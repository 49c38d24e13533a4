"""Detectron2's own tools on our configs, checkpoints and data, as docs/detectron2.md has them."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import commands
import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="needs Detectron2")

import detectron2
from networks import ADVERSARY, ONE, VGG16, build, recording

import det_adapt
from det_adapt import train_net
from det_adapt.engines import engine_config
from det_adapt.predict import Predictor
from shared.config import CONFIGS, flatten, plain
from shared.data.images import read_image
from shared.errors import UserError
from shared.events import read_metrics
from shared.toy.layouts import make_toy

pytestmark = pytest.mark.detectron2
SOURCES = Path(detectron2.__file__).parents[1]
PAGE = (Path(__file__).parents[2] / "docs/detectron2.md").read_text()
BLOCKS = {
    section.split("\n", 1)[0]: block
    for section in re.split(r"^## ", PAGE, flags=re.M)
    for block in re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
}
TINY = {
    "INPUT.MIN_SIZE_TRAIN": "[32]",
    "INPUT.MIN_SIZE_TEST": "64",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.MAX_ITER": "4",
    "SOLVER.STEPS": "[3]",
    "SOLVER.IMS_PER_BATCH": "1",
    "SOLVER.CHECKPOINT_PERIOD": "2",
    "SOLVER.CHECKPOINT_KEEP": "20",
    "SAP.LEVELS": "[1, 3, 6]",
    "SAP.EMBED_CHANNELS": "8",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
}
OVERRIDES = [item for pair in TINY.items() for item in pair]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with toy data below datasets/, small experiments below configs/, and both runs that
    the page begins with."""
    folder = tmp_path_factory.mktemp("workplace")
    size = {"height": 64, "width": 128}
    layouts = ["sim10k", "cityscapes"]
    make_toy(folder / "datasets", layouts, count=6, val_count=3, workers=1, progress=False, **size)
    (folder / "configs").mkdir()
    base = {"_BASE_": str(CONFIGS / "sapnet_toy.yaml")}
    lines = [f"{key}: {value}\n" for key, value in (base | TINY).items()]
    (folder / "configs/tiny.yaml").write_text("".join(lines))
    with contextlib.chdir(folder):
        cfg = engine_config("detectron2", "configs/tiny.yaml", [])
        (folder / "configs/sapnet_toy.yaml").write_text(cfg.dump())
        command = ["--engine", "detectron2", "--config-file", CONFIGS / "sapnet_toy.yaml"]
        assert commands.run(train_net.main, *command, *OVERRIDES) == 0
    return folder


@pytest.fixture
def inside(workplace, monkeypatch):
    """That folder, entered."""
    monkeypatch.chdir(workplace)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    return workplace


def run_block(name, **names):
    """What a block of the page leaves, after the first and with some names given."""
    for title in dict.fromkeys(["A config", name]):
        exec(compile(BLOCKS[title], title, "exec"), names)
    return names


def test_no_block_is_long():
    assert len(BLOCKS) == PAGE.count("```python") == 7
    for block in BLOCKS.values():
        assert len([line for line in block.splitlines() if line]) <= 15


def test_images_are_drawn_with_the_names_of_the_run(inside):
    left = run_block("Predict and draw")
    assert left["predictor"].metadata.thing_classes == ["car"]
    assert len(left["instances"]) > 0
    assert cv2.imread("drawing.png").shape == left["image"].shape


def test_detections_are_those_of_ours(inside):
    left = run_block("Predict and draw")
    theirs, path = left["instances"], Path(left["frame"]["file_name"])
    for engine in ("detectron2", "torchvision"):
        ours = Predictor.from_checkpoint(Path("runs/sapnet_toy"), engine=engine)
        found = ours.predict(read_image(path))
        # Pillow's filter and torchvision's round single pixels differently.
        torch.testing.assert_close(found.boxes, theirs.pred_boxes.tensor, rtol=0, atol=0.1)
        torch.testing.assert_close(found.scores, theirs.scores, rtol=0, atol=1e-3)


def test_scores_are_those_of_ours(inside):
    theirs = run_block("Score")["scores"]["bbox"]
    ours = read_metrics(inside / "runs/sapnet_toy")[-1]["protocols"]
    # But for what Pillow's filter rounds differently.
    assert theirs["AP50"] == pytest.approx(ours["COCO box AP50"], abs=0.2)
    assert theirs["AP"] == pytest.approx(ours["COCO box AP"], abs=0.2)


def test_it_adapts_as_the_command_does_and_resumes(inside):
    cfg = run_block("Adapt")["cfg"]
    assert cfg.SAP.ENABLED
    mine = torch.load("runs/mine/model_final.pth", weights_only=True)
    assert (Path("runs/mine") / "metrics.json").is_file()  # Detectron2's log
    command = ["--engine", "detectron2", "--config-file", "configs/sapnet_toy.yaml", *OVERRIDES]
    length = ["SOLVER.MAX_ITER", "20", "SOLVER.STEPS", "[]"]
    assert commands.run(train_net.main, *command, *length, "--output", "runs/command") == 0
    theirs = torch.load("runs/command/model_final.pth", weights_only=True)
    assert same(mine["model"], theirs["model"])
    # The last eight iterations again, from a checkpoint on the way; also one of former runs.
    former = torch.load("runs/mine/model_0000011.pth", weights_only=True)
    hooks = former["trainer"]["hooks"]
    former["trainer"] = former["trainer"]["_trainer"] | {"hooks": hooks}
    torch.save(former, "runs/mine/former.pth")
    for name in ("model_0000011", "former"):
        output = Path("runs") / name
        shutil.copytree("runs/mine", output)
        (output / "last_checkpoint").write_text(f"{name}.pth")
        (output / "model_final.pth").unlink()
        cfg.merge_from_list(["OUTPUT_DIR", str(output)])
        trainer = det_adapt.SapTrainer(cfg)
        trainer.resume_or_load()
        assert trainer.start_iter == 12
        trainer.train()
        again = torch.load(output / "model_final.pth", weights_only=True)
        assert same(mine["model"], again["model"])
        assert Predictor.from_checkpoint(output).classes == ("car",)


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_the_source_alone_is_trained_by_detectron2s_trainer(inside):
    trainer = run_block("Train on the source alone")["trainer"]
    assert trainer.iter == 20 and Path("runs/alone/model_final.pth").is_file()


def test_a_script_evaluates_and_trains(inside, monkeypatch):
    more = ["MODEL.WEIGHTS", "runs/sapnet_toy", "OUTPUT_DIR", "runs/script"]
    arguments = ["--config-file", "runs/sapnet_toy/config.yaml", *more]
    monkeypatch.setattr(sys, "argv", ["script.py", "--eval-only", *arguments])
    run_block("Scripts", __name__="__main__")
    assert Path("runs/script/inference/coco_instances_results.json").is_file()
    assert not Path("runs/script/model_final.pth").exists()
    monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
    run_block("Scripts", __name__="__main__")
    # default_setup wrote every key, some of them without a value.
    cfg = engine_config("detectron2", "runs/script/config.yaml", [])
    assert cfg.DATASETS.TEST == ("toy_cityscapes_det_val",)


@pytest.mark.slow
def test_two_processes_of_the_script_are_those_of_the_command(inside):
    Path("script.py").write_text(BLOCKS["Scripts"])
    both = ["--num-gpus", "2", "--config-file", "configs/sapnet_toy.yaml", *OVERRIDES]
    more = ["SOLVER.IMS_PER_BATCH", "2", "MODEL.WEIGHTS", "", "OUTPUT_DIR"]
    path = os.pathsep.join([str(CONFIGS.parent), str(SOURCES)])
    script = [sys.executable, "script.py", *both, *more, "runs/two"]
    subprocess.run(script, check=True, env=os.environ | {"PYTHONPATH": path})
    command = ["--engine", "detectron2", *both, *more, "runs/two_of_the_command"]
    assert commands.run(train_net.main, *command) == 0
    weights = [
        torch.load(f"runs/{name}/model_final.pth", weights_only=True)["model"]
        for name in ("two", "two_of_the_command")
    ]
    assert same(*weights)


def test_a_lazy_config_builds_model_and_loader(inside, monkeypatch):
    folders = [SOURCES / "detectron2/model_zoo/configs", SOURCES / "configs"]
    found = [folder for folder in folders if (folder / "common/models").is_dir()]
    if not found:
        pytest.skip("this Detectron2 comes without its configs")
    resources = ModuleType("pkg_resources")  # which setuptools has no more
    resources.resource_filename = lambda package, name: str(found[0].parent / name)
    monkeypatch.setitem(sys.modules, "pkg_resources", resources)
    losses = run_block("LazyConfig")["losses"]
    assert {"loss_cls", "loss_rpn_cls", "loss_sap"} <= losses.keys()


def test_the_demo_draws(inside):
    path = SOURCES / "demo/predictor.py"
    if not path.is_file():
        pytest.skip("this Detectron2 comes without its demo")
    spec = importlib.util.spec_from_file_location("demo_predictor", path)
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    cfg = run_block("A config")["cfg"]
    image = np.zeros((64, 128, 3), np.uint8)
    predictions, drawing = demo.VisualizationDemo(cfg).run_on_image(image)
    assert "instances" in predictions and drawing.get_image().shape == image.shape


def test_a_runs_config_is_read_without_a_warning(inside, caplog):
    cfg = run_block("A config")["cfg"]
    assert caplog.records == []
    ours = flatten(engine_config("detectron2", "runs/sapnet_toy/config.yaml", []))
    ours["MODEL.WEIGHTS"] = cfg.MODEL.WEIGHTS
    assert plain(list(flatten(cfg).items())) == plain(list(ours.items()))


def test_a_batch_of_detectron2s_trains_the_source_alone():
    model = build("detectron2", VGG16)
    losses = []
    for batch in (model.inputs([ONE]), (model.inputs([ONE]), None)):
        torch.manual_seed(0)
        with recording("detectron2"):
            losses.append({name: loss.item() for name, loss in model(batch).items()})
    assert losses[0] == losses[1] and "loss_cls" in losses[0]


def test_the_adversary_asks_for_pairs():
    model = build("detectron2", VGG16 | ADVERSARY)
    with pytest.raises(UserError, match=r"pairs .* det_adapt.PairedTrainLoader"):
        model(model.inputs([ONE]))


def test_weights_of_the_torchvision_engine_load_under_its_own_names():
    theirs = build("torchvision", VGG16 | ADVERSARY).state_dict()
    model = build("detectron2", VGG16 | ADVERSARY)
    assert not theirs.keys() <= model.state_dict().keys()
    model.load_state_dict({name: tensor + 1 for name, tensor in theirs.items()}, strict=False)
    name = "proposal_generator.rpn_head.conv.weight"
    assert torch.equal(model.state_dict()[name], theirs["rpn.head.conv.0.0.weight"] + 1)
