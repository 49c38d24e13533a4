"""What a trainer of either engine owes the rest."""

import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from networks import (
    ENGINES,
)

from det_adapt.engines import build_trainer, engine_config
from shared import checkpoint
from shared.config import CONFIGS
from shared.errors import MissingFileError, UserError


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


TINY = [
    *("INPUT.MIN_SIZE_TRAIN", "[32, 40]", "DATALOADER.NUM_WORKERS", "0", "SEED", "5"),
    *("SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "[3]", "SOLVER.CHECKPOINT_PERIOD", "2"),
    *("SOLVER.IMS_PER_BATCH", "1", "SOLVER.WARMUP_ITERS", "0", "SAP.LEVELS", "[1, 3, 6]"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "16", "SAP.EMBED_CHANNELS", "8", "SAP.GUIDE_CHANNELS", "8"),
    *("MODEL.WEIGHTS", "", "DATASETS.TRAIN", "[toy_cityscapes_det_train]"),
    *("DATASETS.TARGET", "[toy_cityscapes_det_val]"),
]


def settings(engine, root, output, *overrides, experiment="sapnet_toy"):
    """Of a run on toy images, from scratch."""
    own = ["DATASETS.ROOT", str(root), "OUTPUT_DIR", str(output)]
    return engine_config(engine, CONFIGS / f"{experiment}.yaml", [*TINY, *own, *overrides])


def train(engine, cfg, *, resume=False):
    """The trainer and what it logged."""
    trainer, logs = build_trainer(engine, cfg), []
    if resume:
        trainer.resume()
    else:
        trainer.load_weights()
    trainer.train(logs.append)
    trainer.save()
    return trainer, logs


def equal(ours, theirs):
    ours, theirs = ours.model.state_dict(), theirs.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


ADVERSARIES = {  # the experiments, and what their adversaries log
    "sapnet_toy": {"loss/sap", "accuracy/domain"},
    "sapnet_toy_fpn": {
        *("loss/sap_p3", "loss/sap_p4", "accuracy/domain_p3", "accuracy/domain_p4"),
    },
    "da_faster_toy": {
        *("loss/da_image", "loss/da_instance", "loss/da_consistency"),
        *("accuracy/da_image", "accuracy/da_instance"),
    },
}


OVERRIDES = {
    "sapnet_toy_fpn": ["SOLVER.AMP.ENABLED", "True", "SOLVER.ACCUMULATE", "2"],
}


@pytest.fixture(scope="module", params=ENGINES)
def trained_by(request):
    return request.param


@pytest.fixture(scope="module", params=ADVERSARIES)
def whole(trained_by, toy_root, tmp_path_factory, request):
    """An uninterrupted run: `settings` of its like, its trainer and what it logged."""

    def alike(root, output, *overrides):
        overrides = [*OVERRIDES.get(request.param, []), *overrides]
        return settings(trained_by, root, output, *overrides, experiment=request.param)

    cfg = alike(toy_root, tmp_path_factory.mktemp("whole"))
    return SimpleNamespace(
        engine=trained_by, experiment=request.param, settings=alike, result=train(trained_by, cfg)
    )


def test_training_logs_losses_accuracy_and_rate(whole):
    trainer, logs = whole.result
    assert len(logs) == trainer.iteration == 4
    losses = {f"loss/{name}" for name in ("rpn_cls", "rpn_loc", "cls", "box_reg")}
    expected = losses | ADVERSARIES[whole.experiment] | {"lr/model"}
    assert all(set(entry) == expected for entry in logs)
    assert all(math.isfinite(value) for entry in logs for value in entry.values())
    assert [entry["lr/model"] for entry in logs] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4])


def test_a_resumed_run_equals_the_uninterrupted_one(whole, toy_root, tmp_path):
    engine, (expected, logs) = whole.engine, whole.result
    cfg = whole.settings(toy_root, tmp_path)
    with pytest.raises(MissingFileError):
        build_trainer(engine, cfg).resume()

    class StopError(Exception):
        pass

    def stop(logs):
        if first.iteration == 2:
            first.save({"loss/cls": [0.5]})
        if first.iteration == 3:
            raise StopError

    first = build_trainer(engine, cfg)
    with pytest.raises(StopError):
        first.train(stop)
    # Of the third iteration nothing was saved.
    assert build_trainer(engine, cfg).resume() == {"loss/cls": [0.5]}
    again, logs_again = train(engine, cfg, resume=True)
    assert logs_again == logs[2:]
    assert equal(again, expected)
    assert not equal(build_trainer(engine, cfg), expected)


def test_poisoned_target_labels_give_bit_identical_training(whole, toy_root, tmp_path):
    expected, _ = whole.result
    shutil.copytree(toy_root / "toy", tmp_path / "toy")
    # The target is the validation split, the source the other.
    labels = [p for p in (tmp_path / "toy/cityscapes/gtFine/val").rglob("*") if p.is_file()]
    assert any(path.name.endswith("instanceIds.png") for path in labels)
    for path in labels:
        path.write_text("poison")
    poisoned, _ = train(whole.engine, whole.settings(tmp_path, tmp_path / "run"))
    assert equal(poisoned, expected)


# Every anchor and every proposal counts, so that what is drawn makes no difference.
EVERYTHING = [
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "4000", "MODEL.RPN.POSITIVE_FRACTION", "1.0"),
    *("MODEL.RPN.NMS_THRESH", "1.0", "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "200", "SOLVER.OPTIMIZER", "SGD"),
    *("MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.0", "INPUT.MIN_SIZE_TRAIN", "[32]"),
]


