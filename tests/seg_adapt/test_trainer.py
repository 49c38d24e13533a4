import pytest
import torch
import torch.nn.functional as F
from conftest import random_batches, tiny_segmentor
from processes import run_in_two
from steps import CPU, batches, config, micro_batches

from seg_adapt.engine.optimizers import build_optimizers, rate_factor
from seg_adapt.engine.trainer import Trainer
from seg_adapt.methods.adaptseg import AdaptSeg
from seg_adapt.methods.base import Method, Stage, parameter_group
from seg_adapt.methods.road import Road
from seg_adapt.methods.source_only import SourceOnly
from seg_adapt.structures import Phase, SourceBatch
from shared import distributed


def test_adaptseg_equals_the_hand_toggled_loop_exactly():
    """AdaptSegNet's script: freeze D, two backward passes, unfreeze D, one more, two steps."""
    torch.manual_seed(1)
    method = AdaptSeg(tiny_segmentor())
    run = Trainer(method, config(), device=CPU)

    network = tiny_segmentor()
    torch.manual_seed(1)
    discriminator = AdaptSeg(tiny_segmentor()).discriminator
    head = list(network.stages["head"].parameters())
    head_ids = {id(p) for p in head}
    backbone = [p for p in network.parameters() if p.requires_grad and id(p) not in head_ids]
    optimizer = torch.optim.SGD(
        [{"params": backbone, "lr": 2.5e-4}, {"params": head, "lr": 2.5e-3}],
        momentum=0.9,
        weight_decay=5e-4,
    )
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=1e-4, betas=(0.9, 0.99))

    def interpolate(logits):
        return F.interpolate(logits, (33, 49), mode="bilinear", align_corners=False)

    for iteration in range(3):
        source, target = random_batches(seed=iteration)
        run.step([(0, source, target)])
        run.iteration += 1

        factor = (1 - iteration / 6) ** 0.9
        optimizer.param_groups[0]["lr"] = 2.5e-4 * factor
        optimizer.param_groups[1]["lr"] = 2.5e-3 * factor
        optimizer_d.param_groups[0]["lr"] = 1e-4 * factor
        optimizer.zero_grad()
        optimizer_d.zero_grad()
        for p in discriminator.parameters():
            p.requires_grad = False
        prediction = interpolate(network.train()(source.images))
        F.cross_entropy(prediction, source.labels, ignore_index=255).backward()
        prediction_target = interpolate(network(target.images))
        output = discriminator(F.softmax(prediction_target, dim=1))
        adversarial = F.binary_cross_entropy_with_logits(output, torch.zeros_like(output))
        (0.001 * adversarial).backward()
        for p in discriminator.parameters():
            p.requires_grad = True
        for maps, label in ((prediction, 0.0), (prediction_target, 1.0)):
            output = discriminator(F.softmax(maps.detach(), dim=1))
            loss = F.binary_cross_entropy_with_logits(output, torch.full_like(output, label))
            (loss / 2).backward()
        optimizer.step()
        optimizer_d.step()

    for ours, theirs in zip(method.segmentor.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(
        method.discriminator.parameters(), discriminator.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_accumulated_micro_batches_equal_one_large_batch():
    small, large = (
        Trainer(SourceOnly(tiny_segmentor()), config("SOLVER.ACCUMULATE", n), device=CPU)
        for n in ("2", "1")
    )
    (_, first, target), (_, second, _) = micro_batches(0, 2)
    small.step([(0, first, target), (1, second, target)])
    joined = SourceBatch(
        torch.cat([first.images, second.images]),
        torch.cat([first.labels, second.labels]),
        first.geometry,
        first.names,
    )
    large.step([(0, joined, target)])
    # Equal numbers of labeled pixels, so that the mean of means is the mean.
    for a, b in zip(small.method.parameters(), large.method.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def vgg_road():
    torch.manual_seed(2)
    segmentor = tiny_segmentor(architecture="vgg16", width=0.03)
    method = Road(segmentor)
    method.prepare()
    return method


@pytest.mark.parametrize("amp", ["False", "True"])
def test_resumed_training_equals_the_uninterrupted_run_bit_by_bit(tmp_path, amp):
    """With dropout (ASPP-L), momentum, a schedule and, in fp16, the scale of gradients."""
    cfg = config("SEED", "3", "SOLVER.AMP.ENABLED", amp)
    whole = Trainer(vgg_road(), cfg, device=CPU)
    logs = []
    whole.train(batches(), logs.append)

    first = Trainer(vgg_road(), cfg, device=CPU)
    first.train(batches(3), lambda _: None)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = Trainer(vgg_road(), cfg, device=CPU)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.iteration == 3
    torch.manual_seed(999)
    resumed = []
    second.train(batches(), resumed.append)
    assert resumed == logs[3:]
    for key, value in whole.method.state_dict().items():
        assert torch.equal(value, second.method.state_dict()[key]), key
    if amp == "True":  # a step overflowed, and would again without the scaler's state
        assert first.amp.scaler.get_scale() == second.amp.scaler.get_scale() < 2**16


class TwoStages(Method):
    """First the head alone, then everything."""

    def stages(self, iterations):
        return [Stage("head", 2), Stage("all", iterations)]

    def enter(self, stage):
        self.stage = stage

    def groups(self, rates):
        stages = self.segmentor.stages
        trained = stages["head"] if self.stage == "head" else stages
        return {"model": [parameter_group(trained, lr_mult=rates.head_lr_mult)]}

    def phase(self, source, target):
        loss = self.segmentation_loss(self.segmentor(source.images), source.labels)
        return Phase("model", {"seg": loss})


def test_stages_follow_each_other_with_their_own_optimizers_and_schedule():
    run = Trainer(TwoStages(tiny_segmentor()), config(), device=CPU)
    assert run.total == 8
    stem = run.method.segmentor.stages["stem"]
    before = next(stem.parameters()).clone()
    rates, moved = [], []

    def after_step(logs):
        rates.append(logs["lr/model"])
        moved.append(not torch.equal(before, next(stem.parameters())))

    run.train(batches(), after_step)
    assert moved == [False, False] + [True] * 6
    assert rates[0] == rates[2] == pytest.approx(2.5e-3)
    assert rates[1] == pytest.approx(2.5e-3 * 0.5**0.9)
    assert (run.iteration, run.stage_index) == (8, 1)

    resumed = Trainer(TwoStages(tiny_segmentor()), config(), device=CPU)
    resumed.load_state_dict(run.state_dict())
    assert resumed.method.stage == "all"


class Uneven(SourceOnly):
    def steps(self, source, target):
        yield self.phase(source, target)
        if source.names[0] == "odd":
            yield self.phase(source, target)


def test_micro_batches_must_agree_on_their_phases():
    run = Trainer(Uneven(tiny_segmentor()), config("SOLVER.ACCUMULATE", "2"), device=CPU)
    (_, first, target), (_, second, _) = micro_batches(0, 2)
    odd = SourceBatch(second.images, second.labels, second.geometry, ("odd", "1"))
    with pytest.raises(RuntimeError, match="different groups"):
        run.step([(0, first, target), (1, odd, target)])


class Counting(SourceOnly):
    """What `after_step` is called with, and whether the weights have moved by then."""

    def __init__(self, segmentor):
        super().__init__(segmentor)
        self.calls = []
        self.weight = next(p for p in segmentor.parameters() if p.requires_grad)
        self.before = self.weight.detach().clone()

    def after_step(self, iteration):
        self.calls.append((iteration, not torch.equal(self.weight, self.before)))


def test_the_hook_after_the_step_runs_once_per_iteration_after_the_optimizers():
    run = Trainer(Counting(tiny_segmentor()), config("SOLVER.ACCUMULATE", "2"), device=CPU)
    run.train(batches(2, count=2), lambda _: None)
    assert run.method.calls == [(1, True), (2, True)]


def test_optimizers_refuse_a_parameter_in_two_groups():
    parameter = torch.nn.Parameter(torch.zeros(1))
    part = {"params": [parameter], "lr_mult": 1.0, "weight_decay_mult": 1.0}
    with pytest.raises(ValueError, match="two optimizer groups"):
        build_optimizers({"model": [part], "discriminator": [part]}, config().SOLVER)


def test_learning_rate_schedules():
    assert rate_factor(config("SOLVER.HORIZON", "100").SOLVER, 50, 6) == pytest.approx(0.5**0.9)
    assert rate_factor(config().SOLVER, 3, 6) == pytest.approx(0.5**0.9)
    stepped = config("SOLVER.SCHEDULE", "multi_step", "SOLVER.STEPS", "[2]").SOLVER
    assert rate_factor(stepped, 2, 6) == pytest.approx(0.1)
    warm = config("SOLVER.SCHEDULE", "constant", "SOLVER.WARMUP", "10").SOLVER
    assert rate_factor(warm, 5, 6) == pytest.approx(0.5005)


def batch_norm_source_only():
    return SourceOnly(tiny_segmentor(bn="train", bn_affine=True))


FP16 = ["SOLVER.AMP.ENABLED", "True"]


METHODS = {
    "road": (vgg_road, []),
    "road_fp16": (vgg_road, FP16),
    "batch_norm": (batch_norm_source_only, []),
}


def train_and_save(folder):
    """What each of the processes trains, or one alone: its share of every iteration."""
    rank, world = distributed.rank(), distributed.world_size()
    for name, (method, keys) in METHODS.items():
        run = Trainer(method(), config("SOLVER.ACCUMULATE", "2", "SEED", "3", *keys), device=CPU)
        mine = ([m for m in micro_batches(i, 2) if m[0] % world == rank] for i in range(3))
        run.train(lambda stage, start, mine=mine: mine, lambda _: 0)
        if rank == 0:
            torch.save(run.method.state_dict(), folder / f"{name}_{world}.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of every method's states, trained by one process and by two."""
    folder = tmp_path_factory.mktemp("trained")
    train_and_save(folder)
    run_in_two(train_and_save, folder)
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_equal_one(trained, name):
    one, two = (torch.load(trained / f"{name}_{world}.pt") for world in (1, 2))
    for key, value in one.items():
        # The documented difference: running statistics of BatchNorm in training mode.
        if "running_" not in key and "num_batches" not in key:
            torch.testing.assert_close(value, two[key], rtol=1e-5, atol=1e-6, msg=key)
