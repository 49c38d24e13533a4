"""Constrained multiple-instance learning: Pathak, Krähenbühl & Darrell, "Constrained Convolutional
Neural Networks for Weakly Supervised Segmentation", ICCV 2015, with a lower and an upper bound on
every class's share of the image, as FCNs in the Wild has them (§3.2).

With q_i = softmax(f_i) at N pixels, the prediction is projected on what the bounds allow:

    min over P, ξ ≥ 0 of  (1/N) Σ_i KL(p_i ‖ q_i) + β Σ_c ξ_c
    where  lower_c − ξ_c ≤ mean_i p_ic ≤ upper_c,  and p_ic = 0 for absent classes c.

The dual maximizes D(μ) = μ_low·lower − μ_up·upper − (1/N) Σ_i log Σ_c q_ic exp(ν_c) over
0 ≤ μ_low ≤ β and μ_up ≥ 0, and P is one logit offset per class: p_ic ∝ q_ic exp(ν_c) with
ν = μ_low − μ_up.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Bounds |ν| from above: a class whose upper bound is 0 would need an infinite offset.
LARGEST_OFFSET = 50.0
_RIDGE = 1e-9
_DAMPING = 1e-2  # of the residual, added to the Hessian: saturated predictions have none
_NEAR = 1e-2  # of a bound, at most
_ARMIJO = 1e-4
_HALVINGS = 30


class Projection(NamedTuple):
    """What `project` found; B images, C classes, N pixels."""

    probabilities: Tensor  # (B, C, N) P
    offsets: Tensor  # (B, C) ν; P = softmax(logits + ν) over the present classes
    lower_multipliers: Tensor  # (B, C) μ_low, at most β
    upper_multipliers: Tensor  # (B, C) μ_up
    kl: Tensor  # (B,) mean KL(p_i ‖ q_i), in nats
    gap: Tensor  # (B,) primal minus dual value
    residual: Tensor  # (B,) ‖μ − Π(μ + ∇D)‖∞, a share of the image
    iterations: Tensor  # (B,) int64
    converged: Tensor  # (B,) bool
    feasible: Tensor  # (B,) bool: the present classes' upper bounds reach 1


class _Problem(NamedTuple):
    """The dual of a batch of images, in float64."""

    q: Tensor  # (B, C, N) softmax over the present classes
    lower: Tensor  # (B, C), at most `upper`; 0 where absent
    upper: Tensor  # (B, C); 1 where absent
    beta: float

    def log_partition(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Z (B, N) = Σ_c q_ic exp(ν_c), and the mean of its logarithm (B,)."""
        partition = torch.bmm(offsets.exp()[:, None], self.q).squeeze(1)
        return partition, partition.log().mean(dim=1)

    def value(self, offsets: Tensor, mean_log: Tensor) -> Tensor:
        """D (B,) at ν = μ_low − μ_up where at most one of the two is not 0."""
        raised, lowered = offsets.clamp(min=0), (-offsets).clamp(min=0)
        return (raised * self.lower - lowered * self.upper).sum(dim=1) - mean_log

    def probabilities(self, offsets: Tensor, partition: Tensor) -> Tensor:
        return self.q * offsets.exp()[:, :, None] / partition[:, None]

    def residual(self, offsets: Tensor, shares: Tensor) -> Tensor:
        """How far one projected gradient step of length 1 moves each image's μ: (B,)."""
        raised, lowered = offsets.clamp(min=0), (-offsets).clamp(min=0)
        up = (raised + self.lower - shares).clamp(0, self.beta) - raised
        down = (lowered + shares - self.upper).clamp(0, LARGEST_OFFSET) - lowered
        return torch.maximum(up.abs(), down.abs()).amax(dim=1)


def raise_to_feasible(
    upper: Tensor, present: Tensor, margin: float = 1e-3
) -> tuple[Tensor, Tensor]:
    """Upper bounds that a prediction can meet: scaled where the present ones do not reach 1.

    Args:
        upper: (C,) or (B, C).
        present: (B, C) bool.
        margin: a scaled image's bounds sum to 1 + margin.

    Returns:
        the bounds (B, C), and which images (B,) were scaled; one without a present class is not.
    """
    upper = upper.expand(present.shape)
    total = (upper * present).sum(dim=1)
    short = (total < 1 + margin) & (total > 0)
    scale = torch.where(short, (1 + margin) / total.clamp(min=1e-12), 1.0)
    return upper * scale[:, None], short


