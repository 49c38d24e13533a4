"""A run's detector, weights and optimizer on Detectron2; what it refuses is one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.solver import get_default_optimizer_params
from torch import nn

from det_adapt import weights
from det_adapt.config import device_of, lr_mult
from det_adapt.weight_names import to_detectron2
from shared.errors import UserError
from shared.gradients import ClipOptions, guard
from shared.weights import LoadReport


def build_detector(cfg: CfgNode) -> nn.Module:
    """A detector with fresh weights, on its device."""
    device_of(cfg)
    with named_errors():
        return build_model(cfg)


def load_weights(model: nn.Module, cfg: CfgNode) -> LoadReport | None:
    """`det_adapt.weights.load_weights`; Detectron2 itself loads a .pkl of its model zoo."""
    path = cfg.MODEL.WEIGHTS
    if path.endswith(".pkl"):
        DetectionCheckpointer(model).load(path)
        return None
    return weights.load_weights(model, cfg, to_detectron2)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or Adam over Detectron2's parameter groups; an adversary's rate times its LR_MULT."""
    groups = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        lr_factor_func=lambda name: lr_mult(cfg, name),
    )
    common = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
    if cfg.SOLVER.OPTIMIZER == "ADAM":
        optimizer = torch.optim.Adam(groups, betas=tuple(cfg.SOLVER.BETAS), **common)
    else:
        momentum, nesterov = cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV
        optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, **common)
    guard(optimizer, ClipOptions.from_config(cfg))
    return optimizer


@contextmanager
def named_errors() -> Iterator[None]:
    """UserError for what Detectron2 refuses while it builds, by its registries and assertions."""
    try:
        yield
    except UserError:
        raise
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or "an assertion"
        raise UserError(
            f"Detectron2 cannot build this run ({type(error).__name__}: {reason}): correct the key "
            "of MODEL or SOLVER that names it"
        ) from error