def test_accumulated_forwards_equal_one_large_batch(engine, toy_root, tmp_path):
    steps, logged = [], []
    for name, images, forwards in (("large", "2", "1"), ("small", "1", "2")):
        batches = ["SOLVER.IMS_PER_BATCH", images, "SOLVER.ACCUMULATE", forwards]
        cfg = settings(engine, toy_root, tmp_path / name, *EVERYTHING, *batches)
        before = build_trainer(engine, cfg).model.state_dict()
        trainer, logs = train(engine, cfg)
        after = trainer.model.state_dict()
        steps.append({name: after[name] - before[name] for name in after})
        logged.append(logs)
    large, small = steps
    assert any(step.any() for step in large.values())
    for name, step in large.items():
        torch.testing.assert_close(small[name], step, rtol=1e-3, atol=1e-6, msg=name)
    for one, other in zip(*logged, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_mixed_precision_is_near_fp32(engine, precision, toy_root, tmp_path):
    amp = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", precision]
    one = ["SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "[]", *EVERYTHING]
    losses = []
    for name, keys in (("fp32", []), (precision, amp)):
        cfg = settings(engine, toy_root, tmp_path / name, *one, *keys)
        losses.append(train(engine, cfg)[1][0])
    assert losses[0] == pytest.approx(losses[1], rel=0.05, abs=0.02)
    assert losses[0] != losses[1]


def test_adaptation_starts_from_the_source_stage_and_its_detector(
    whole, toy_root, tmp_path, caplog
):
    engine, (adapted, _) = whole.engine, whole.result
    off = ["SAP.ENABLED", "False", "DA_FASTER.ENABLED", "False"]
    source = whole.settings(toy_root, tmp_path / "1", *off)
    fresh = build_trainer(engine, whole.settings(toy_root, tmp_path / "0")).model.state_dict()
    without = build_trainer(engine, source).model.state_dict()
    # With and without adversary, the detector starts the same.
    assert not any(name.startswith(("sap.", "da_faster.")) for name in without)
    assert all(torch.equal(fresh[name], tensor) for name, tensor in without.items())
    trained = train(engine, source)[0].model.state_dict()
    [path] = [p for p in (tmp_path / "1").rglob("*") if p.name in ("last.pt", "model_final.pth")]
    caplog.set_level("INFO")
    continued = build_trainer(
        engine, whole.settings(toy_root, tmp_path / "2", "MODEL.WEIGHTS", str(path))
    )
    continued.load_weights()
    new = "da_faster." if whole.experiment.startswith("da_faster") else "sap."
    assert f"missing (new layers): {new}" in caplog.text
    state = continued.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in trained.items())
    assert set(state) == set(adapted.model.state_dict())


def test_what_cannot_be_trained_is_named(engine, toy_root, tmp_path):
    for overrides, message in (
        (["SOLVER.AMP.PRECISION", "fp8"], "AMP.PRECISION is 'fp8', expected one of fp16, bf16"),
        (["SOLVER.ACCUMULATE", "0"], "SOLVER.ACCUMULATE is 0, expected at least 1"),
        (["MODEL.DEVICE", "toaster"], "MODEL.DEVICE is 'toaster', expected cuda or cpu"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "SAP.ENABLED", "False"], "SAPRCNN"),
    ):
        with pytest.raises(UserError, match=message):
            build_trainer(engine, settings(engine, toy_root, tmp_path, *overrides))


def test_a_loss_that_is_not_finite_is_named(engine, toy_root, tmp_path):
    cfg = settings(engine, toy_root, tmp_path, "SOLVER.BASE_LR", "1e30", "SOLVER.OPTIMIZER", "SGD")
    with pytest.raises(
        UserError, match=r"^iteration \d: .* with .*: lower SOLVER.BASE_LR"
    ) as error:
        train(engine, cfg)
    kept = checkpoint.load(tmp_path / "not_finite_0.pt")
    assert all(sample["name"] in str(error.value) for sample in kept["samples"])
    assert len(kept["samples"]) == 2 and kept["samples"][0]["boxes"] is not None


def test_clipping_bounds_what_a_step_changes(engine, toy_root, tmp_path):
    largest = []
    for name, clip in (("free", "False"), ("clipped", "True")):
        sgd = ("SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "0.1", "SOLVER.WEIGHT_DECAY", "0.0")
        own = ("SOLVER.CLIP_GRADIENTS.ENABLED", clip, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "1e-3")
        short = ("SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "[]")
        cfg = settings(engine, toy_root, tmp_path / name, *sgd, *own, *short)
        before = {n: p.clone() for n, p in build_trainer(engine, cfg).model.named_parameters()}
        after = train(engine, cfg)[0].model.named_parameters()
        largest.append(max((parameter - before[n]).abs().max().item() for n, parameter in after))
    assert largest[0] > 2e-4 and largest[1] == pytest.approx(1e-4, rel=0.01)


def test_the_last_checkpoints_are_kept(engine, toy_root, tmp_path):
    cfg = settings(engine, toy_root, tmp_path, "SOLVER.CHECKPOINT_KEEP", "3")
    trainer = build_trainer(engine, cfg)
    trainer.load_weights()
    trainer.train(lambda logs: trainer.save())
    files = [path for path in tmp_path.rglob("*.pt*") if path.is_file()]
    iterations = sorted(checkpoint.load(path)["iteration"] for path in files)
    assert iterations in ([2, 3, 4], [1, 2, 3])  # Detectron2 counts from 0
