"""Both engines train and detect on a device that is not the CPU, with the CPU's numbers."""

import pytest
import torch
from devices import pretended_gpu
from networks import ENGINES, ONE

from det_adapt.engines import build_trainer, engine_config
from det_adapt.pictures import attention_pictures
from shared.config import CONFIGS

KEYS = [
    *("MODEL.WEIGHTS", "", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "SOLVER.MAX_ITER", "1"),
    *(
        "DATASETS.TRAIN",
        "[toy_cityscapes_det_train]",
        "DATASETS.TARGET",
        "[toy_cityscapes_det_val]",
    ),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.STEPS", "[]", "DATALOADER.NUM_WORKERS", "0"),
    *("INPUT.MIN_SIZE_TRAIN", "[64]", "SAP.Z_NORM", "bn", "SAP.EMBED_NORM", "bn"),
    *("TEST.DETECTIONS_PER_IMAGE", "5", "SAP.LEVELS", "[3, 5]"),
]


def trained_and_detected(engine, experiment, device, root, folder):
    """Logs of an iteration, and detections."""
    own = ["DATASETS.ROOT", str(root), "OUTPUT_DIR", str(folder), "MODEL.DEVICE", device]
    cfg = engine_config(engine, CONFIGS / f"{experiment}.yaml", [*KEYS, *own])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("torch.cuda.is_available", lambda: True)
        trainer = build_trainer(engine, cfg)
    logs = []
    trainer.train(logs.append)
    with torch.no_grad():
        [found] = trainer.model.eval().detect([ONE])
        attention_pictures(trainer.model, {"one": ONE})
    assert found.boxes.device.type == "cpu"
    return logs, found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("experiment", ["sapnet_toy_foggy", "sapnet_toy_fpn"])
def test_an_iteration_and_detections(engine, experiment, toy_root, tmp_path):
    run = engine, experiment
    logs, found = trained_and_detected(*run, "cpu", toy_root, tmp_path / "cpu")
    with pretended_gpu():
        logs_there, found_there = trained_and_detected(*run, "cuda", toy_root, tmp_path / "gpu")
    assert logs_there == [pytest.approx(logs[0], rel=1e-5)]
    assert len(found) == 5
    torch.testing.assert_close(found_there.boxes, found.boxes)
    if experiment == "sapnet_toy_foggy":
        assert torch.equal(found_there.masks, found.masks) and found.masks.any()
