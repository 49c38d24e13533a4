"""What the detection command begins with: bad input, dry runs, stages and files that are there."""

import pytest
import torch
from PIL import Image
from processes import run_in_two
from scenes import detections
from toy_runs import TINY, fails, run

from det_adapt.config import defaults
from det_adapt.detection_files import read_detections, write_detections
from det_adapt.engines import engine_config
from det_adapt.torchvision_engine.trainer import Trainer
from shared import checkpoint
from shared.config import CONFIGS, changed
from shared.errors import UserError
from shared.events import read_metrics
from shared.run.folder import write_config


@pytest.fixture
def settings(pair_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [*TINY, "DATASETS.ROOT", str(pair_root)]


def config(pair_root, output, *overrides):
    """Of a run on the toy pair, from scratch."""
    own = ["DATASETS.ROOT", str(pair_root), "OUTPUT_DIR", str(output), "MODEL.WEIGHTS", ""]
    cfg = engine_config("torchvision", CONFIGS / "sapnet_toy.yaml", [*TINY, *own, *overrides])
    return cfg


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
def test_two_processes_equal_one(pair_root, settings, tmp_path, capsys, experiment):
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


def interrupted(pair_root, folder, *overrides):
    """A source stage at iteration 2 of 4."""
    names = ["SAP.ENABLED", "False", "DATASETS.TEST", "[toy_cityscapes_det_val]", *overrides]
    cfg = config(pair_root, folder, *names)
    write_config(folder, cfg, defaults())
    training = Trainer(cfg)
    training.iteration = 2
    training.save()


def test_adaptation_never_starts_from_half_a_source_stage(
    pair_root, settings, tmp_path, capsys, caplog
):
    interrupted(pair_root, tmp_path / "runs/half")
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


def test_an_interrupted_run_is_scored_where_it_stands(pair_root, settings, tmp_path, capsys):
    interrupted(pair_root, tmp_path / "half")
    arguments = ("--eval-only", *settings, "SAP.ENABLED", "False", "MODEL.WEIGHTS", "")
    assert run("sapnet_toy", *arguments, "OUTPUT_DIR", "half") == 0
    [event] = read_metrics(tmp_path / "half")
    assert (event["kind"], event["iteration"]) == ("eval", 2)
    assert "no evaluation" not in (tmp_path / "half/report.html").read_text()


def test_scoring_needs_no_training_data(pair_root, settings, tmp_path, capsys):
    cfg = config(pair_root, tmp_path / "run", "SOLVER.MAX_ITER", "1")
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