@torch.no_grad()
def project(
    logits: Tensor,
    lower: Tensor,
    upper: Tensor,
    present: Tensor,
    *,
    beta: float = 2.0,
    tolerance: float = 1e-6,
    max_iterations: int = 50,
) -> Projection:
    """Projects each image's softmax on its bounds, by projected Newton steps on the dual.

    A multiplier of a class is at most on one side of 0 (where lower ≤ upper), so the unknowns are
    the C offsets ν: concave, and smooth on either side of 0. A step solves with the damped Hessian
    diag(mean p) − mean(p pᵀ), leaving out of the coupling what is about to stop at 0, β or the
    largest offset, and is halved until D rises. Everything is in float64: a tolerance of 1e-6 on
    shares is beyond float32 sums over an image.

    Images with fewer than two present classes, and infeasible ones (the present classes' upper
    bounds sum to less than 1; the dual is unbounded), are left as they are: P = Q. The latter have
    neither `feasible` nor `converged`; `raise_to_feasible` avoids them.

    Args:
        logits: (B, C, N) or (B, C, H, W).
        lower, upper: (C,) or (B, C) shares of the image; 0 and 1 do not bind.
        present: (B, C) bool.
        beta: price of a unit of slack below a lower bound: the largest offset a class can gain.
        tolerance: on `Projection.residual`.

    Example: a class with half of the image, held to a quarter of it.
        >>> lower, upper, present = torch.zeros(2), torch.tensor([0.25, 1.0]), torch.ones(1, 2) > 0
        >>> project(torch.zeros(1, 2, 10), lower, upper, present).probabilities.mean(dim=2)
        tensor([[0.2500, 0.7500]])
    """
    logits = logits.flatten(2)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logits = logits.double()
    lower, upper = (bound.double().expand(present.shape) for bound in (lower, upper))
    several = present.sum(dim=1) >= 2
    reach = torch.where(present, upper, 0.0).sum(dim=1)
    feasible = ~several | (reach >= 1 - 1e-9)
    solved = (several & feasible)[:, None]
    present = present | ~solved
    lower = torch.where(present & solved, lower, 0.0)
    upper = torch.where(present & solved, upper, 1.0)

    among_present = logits.masked_fill(~present[:, :, None], -torch.inf)
    # With lower > upper both multipliers grow until μ_low = β, and P is that of lower = upper.
    problem = _Problem(among_present.softmax(dim=1), lower.minimum(upper), upper, beta)
    offsets, shares, mean_log, residual, iterations = _maximize(problem, tolerance, max_iterations)
    partition, _ = problem.log_partition(offsets)
    probabilities = problem.probabilities(offsets, partition)

    raised = torch.where(lower > upper, beta, offsets.clamp(min=0))
    lowered = raised - offsets
    # The mass that q, over all classes, leaves to the present ones: the price of the absent.
    absent_price = (logits.logsumexp(dim=1) - among_present.logsumexp(dim=1)).mean(dim=1)
    kl = (offsets * shares).sum(dim=1) - mean_log + absent_price
    dual = (raised * lower - lowered * upper).sum(dim=1) - mean_log + absent_price
    primal = kl + beta * (lower - shares).clamp(min=0).sum(dim=1)
    return Projection(
        probabilities.to(dtype),
        offsets.to(dtype),
        raised.to(dtype),
        lowered.to(dtype),
        kl.to(dtype),
        primal - dual,
        residual,
        iterations,
        feasible & (residual <= tolerance),
        feasible,
    )


