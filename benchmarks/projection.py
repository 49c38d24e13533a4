"""Projection on class-share bounds: projected Newton against projected gradient with step 1.

Both maximize the same dual in float64 until the same residual is below the tolerance. Step 1 is
what the dual's smoothness allows (its gradient's Lipschitz constant is at most 1). Where this
one runs out of steps, the ratio is a lower bound.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seg_adapt.losses.constrained import LARGEST_OFFSET, project, raise_to_feasible

BETA = 2.0


def problem(batch: int, classes: int, pixels: int, seed: int) -> tuple[Tensor, ...]:
    """Logits of images whose class shares are far from the bounds; about two thirds present."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, pixels, generator=generator)
    logits = 3 * (logits + torch.randn(batch, classes, 1, generator=generator))
    shares = torch.rand(classes, generator=generator) ** 3
    shares = shares / shares.sum()
    present = torch.rand(batch, classes, generator=generator) < 2 / 3
    upper, _ = raise_to_feasible(1.3 * shares, present)
    return logits, 0.9 * shares, upper, present


def projected_gradient(
    logits: Tensor,
    lower: Tensor,
    upper: Tensor,
    present: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[int, float]:
    """Iterations and the largest residual left; one pass over the pixels per iteration."""
    lower, upper = (bound.double().expand(present.shape) for bound in (lower, upper))
    q = logits.double().masked_fill(~present[:, :, None], -torch.inf).softmax(dim=1)
    raised, lowered = torch.zeros(2, *present.shape, dtype=torch.float64)
    iteration = 0
    while True:
        factor = (raised - lowered).exp()[:, None]
        shares = factor[:, 0] * (q / torch.bmm(factor, q)).mean(dim=2)
        up = torch.where(present, (raised + lower - shares).clamp(0, BETA), 0.0)
        down = torch.where(present, (lowered + shares - upper).clamp(0, LARGEST_OFFSET), 0.0)
        residual = torch.maximum((up - raised).abs(), (down - lowered).abs()).amax().item()
        if residual <= tolerance or iteration == max_iterations:
            return iteration, residual
        raised, lowered = up, down
        iteration += 1


def timed(work: Callable[[], object]) -> tuple[object, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--pixels", type=int, default=8192, help="of a map, e.g. 64x128")
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--gradient-steps", type=int, default=3000, help="at most")
    parser.add_argument("--problems", type=int, default=3, help="per batch size; medians")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    project(*problem(1, args.classes, 64, 0))
    print("batch     Newton steps residual |   gradient steps residual | ratio")
    for batch in args.batch:
        rows = []
        for seed in range(args.problems):
            data = problem(batch, args.classes, args.pixels, seed)
            ours, seconds = timed(lambda d=data: project(*d, tolerance=args.tolerance))
            (steps, residual), baseline = timed(
                lambda d=data: projected_gradient(
                    *d, tolerance=args.tolerance, max_iterations=args.gradient_steps
                )
            )
            newton = (1e3 * seconds, ours.iterations.max().item(), ours.residual.max().item())
            rows.append((*newton, 1e3 * baseline, steps, residual, baseline / seconds))
        middle = [statistics.median(column) for column in zip(*rows, strict=True)]
        print(
            "{:5} {:7.0f} ms {:5.0f} {:8.1e} | {:7.0f} ms {:5.0f} {:8.1e} | {:4.0f}x".format(
                batch, *middle
            )
        )


if __name__ == "__main__":
    main()
