"""Gradients while a segmentation method trains: weighed, clipped, and never NaN."""

import pytest
import torch
from conftest import tiny_segmentor
from steps import CPU, batches, config, micro_batches

from seg_adapt.engine.trainer import Trainer
from seg_adapt.methods.adaptseg import AdaptSeg
from seg_adapt.methods.road import Road
from seg_adapt.methods.source_only import SourceOnly
from seg_adapt.structures import Phase
from shared import checkpoint
from shared.errors import UserError


class Diverging(SourceOnly):
    def phase(self, source, target):
        return Phase("model", {"seg": super().phase(source, target).losses["seg"] * float("inf")})


def test_a_loss_that_is_not_finite_stops_with_a_remedy():
    run = Trainer(Diverging(tiny_segmentor()), config(), device=CPU)
    with pytest.raises(
        UserError,
        match=r"^iteration 1: the loss is not finite \(seg inf\) with .*: lower",
    ):
        run.step(micro_batches(0))


class Steep(SourceOnly):
    def phase(self, source, target):
        # √0: a loss of 0 whose gradient is infinite, and NaN in what is before it.
        zero = self.segmentor(source.images).mean() * 0
        return Phase("model", {"seg": zero.sqrt()})


def test_a_gradient_that_is_not_finite_names_its_batch_and_keeps_the_weights(tmp_path):
    run = Trainer(
        Steep(tiny_segmentor()),
        config("OUTPUT_DIR", str(tmp_path), "SOLVER.ACCUMULATE", "2"),
        device=CPU,
    )
    before = [parameter.clone() for parameter in run.method.parameters()]
    batch = micro_batches(0, 2)
    with pytest.raises(UserError, match=r"a gradient is not finite with 0, 1, 0, 1, 0, 1, 0, 1"):
        run.step(batch)
    assert all(map(torch.equal, before, run.method.parameters()))
    kept = checkpoint.load(tmp_path / "not_finite_0.pt")
    assert torch.equal(kept["batches"][2]["images"], batch[1][1].images)


def test_clipping_bounds_what_a_step_changes():
    clip = ("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "1e-4")
    plain = ("SOLVER.MODEL.LR", "1.0", "SOLVER.HEAD_LR_MULT", "1", "SOLVER.MODEL.WEIGHT_DECAY", "0")
    largest = []
    for overrides in (plain, plain + clip):
        run = Trainer(SourceOnly(tiny_segmentor()), config(*overrides), device=CPU)
        before = [parameter.clone() for parameter in run.method.parameters()]
        run.step(micro_batches(0))
        moved = zip(before, run.method.parameters(), strict=True)
        largest.append(max((a - b).abs().max().item() for a, b in moved))
    assert largest[0] > 1e-3 and largest[1] == pytest.approx(1e-4, rel=0.01)


def test_the_share_of_every_loss_is_logged_and_changes_nothing():
    def trained(period):
        torch.manual_seed(1)
        method = Road(tiny_segmentor())
        method.prepare()
        trainer = Trainer(method, config("LOG_PERIOD", period), device=CPU)
        logs = []
        trainer.train(batches(2), logs.append)
        return method, logs

    method, logs = trained("2")
    assert not any(name.startswith("gradient/") for name in logs[0])
    assert {n for n in logs[1] if n.startswith("gradient/")} == {
        "gradient/distillation",
        "gradient/spatial",
    }
    assert all(logs[1][f"gradient/{name}"] > 0 for name in ("distillation", "spatial"))
    plain, without = trained("99")
    assert not any(name.startswith("gradient/") for log in without for name in log)
    for ours, theirs in zip(method.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_share_is_the_ratio_of_norms_at_the_end_of_the_backbone():
    torch.manual_seed(1)
    method = AdaptSeg(tiny_segmentor())
    ((_, source, target),) = micro_batches(0)
    method.train()
    weight = method.segmentor.stages["layer4"][-1].conv2.weight
    norms = {}
    for phase in method.steps(source, target):
        if phase.group == "model":
            for name, loss in phase.losses.items():
                (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
                norms[name] = gradient.square().sum().sqrt().item()
        del phase
    trainer = Trainer(method, config("LOG_PERIOD", "1"), device=CPU)
    logs = trainer.step(micro_batches(0))
    assert set(norms) - {"seg"}
    for name in set(norms) - {"seg"}:
        assert logs[f"gradient/{name}"] == pytest.approx(norms[name] / norms["seg"], rel=1e-4)
