"""Training on torchvision: Detectron2's optimizers and schedule, and checkpoints of our own."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import nn

from det_adapt import weights
from det_adapt.config import device_of, lr_mult, seed
from det_adapt.data.build import TrainLoader
from det_adapt.engines import check_losses, engine_defaults, not_finite, seed_forward
from det_adapt.structures import Sample
from det_adapt.torchvision_engine.model import SapRCNN
from det_adapt.weight_names import from_detectron2
from shared import checkpoint, distributed
from shared.errors import UserError
from shared.events import git_revision
from shared.gradients import ClipOptions, guard
from shared.precision import MixedPrecision
from shared.progress import LogWindow
from shared.run.folder import dump_config
from shared.schedules import multi_step, warm_up
from shared.weights import LoadReport

Pair = tuple[list[Sample], list[Sample] | None]
FORMAT, SCRIPT = "detection 1", "det_adapt/train_net.py"
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


class Trainer:
    """`det_adapt.engines.Trainer`: model, optimizer, schedule, checkpoints.

    Gradients are averaged over the processes of `shared.distributed`, each of which has its share
    of an iteration's images.

    Attributes:
        model: on its device.
        iteration: how many are done.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg
        self.path = Path(cfg.OUTPUT_DIR) / "checkpoints" / "last.pt"
        self.device = device_of(cfg)
        torch.manual_seed(seed(cfg))
        self.model = build_detector(cfg)
        self.optimizer = build_optimizer(cfg, self.model)
        self.amp = MixedPrecision(cfg.SOLVER.AMP, self.device)
        self.iteration = 0

    def load_weights(self) -> None:
        load_weights(self.model, self.cfg)

    def resume(self) -> LogWindow:
        """Continues from the run's last checkpoint; MissingFileError where there is none."""
        state = checkpoint.load_run(self.path, FORMAT, SCRIPT)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.amp.scaler.load_state_dict(state["scaler"])
        self.iteration = state["iteration"]
        return state.get("log_window", {})

    def save(self, log_window: LogWindow | None = None) -> None:
        """Writes everything that training continues from and that prediction needs."""
        if not distributed.is_main():
            return
        state = {
            "format": FORMAT,
            "config": dump_config(self.cfg, engine_defaults("torchvision")),
            "revision": git_revision()[0],
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.amp.scaler.state_dict(),
            "log_window": dict(log_window or {}),
        }
        checkpoint.check_finite(state["model"], self.iteration)
        checkpoint.save(state, self.path, keep=self.cfg.SOLVER.CHECKPOINT_KEEP)

    def train(self, after_step: Callable[[dict[str, float]], None]) -> None:
        """From `iteration` to SOLVER.MAX_ITER.

        Args:
            after_step: gets an iteration's losses and rate.
        """
        rank, world_size = distributed.rank(), distributed.world_size()
        loader = TrainLoader(self.cfg, start=self.iteration, rank=rank, world_size=world_size)
        pairs = iter(loader)
        while self.iteration < self.cfg.SOLVER.MAX_ITER:
            try:
                logs = self.step(islice(pairs, self.cfg.SOLVER.ACCUMULATE))
            except FloatingPointError as error:
                what, number = str(error), self.iteration + 1
                raise not_finite(what, number, self.cfg, loader.samples) from error
            self.iteration += 1
            after_step(logs)

    def step(self, pairs: Iterable[Pair]) -> dict[str, float]:
        """One optimizer step, by the mean gradient of SOLVER.ACCUMULATE pairs; FloatingPointError
        where a loss or gradient is not finite."""
        self.model.train()
        rate = self.cfg.SOLVER.BASE_LR * rate_factor(self.cfg, self.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_mult"]
        values: dict[str, float] = defaultdict(float)
        for number, pair in enumerate(pairs):
            seed_forward(self.cfg, self.iteration, number)
            for name, value in self._backward(pair).items():
                values[name] += value / self.cfg.SOLVER.ACCUMULATE
        distributed.sum_gradients(
            [p for group in self.optimizer.param_groups for p in group["params"]]
        )
        self.amp.step(self.optimizer)
        self.amp.update()
        self.optimizer.zero_grad(set_to_none=True)
        distributed.mean_buffers(self.model)
        return distributed.mean_scalars(values) | {"lr/model": rate}

    def _backward(self, pair: Pair) -> dict[str, float]:
        """Adds the gradients of a pair; its losses and what is logged beside them."""
        with self.amp.autocast():
            losses, others = self.model(*pair, self.iteration)
            total = sum(losses.values())
        check_losses(losses)
        self.amp.backward(total / (distributed.world_size() * self.cfg.SOLVER.ACCUMULATE))
        values = {f"loss/{n.removeprefix('loss_')}": loss.item() for n, loss in losses.items()}
        return values | {name: value.item() for name, value in others.items()}


def build_detector(cfg: CfgNode) -> SapRCNN:
    """A detector with fresh weights, on its device."""
    return SapRCNN(cfg).to(device_of(cfg))


def load_weights(model: nn.Module, cfg: CfgNode) -> LoadReport | None:
    """`det_adapt.weights.load_weights` under the names of this engine."""
    return weights.load_weights(model, cfg, from_detectron2)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or Adam over the trained parameters, with Detectron2's exceptions: norms have a weight
    decay of their own, biases a rate; and an adversary's rate is times its LR_MULT."""
    solver = cfg.SOLVER
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, module in model.named_modules():
        decay = solver.WEIGHT_DECAY_NORM if isinstance(module, _NORMS) else solver.WEIGHT_DECAY
        adversary = lr_mult(cfg, f"{name}.")
        for own, parameter in module.named_parameters(recurse=False):
            bias = solver.BIAS_LR_FACTOR if own == "bias" else 1.0
            if parameter.requires_grad:
                groups.setdefault((adversary * bias, decay), []).append(parameter)
    if not groups:
        raise UserError("nothing is trained: lower MODEL.BACKBONE.FREEZE_AT")
    parts = [
        {"params": parameters, "lr_mult": lr_mult, "weight_decay": decay}
        for (lr_mult, decay), parameters in groups.items()
    ]
    if solver.OPTIMIZER == "ADAM":
        optimizer = torch.optim.Adam(parts, lr=solver.BASE_LR, betas=tuple(solver.BETAS))
    else:
        optimizer = torch.optim.SGD(parts, lr=solver.BASE_LR, momentum=solver.MOMENTUM)
    guard(optimizer, ClipOptions.from_config(cfg))
    return optimizer


def rate_factor(cfg: CfgNode, iteration: int) -> float:
    """What the rates are multiplied by: Detectron2's WarmupMultiStepLR."""
    solver = cfg.SOLVER
    steps = multi_step(iteration, tuple(solver.STEPS), solver.GAMMA)
    if iteration >= solver.WARMUP_ITERS:
        return steps
    if solver.WARMUP_METHOD == "constant":
        return solver.WARMUP_FACTOR
    return steps * warm_up(iteration, solver.WARMUP_ITERS, solver.WARMUP_FACTOR)
