"""What is trained in which order, and what self-training adds to a method."""

import dataclasses

import pytest
import torch
from conftest import random_batches, tiny_segmentor

from seg_adapt.config import defaults
from seg_adapt.engine.stages import Kind, plan_stages
from seg_adapt.engine.trainer import Trainer
from seg_adapt.methods.adaptseg import AdaptSeg
from seg_adapt.methods.road import Road
from seg_adapt.methods.source_only import SourceOnly
from shared.config import load_config
from shared.errors import UserError

CPU = torch.device("cpu")
ALL = ("SOURCE_STAGE.ITERATIONS", "3", "SELF_TRAINING.ROUNDS", "2", "SELF_TRAINING.ITERATIONS", "2")


def config(*overrides):
    return load_config(defaults(), None, ["SOLVER.MAX_ITER", "4", *overrides])


def plan(*overrides):
    return plan_stages(config(*overrides), SourceOnly(tiny_segmentor()))


def test_stages_cover_the_run_without_gaps():
    stages = plan(*ALL)
    assert [(s.name, s.start, s.stop) for s in stages] == [
        ("source", 0, 3),
        ("train", 3, 7),
        ("self_training_1", 7, 9),
        ("self_training_2", 9, 11),
    ]
    assert [s.kind for s in stages] == [Kind.SOURCE_STAGE, Kind.METHOD, *[Kind.SELF_TRAINING] * 2]
    assert [s.name for s in plan()] == ["train"]


def test_a_stage_has_its_own_optimizer_and_schedule():
    source, own, again, _ = plan(
        *ALL,
        *("SOURCE_STAGE.LR", "0.5", "SOURCE_STAGE.TYPE", "adam", "SOURCE_STAGE.HORIZON", "9"),
        *("SELF_TRAINING.SCHEDULE", "constant", "SELF_TRAINING.BN", "train"),
        *("SOLVER.MODEL.LR", "0.1", "SOLVER.HORIZON", "50", "SOLVER.WARMUP", "1"),
    )
    rates = [s.solver.MODEL.LR for s in (source, own, again)]
    assert rates == [0.5, 0.1, 0.1]
    assert [s.solver.MODEL.TYPE for s in (source, own, again)] == ["adam", "sgd", "sgd"]
    assert [s.solver.HORIZON for s in (source, own, again)] == [9, 50, 0]
    assert [s.solver.SCHEDULE for s in (source, own, again)] == ["poly", "poly", "constant"]
    assert [s.solver.WARMUP for s in (source, own, again)] == [0, 1, 0]
    assert [s.bn for s in (source, own, again)] == ["frozen", "frozen", "train"]


def test_quantile_grows_from_round_to_round_and_is_checked():
    overrides = [*ALL, "SELF_TRAINING.QUANTILE", "0.5", "SELF_TRAINING.QUANTILE_STEP"]
    assert [s.quantile for s in plan(*overrides, "0.2")[2:]] == [0.5, 0.7]
    with pytest.raises(UserError, match=r"SELF_TRAINING.QUANTILE is 1.1 in round 2"):
        plan(*overrides, "0.6")


def test_the_source_stage_trains_the_segmentor_alone_and_needs_no_target():
    run = Trainer(AdaptSeg(tiny_segmentor()), config(*ALL), device=CPU)
    before = [p.clone() for p in run.method.discriminator.parameters()]
    logs = run.step([(0, random_batches()[0], None)])
    assert {name for name in logs if name.startswith("loss/")} == {"loss/seg"}
    after = run.method.discriminator.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def at_self_training(method, *overrides):
    run = Trainer(method, config(*ALL, *overrides), device=CPU)
    run.enter(2)
    run.iteration = run.stage.start
    return run


@pytest.mark.parametrize("method", [AdaptSeg, Road, SourceOnly])
def test_pseudo_loss_is_the_weighted_cross_entropy_of_the_target_forward(method):
    source, target = random_batches()
    target = dataclasses.replace(target, pseudo_labels=source.labels)
    method = method(tiny_segmentor())
    method.prepare()
    run = at_self_training(method, "SELF_TRAINING.WEIGHT", "0.3")
    with torch.no_grad():
        logits = method.segmentor(target.images)
        expected = 0.3 * method.segmentation_loss(logits, source.labels)
    assert run.step([(0, source, target)])["loss/pseudo"] == pytest.approx(expected.item())


def test_a_stage_has_its_own_rates_of_layers():
    rates = ("SELF_TRAINING.BACKBONE_LR_MULT", "2.0", "SELF_TRAINING.HEAD_LR_MULT", "1.0")
    for overrides, expected in (((), {2.5e-4, 2.5e-3}), (rates, {5e-4, 2.5e-4})):
        run = at_self_training(SourceOnly(tiny_segmentor()), *overrides)
        assert {g["base_lr"] for g in run.optimizers["model"].param_groups} == expected


def test_batch_norm_of_the_rounds_is_their_own():
    method = SourceOnly(tiny_segmentor(bn="train"))
    run = Trainer(method, config(*ALL, "MODEL.BN", "train"), device=CPU)
    norm = method.segmentor.stages["stem"].bn1
    method.train()
    assert norm.training
    run = at_self_training(method, "MODEL.BN", "train", "SELF_TRAINING.BN", "frozen")
    run.method.train()
    assert not norm.training