def _maximize(
    problem: _Problem, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """ν, mean P, mean log Z, residual and iterations per image."""
    offsets = torch.zeros_like(problem.lower)
    iterations = torch.zeros(len(offsets), dtype=torch.int64, device=offsets.device)
    partition, mean_log = problem.log_partition(offsets)
    while True:
        probabilities = problem.probabilities(offsets, partition)
        shares = probabilities.mean(dim=2)
        residual = problem.residual(offsets, shares)
        unfinished = residual > tolerance
        if not unfinished.any() or iterations.max() >= max_iterations:
            return offsets, shares, mean_log, residual, iterations
        step = _newton_step(problem, offsets, shares, probabilities, residual)
        step.direction.masked_fill_(~unfinished[:, None], 0.0)
        offsets, partition, mean_log = _line_search(problem, offsets, partition, mean_log, step)
        iterations += unfinished


class _Step(NamedTuple):
    gradient: Tensor  # (B, C) of D on that side of 0
    direction: Tensor  # (B, C)
    low: Tensor  # (B, C) the side of 0, and the bounds, that ν stays within
    high: Tensor


def _newton_step(
    problem: _Problem, offsets: Tensor, shares: Tensor, probabilities: Tensor, residual: Tensor
) -> _Step:
    from_lower, from_upper = problem.lower - shares, problem.upper - shares
    rising = (offsets > 0) | ((offsets == 0) & (from_lower > 0))
    falling = (offsets < 0) | ((offsets == 0) & (from_upper < 0))
    high = torch.where(rising, problem.beta, 0.0)
    low = torch.where(falling, -LARGEST_OFFSET, 0.0)
    gradient = torch.where(rising, from_lower, from_upper)
    # Bertsekas (1982): an offset that is about to stop at a bound must not steer the others, or the
    # line search shrinks to nothing.
    near = residual.clamp(max=_NEAR)[:, None]
    stopping = ((offsets >= high - near) & (gradient > 0)) | (
        (offsets <= low + near) & (gradient < 0)
    )
    free = (rising | falling) & ~stopping

    hessian = shares.diag_embed() - probabilities @ probabilities.mT / probabilities.shape[2]
    coupled = free[:, :, None] & free[:, None]
    alone = hessian.diagonal(dim1=1, dim2=2).diag_embed()
    ridge = (_RIDGE + _DAMPING * residual)[:, None].expand_as(offsets).diag_embed()
    hessian = torch.where(coupled, hessian, alone) + ridge
    return _Step(gradient, torch.linalg.solve(hessian, gradient), low, high)


def _line_search(
    problem: _Problem, offsets: Tensor, partition: Tensor, mean_log: Tensor, step: _Step
) -> tuple[Tensor, Tensor, Tensor]:
    """ν, Z and mean log Z after the longest halved step of each image that raises D enough."""
    before = problem.value(offsets, mean_log)
    rounding = 8 * torch.finfo(torch.float64).eps * before.abs().clamp(min=1)
    length = torch.ones_like(before)
    for _ in range(_HALVINGS):
        trial = (offsets + length[:, None] * step.direction).clamp(step.low, step.high)
        trial_partition, trial_log = problem.log_partition(trial)
        promised = _ARMIJO * (step.gradient * (trial - offsets)).sum(dim=1)
        enough = problem.value(trial, trial_log) >= before + promised - rounding
        if enough.all():
            return trial, trial_partition, trial_log
        length = torch.where(enough, length, length / 2)
    keep = enough[:, None]
    return (
        torch.where(keep, trial, offsets),
        torch.where(keep, trial_partition, partition),
        torch.where(enough, trial_log, mean_log),
    )


def projection_loss(logits: Tensor, projection: Projection, weights: Tensor) -> Tensor:
    """Mean over images of KL(P ‖ Q)/N with P held fixed, its gradient weighted per class.

    The gradient at the logits is w ⊙ (q − p) / N: the paper down-weights gradients of large
    classes, which no weighting of the cross-entropy does. The value is the unweighted divergence.

    Args:
        logits: (B, C, N) or (B, C, H, W) that were projected.
        weights: (C,).
    """
    logits = logits.flatten(2)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    with torch.no_grad():
        gradient = logits.softmax(dim=1) - projection.probabilities
        gradient = gradient * weights[:, None].to(logits) / (logits.shape[0] * logits.shape[2])
    surrogate = (gradient * logits).sum()
    return projection.kl.mean() + surrogate - surrogate.detach()
