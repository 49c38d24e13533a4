"""What every method keeps: its contract with the engine."""

import dataclasses
import math

import pytest
import torch
from conftest import backward, random_batches, tiny_segmentor

from seg_adapt.config import defaults
from seg_adapt.engine.stages import Kind
from seg_adapt.engine.trainer import Trainer
from seg_adapt.methods import METHODS
from seg_adapt.options import LayerRates
from shared.config import load_config
from shared.errors import UserError

# Parameters that get no gradient, each with its mathematical reason.
WITHOUT_GRADIENT: dict[str, set[str]] = {}
# A level of one cell has no mask to learn: windows that leave two cells on 9 x 17.
OVERRIDES = {"sapnet": ["SAP.LEVELS", "[3, 9, 15]"]}


def build(name, **segmentor):
    cfg = load_config(
        defaults(), None, ["METHOD", name, "MODEL.WEIGHTS", "tiny", *OVERRIDES.get(name, [])]
    )
    segmentor = tiny_segmentor(**({"bn_affine": True} | segmentor))
    torch.manual_seed(1)
    method = METHODS.get(name).from_config(cfg, segmentor)
    method.prepare()
    return method


def trainer(method, *overrides):
    cfg = load_config(defaults(), None, ["SOLVER.MAX_ITER", "4", *overrides])
    return Trainer(method, cfg, device=torch.device("cpu"))


@pytest.fixture(params=list(METHODS))
def name(request):
    return request.param


@pytest.mark.parametrize("count", [1, 2])
def test_losses_are_finite_scalars(name, count):
    method = build(name)
    for phase in method.steps(*random_batches(count)):
        for loss in phase.losses.values():
            assert loss.dim() == 0 and torch.isfinite(loss)
        assert not any(torch.as_tensor(value).requires_grad for value in phase.records.values())
        backward(method, phase)


def graph_tensors(value):
    """The tensors with a graph in a value or, nested, in a container or a function."""
    if isinstance(value, torch.Tensor):
        return [value] if value.grad_fn is not None else []
    if getattr(value, "__closure__", None):
        value = [cell.cell_contents for cell in value.__closure__]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in graph_tensors(v)] if isinstance(value, list | tuple) else []


def test_no_graph_outlives_its_phase(name):
    steps = build(name).steps(*random_batches())
    former = []
    for _ in steps:
        held = graph_tensors(steps.gi_frame.f_locals)
        assert not {id(t) for t in held} & {id(t) for t in former}
        former = held


def test_every_trainable_parameter_is_in_one_group_and_gets_gradient(name):
    method = build(name)
    groups = method.groups(LayerRates()).values()
    grouped = [p for parts in groups for part in parts for p in part["params"]]
    assert len(grouped) == len({id(p) for p in grouped})
    trainable = {n: p for n, p in method.named_parameters() if p.requires_grad}
    assert {id(p) for p in grouped} == {id(p) for p in trainable.values()}
    # A map of 9 x 17 cells: every region has some, and each ASPP branch at least its center tap.
    for phase in method.steps(*random_batches(2, (65, 129))):
        backward(method, phase)
    missing = {n for n, p in trainable.items() if p.grad is None or not p.grad.any()}
    assert missing == WITHOUT_GRADIENT.get(name, set())


def test_only_the_yielded_group_receives_gradient(name):
    method = build(name)
    owner = {
        id(p): group
        for group, parts in method.groups(LayerRates()).items()
        for part in parts
        for p in part["params"]
    }
    for phase in method.steps(*random_batches()):
        method.zero_grad(set_to_none=True)
        backward(method, phase)
        touched = {owner[id(p)] for p in method.parameters() if p.grad is not None}
        assert touched <= {phase.group}


def test_training_step_is_deterministic(name):
    results = []
    for _ in range(2):
        run = trainer(build(name))
        logs = [run.step([(0, *random_batches(seed=i))]) for i in range(2)]
        results.append((logs, run.method.state_dict()))
    assert results[0][0] == results[1][0]
    for key, value in results[0][1].items():
        assert torch.equal(value, results[1][1][key]), key


def test_resumed_training_equals_the_uninterrupted_one(name):
    def steps(run, iterations):
        for iteration in iterations:
            run.step([(0, *random_batches(seed=iteration))])
            run.iteration += 1

    whole, first, second = (trainer(build(name)) for _ in range(3))
    steps(whole, range(3))
    steps(first, range(2))
    second.load_state_dict(first.state_dict())
    steps(second, range(2, 3))
    for key, value in whole.method.state_dict().items():
        assert torch.equal(value, second.method.state_dict()[key]), key


def test_all_ignored_labels(name):
    source, target = random_batches()
    source = dataclasses.replace(source, labels=torch.full_like(source.labels, 255))
    run = trainer(build(name))
    logs = run.step([(0, source, target)])
    assert logs["loss/seg"] == 0.0
    assert all(torch.isfinite(p).all() for p in run.method.parameters())


def test_one_class_present(name):
    source, target = random_batches()
    source = dataclasses.replace(source, labels=torch.zeros_like(source.labels))
    logs = trainer(build(name)).step([(0, source, target)])
    assert logs["loss/seg"] > 0


SELF_TRAINING = ("SELF_TRAINING.ROUNDS", "1", "SELF_TRAINING.ITERATIONS", "1")


@pytest.mark.parametrize("labels", ["some", "none"])
def test_self_training_adds_the_pseudo_labels_cross_entropy_once(name, labels):
    source, target = random_batches()
    pseudo_labels = source.labels if labels == "some" else torch.full_like(source.labels, 255)
    target = dataclasses.replace(target, pseudo_labels=pseudo_labels)
    method = build(name)
    run = trainer(method, *SELF_TRAINING)
    run.enter(len(run.stages) - 1)
    assert run.stage.kind is Kind.SELF_TRAINING
    phases = list(run.stage.steps(method, source, target))
    (loss,) = [phase.losses["pseudo"] for phase in phases if "pseudo" in phase.losses]
    assert loss.requires_grad
    assert (loss > 0) == (labels == "some")


def test_one_cell_map_trains_or_is_refused_in_one_line(name):
    run = trainer(build(name))
    try:
        logs = run.step([(0, *random_batches(1, (8, 8)))])
    except UserError as error:
        assert "8x8" in str(error) and "larger images" in str(error)
    else:
        assert all(math.isfinite(v) for key, v in logs.items() if key.startswith("loss/"))


def test_state_round_trip_predicts_the_same(name):
    run = trainer(build(name))
    run.step([(0, *random_batches())])
    other = build(name)
    other.load_state_dict(run.method.state_dict())
    images = random_batches()[0].images
    with torch.no_grad():
        assert torch.equal(run.method.eval().predict(images), other.eval().predict(images))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_gives_losses_near_fp32_and_trains(name, precision):
    batch = [(0, *random_batches(1, (33, 33)))]
    expected = trainer(build(name)).step(batch)["loss/seg"]
    amp = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", precision]
    run = trainer(build(name), *amp)
    before = [parameter.detach().clone() for parameter in run.method.parameters()]
    assert run.step(batch)["loss/seg"] == pytest.approx(expected, rel=0.05)
    for _ in range(2 if precision == "fp16" else 0):
        run.step(batch)  # the scale begins high: a step that overflows halves it
    after = list(run.method.parameters())
    assert all(parameter.isfinite().all() for parameter in after)
    assert not all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert (run.state_dict()["scaler"] != {}) == (precision == "fp16")
