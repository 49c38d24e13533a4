"""Gradients: how large each loss's is; before an optimizer's step clipped where that is asked
for, and never NaN."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from shared import checkpoint, distributed
from shared.errors import UserError
from shared.options import Options, PositiveFloat


@dataclass(frozen=True)
class ClipOptions(Options, node="SOLVER.CLIP_GRADIENTS"):
    """Detectron2's keys, with its defaults and its meaning."""

    enabled: bool = False  # may change on --resume
    # value: every number; norm: every parameter by itself; full_model: all of an optimizer's
    clip_type: Literal["value", "norm", "full_model"] = "value"
    clip_value: PositiveFloat = 1.0  # the largest number, or norm
    norm_type: PositiveFloat = 2.0  # p of the p-norm


def guard(optimizer: torch.optim.Optimizer, clip: ClipOptions) -> None:
    """Before every step of `optimizer`, gradients are checked and clipped.

    Raises, at a step:
        FloatingPointError: a gradient is not finite; the weights are as they were.
    """

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        parameters = [p for p in parameters if p.grad is not None]
        if parameters and not torch.stack([p.grad.sum() for p in parameters]).sum().isfinite():
            raise FloatingPointError("a gradient is not finite")
        if not clip.enabled:
            return
        if clip.clip_type == "value":
            nn.utils.clip_grad_value_(parameters, clip.clip_value)
            return
        parts = [parameters] if clip.clip_type == "full_model" else [[p] for p in parameters]
        for part in parts:
            nn.utils.clip_grad_norm_(part, clip.clip_value, clip.norm_type)

    optimizer.register_step_pre_hook(before_step)


def balance_weight(module: nn.Module) -> nn.Parameter | None:
    """The last trained weight of a layer in `module`, at which losses are weighed against each
    other; None where nothing is trained."""
    weights = [p for p in module.parameters() if p.requires_grad and p.dim() > 1]
    return weights[-1] if weights else None


def norms(losses: Mapping[str, Tensor], weight: Tensor) -> dict[str, float]:
    """L2 norm of each loss's gradient at `weight`, 0 where it does not reach it.

    The graph stays, and no `.grad` changes. Nothing below the weight is back-propagated through.
    """
    found = dict.fromkeys(losses, 0.0)
    for name, loss in losses.items():
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True, allow_unused=True)
            found[name] = 0.0 if gradient is None else gradient.norm().item()
    return found


def not_finite(
    what: str,
    iteration: int,
    *,
    names: Sequence[str],
    batch: Mapping[str, Any],
    run: str,
    rate: str,
) -> UserError:
    """The error of a batch whose loss or gradient is not finite; the batch is kept in the run.

    Args:
        what: that is not finite, e.g. `the loss is not finite (seg nan)`.
        iteration: from 1.
        names: of the batch's images.
        batch: tensors, numbers, strings and containers of them.
        run: OUTPUT_DIR; empty: nothing is kept.
        rate: the key of the learning rate.
    """
    kept = ""
    if run:
        path = Path(run) / f"not_finite_{distributed.rank()}.pt"
        checkpoint.save({"iteration": iteration, "what": what, **batch}, path)
        kept = f", kept in {path}"
    return UserError(
        f"iteration {iteration}: {what} with {', '.join(names)}{kept}: lower {rate}, lengthen the "
        "warm-up or set SOLVER.CLIP_GRADIENTS.ENABLED True, and --resume from the last checkpoint"
    )
