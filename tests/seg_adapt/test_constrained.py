"""The projection against reference numbers that three general convex solvers agree on, and against
the definition: `tests/data/ccnn_reference.npz`, made with CLARABEL, SLSQP and L-BFGS-B."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seg_adapt.losses.constrained import project, projection_loss, raise_to_feasible

REFERENCE = np.load(Path(__file__).parents[1] / "data" / "ccnn_reference.npz")
CASES = sorted({name.split("/")[0] for name in REFERENCE.files if "/" in name})
LOGITS = torch.tensor(REFERENCE["F"]).T[None]


def case(name):
    """Bounds (3,), presence (1, 3) and β of one reference case; rows a·p ≥ b with a = ±e_c."""
    get = {key: REFERENCE[f"{name}/{key}"] for key in ("A", "b", "beta", "present", "mu")}
    lower, upper, beta = torch.zeros(3).double(), torch.ones(3).double(), 2.0
    multipliers = torch.zeros(2, 3).double()
    for row, bound, price, mu in zip(get["A"], get["b"], get["beta"], get["mu"], strict=True):
        c = int(np.abs(row).argmax())
        if row[c] > 0:
            lower[c], beta = bound, float(price)
        else:
            upper[c] = -bound
        multipliers[int(row[c] < 0), c] = mu
    return lower, upper, torch.tensor(get["present"])[None], beta, multipliers


def test_all_reference_cases_are_there():
    assert len(CASES) == 7


@pytest.mark.parametrize("name", CASES)
def test_projection_equals_the_reference(name):
    lower, upper, present, beta, multipliers = case(name)
    found = project(LOGITS, lower, upper, present, beta=beta, tolerance=1e-9)
    assert found.converged.all() and found.feasible.all() and found.iterations.item() <= 20
    expected = torch.tensor(REFERENCE[f"{name}/P"]).T[None]
    torch.testing.assert_close(found.probabilities, expected, rtol=0, atol=1e-7)
    assert found.kl.item() == pytest.approx(REFERENCE[f"{name}/kl"].item(), abs=1e-7)
    assert abs(found.gap.item()) < 1e-7
    ours = torch.cat([found.lower_multipliers, found.upper_multipliers])
    torch.testing.assert_close(ours, multipliers, rtol=0, atol=1e-5)
    offset = LOGITS + found.offsets[:, :, None]
    offset = offset.masked_fill(~present[:, :, None], -torch.inf)
    torch.testing.assert_close(offset.softmax(dim=1), found.probabilities)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_its_gradient_equal_the_reference(name):
    lower, upper, present, beta, _ = case(name)
    logits = LOGITS.clone().requires_grad_()
    found = project(logits, lower, upper, present, beta=beta, tolerance=1e-9)
    loss = projection_loss(logits, found, torch.ones(3))
    loss.backward()
    assert loss.item() == pytest.approx(REFERENCE[f"{name}/kl"].item(), abs=1e-7)
    expected = torch.tensor(REFERENCE[f"{name}/grad_logits"]).T[None]
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-7)


def test_value_is_the_divergence_and_weights_scale_gradients_only():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    lower, upper = torch.tensor([0.2, 0.1, 0.3]), torch.tensor([0.3, 0.5, 0.9])
    found = project(logits, lower, upper, torch.ones(2, 3).bool())
    weights = torch.tensor([1.0, 0.1, 1.0])
    loss = projection_loss(logits, found, weights)
    loss.backward()
    log_q, p = logits.detach().log_softmax(dim=1), found.probabilities.view(2, 3, 4, 5)
    expected = (p * (p.log() - log_q)).sum() / (2 * 4 * 5)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    plain = (log_q.exp() - p) / (2 * 4 * 5)
    torch.testing.assert_close(logits.grad, plain * weights.view(1, 3, 1, 1).double())


def test_infeasible_bounds_are_detected_and_leave_the_prediction():
    upper = torch.tensor([0.3, 0.3, 0.2])  # Σγ = 0.8
    found = project(LOGITS, torch.zeros(3), upper, torch.ones(1, 3).bool())
    assert not found.feasible.item() and not found.converged.item()
    torch.testing.assert_close(found.probabilities, LOGITS.softmax(dim=1))
    assert found.kl.item() == pytest.approx(0.0, abs=1e-12)
    scaled, raised = raise_to_feasible(upper, torch.ones(1, 3).bool())
    assert raised.item() and scaled.sum().item() == pytest.approx(1.001, abs=1e-6)
    found = project(LOGITS, torch.zeros(3), scaled, torch.ones(1, 3).bool())
    assert found.feasible.item() and found.converged.item()
    assert (found.probabilities.mean(dim=2) <= scaled + 1e-6).all()


def test_only_images_that_need_it_are_raised():
    upper = torch.tensor([0.5, 0.4, 0.3])
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 0]]).bool()
    scaled, raised = raise_to_feasible(upper, present)
    assert raised.tolist() == [False, True, False]
    assert scaled[0].equal(upper) and scaled[2].equal(upper)
    torch.testing.assert_close(scaled[1], upper * 1.001 / 0.9)


@pytest.mark.parametrize("count", [0, 1])
def test_images_with_fewer_than_two_classes_are_left_alone(count):
    present = torch.arange(3)[None] < count
    logits = LOGITS.clone().requires_grad_()
    found = project(logits, torch.full((3,), 0.3), torch.full((3,), 0.4), present)
    loss = projection_loss(logits, found, torch.ones(3))
    loss.backward()
    assert found.iterations.item() == 0 and found.converged.item() and found.feasible.item()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits))


def test_images_of_a_batch_do_not_touch_each_other():
    names = ["B_lower_soft", "D_upper_hard", "F_full", "E_suppressed"]
    cases = [case(name) for name in names]
    lower, upper = (torch.stack([c[i] for c in cases]) for i in (0, 1))
    present = torch.cat([c[2] for c in cases])
    found = project(LOGITS.expand(4, -1, -1), lower, upper, present, tolerance=1e-9)
    expected = [torch.tensor(REFERENCE[f"{name}/P"]).T for name in names]
    torch.testing.assert_close(found.probabilities, torch.stack(expected), rtol=0, atol=1e-7)


def random_problem(seed, pixels=8192, scale=3.0):
    """Four images of 19 classes whose shares are far from the bounds, in float32."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 19, pixels, generator=generator)
    logits = scale * (logits + torch.randn(4, 19, 1, generator=generator))
    shares = torch.rand(19, generator=generator) ** 4
    shares = shares / shares.sum()
    present = torch.rand(4, 19, generator=generator) < 0.7
    return logits, 0.9 * shares, raise_to_feasible(1.3 * shares, present)[0], present


