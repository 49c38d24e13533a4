"""Clipping and what is refused before an optimizer's step."""

import pytest
import torch
from torch import nn

from shared import checkpoint
from shared.errors import UserError
from shared.gradients import ClipOptions, balance_weight, guard, norms, not_finite


def stepped(clip, *gradients):
    """What SGD with a rate of 1 subtracts from two parameters, a frozen one beside them."""
    parameters = [torch.zeros(len(g), requires_grad=True) for g in gradients]
    frozen = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": parameters[:1]}, {"params": [*parameters[1:], frozen]}])
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 1.0
    guard(optimizer, clip)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    optimizer.step()
    assert frozen.grad is None
    return [(-p).tolist() for p in parameters]


def test_without_clipping_gradients_are_what_they_are():
    assert stepped(ClipOptions(), [300.0, -4.0], [1.0]) == [[300.0, -4.0], [1.0]]


@pytest.mark.parametrize(
    ("kind", "norm", "expected"),
    [
        ("value", 2.0, [[2.0, -2.0], [1.0]]),
        ("norm", 2.0, [[1.2, -1.6], [1.0]]),  # a norm of 5 becomes 2; one of 1 stays
        ("norm", 1.0, [[6 / 7, -8 / 7], [1.0]]),
        ("full_model", 2.0, [[6 / 26**0.5, -8 / 26**0.5], [2 / 26**0.5]]),
    ],
)
def test_gradients_are_clipped_by_number_by_parameter_or_together(kind, norm, expected):
    clip = ClipOptions(enabled=True, clip_type=kind, clip_value=2.0, norm_type=norm)
    for ours, theirs in zip(stepped(clip, [3.0, -4.0], [1.0]), expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.detectron2
@pytest.mark.parametrize("kind", ["value", "norm"])
def test_clipping_is_detectron2s(kind):
    pytest.importorskip("detectron2")
    from detectron2.config import get_cfg
    from detectron2.solver.build import maybe_add_gradient_clipping

    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.merge_from_other_cfg(
        type(cfg)({"ENABLED": True, "CLIP_TYPE": kind, "CLIP_VALUE": 0.7})
    )
    parameter = torch.zeros(5, requires_grad=True)
    optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD([parameter], lr=1.0))
    gradient = torch.linspace(-1, 2, 5)
    parameter.grad = gradient.clone()
    optimizer.step()
    [ours] = stepped(ClipOptions.from_config(cfg), gradient.tolist())
    assert ours == (-parameter).tolist()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(bad):
    parameter = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    guard(optimizer, ClipOptions(enabled=True))
    parameter.grad = torch.tensor([0.5, bad])
    with pytest.raises(FloatingPointError, match="gradient is not finite"):
        optimizer.step()
    assert parameter.tolist() == [1.0, 1.0]


def test_ranges():
    with pytest.raises(UserError, match=r"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is 'all', expected one"):
        ClipOptions(clip_type="all")
    with pytest.raises(UserError, match=r"SOLVER.CLIP_GRADIENTS.CLIP_VALUE is 0"):
        ClipOptions(clip_value=0)


def test_the_batch_is_named_and_kept(tmp_path):
    image = torch.arange(6, dtype=torch.uint8)
    error = not_finite(
        "the loss is not finite (seg nan)",
        7,
        names=["a/1", "b/2"],
        batch={"image": image},
        run=str(tmp_path),
        rate="SOLVER.MODEL.LR",
    )
    path = tmp_path / "not_finite_0.pt"
    assert str(error).startswith(
        f"iteration 7: the loss is not finite (seg nan) with a/1, b/2, kept in {path}: lower "
        "SOLVER.MODEL.LR"
    )
    kept = checkpoint.load(path)
    assert kept["iteration"] == 7 and torch.equal(kept["image"], image)


def test_norms_of_losses_at_a_weight():
    weight, other = (nn.Parameter(torch.tensor([[3.0, 4.0]])) for _ in range(2))
    losses = {
        "square": weight.square().sum(),
        "elsewhere": other.sum(),
        "constant": torch.tensor(1.0),
    }
    found = norms(losses, weight)
    assert found == {"square": pytest.approx(10.0), "elsewhere": 0.0, "constant": 0.0}
    assert weight.grad is None
    losses["square"].backward()  # its graph is still there


def test_losses_are_weighed_at_the_last_trained_layer():
    layers = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    assert balance_weight(layers) is layers[2].weight
    layers[2].requires_grad_(False)
    assert balance_weight(layers) is layers[0].weight
    layers.requires_grad_(False)
    assert balance_weight(layers) is None
