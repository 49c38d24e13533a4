"""Optimizers of a method's groups, and the learning rate as a pure function of the step."""

import torch
from fvcore.common.config import CfgNode

from shared.errors import UserError
from shared.gradients import ClipOptions, guard
from shared.schedules import multi_step, poly, warm_up


def build_optimizers(
    groups: dict[str, list[dict]], solver: CfgNode
) -> dict[str, torch.optim.Optimizer]:
    """One optimizer per group name, configured by `SOLVER.<NAME>`.

    Raises:
        ValueError: a parameter stands twice in a group or in two groups.
    """
    seen: set[int] = set()
    optimizers = {}
    for name, parts in groups.items():
        node = solver[name.upper()]
        if not any(part["params"] for part in parts):
            raise UserError(f"nothing of '{name}' is trained: shorten MODEL.FREEZE_STAGES")
        for part in parts:
            for parameter in part["params"]:
                if id(parameter) in seen:
                    raise ValueError(f"a parameter of group '{name}' is in two optimizer groups")
                seen.add(id(parameter))
        parameter_groups = [
            {
                "params": part["params"],
                "lr": node.LR * part["lr_mult"],
                "base_lr": node.LR * part["lr_mult"],
                "weight_decay": node.WEIGHT_DECAY * part["weight_decay_mult"],
            }
            for part in parts
        ]
        if node.TYPE == "sgd":
            optimizer = torch.optim.SGD(parameter_groups, lr=node.LR, momentum=node.MOMENTUM)
        else:
            optimizer = torch.optim.Adam(parameter_groups, lr=node.LR, betas=tuple(node.BETAS))
        guard(optimizer, ClipOptions.from_node(solver.CLIP_GRADIENTS))
        optimizers[name] = optimizer
    return optimizers


def rate_factor(solver: CfgNode, step: int, length: int) -> float:
    """What the base learning rates are multiplied by at a step of a stage.

    Args:
        step: optimizer steps done in the stage.
        length: of the stage; poly's horizon where `SOLVER.HORIZON` is 0.
    """
    horizon = solver.HORIZON or length
    factors = {
        "poly": lambda: poly(step, horizon, solver.POWER),
        "multi_step": lambda: multi_step(step, tuple(solver.STEPS)),
        "constant": lambda: 1.0,
    }
    return factors[solver.SCHEDULE]() * warm_up(step, solver.WARMUP, start=0.001)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