@pytest.mark.parametrize("seed", range(4))
def test_nineteen_classes_at_8192_pixels_within_twenty_steps(seed):
    logits, lower, upper, present = random_problem(seed)
    found = project(logits, lower, upper, present, tolerance=1e-6)
    assert found.converged.all() and found.iterations.max() <= 20
    assert found.probabilities.dtype == torch.float32
    share = found.probabilities.double().mean(dim=2)
    assert (share[~present] == 0).all()
    assert (share <= upper + 2e-6)[present].all() and (found.upper_multipliers > 0).any()
    # A lower bound is missed only at the price β; between the bounds nothing pulls.
    missed = present & (share < lower - 2e-6)
    assert (found.lower_multipliers[missed] == 2.0).all()
    inside = present & (share > lower + 2e-6) & (share < upper - 2e-6)
    assert (found.offsets[inside] == 0).all()


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_saturated_predictions_converge(seed):
    found = project(*random_problem(seed, pixels=512, scale=30.0))
    assert found.converged.all() and found.iterations.max() <= 20


def test_one_pixel_and_an_upper_bound_of_zero():
    logits = torch.tensor([[[2.0], [0.0], [1.0]]])
    upper = torch.tensor([0.0, 1.0, 1.0])
    found = project(logits, torch.zeros(3), upper, torch.ones(1, 3).bool())
    assert found.converged.item() and found.probabilities[0, 0, 0] <= 1e-6
    assert torch.isfinite(found.kl).all()


def test_missing_iterations_are_reported():
    found = project(*random_problem(0), max_iterations=1)
    assert not found.converged.all() and (found.residual[~found.converged] > 1e-6).all()
