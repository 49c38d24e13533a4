"""Training with Detectron2's trainers, hooks, writers and checkpoints, on GPUs or CPUs."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, hooks, launch
from detectron2.engine.defaults import create_ddp_model
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter
from torch import nn

from det_adapt.config import seed
from det_adapt.data.build import paired_loader
from det_adapt.data.loaders import PairedLoader
from det_adapt.engines.detectron2.sap_rcnn import Inputs, to_input
from det_adapt.engines.detectron2.weights import initialise
from shared.errors import UserError

logger = logging.getLogger(__name__)


class Training:
    """A run: model, optimizer, schedule, checkpoints, and how they are written down.

    Args:
        extra_hooks: run after the checkpoint of an iteration is written, e.g. an evaluation.
        log_period: iterations between log lines.
    """

    def __init__(
        self, cfg: CfgNode, extra_hooks: Sequence[HookBase] = (), *, log_period: int = 20
    ) -> None:
        self.cfg = cfg
        self._initialised = False
        torch.manual_seed(seed(cfg))
        self.model = _build_model(cfg)
        optimizer = build_optimizer(cfg, self.model)
        trainer_class = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self.trainer = trainer_class(_in_parallel(self.model), [], optimizer)
        scheduler = build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(self.model, cfg.OUTPUT_DIR, trainer=self.trainer)
        self.trainer.register_hooks(
            [
                _SeededSteps(seed(cfg)),
                hooks.IterationTimer(),
                hooks.LRScheduler(scheduler=scheduler),
            ]
        )
        if comm.is_main_process():
            period = cfg.SOLVER.CHECKPOINT_PERIOD
            self.trainer.register_hooks([hooks.PeriodicCheckpointer(self.checkpointer, period)])
        self.trainer.register_hooks(list(extra_hooks))
        if comm.is_main_process():
            folder = Path(cfg.OUTPUT_DIR)
            folder.mkdir(parents=True, exist_ok=True)
            writers = [
                CommonMetricPrinter(cfg.SOLVER.MAX_ITER),
                JSONWriter(str(folder / "metrics.json")),
                TensorboardXWriter(str(folder)),
            ]
            self.trainer.register_hooks([hooks.PeriodicWriter(writers, log_period)])

    def initialise(self) -> None:
        """Fills the model by MODEL.WEIGHTS, which `train` otherwise begins with."""
        initialise(self.model, self.cfg)
        self._initialised = True

    def train(self, *, resume: bool = False) -> None:
        """From MODEL.WEIGHTS, or from the last checkpoint in OUTPUT_DIR where there is one."""
        start = 0
        if resume and self.checkpointer.has_checkpoint():
            self.checkpointer.resume_or_load("", resume=True)
            start = self.trainer.iter + 1
        elif not self._initialised:
            self.initialise()
        loader = paired_loader(
            self.cfg, start=start, rank=comm.get_rank(), world_size=comm.get_world_size()
        )
        pairs = _Pairs(loader, self.cfg.INPUT.FORMAT)
        self.trainer.reset_data_loader(lambda: pairs)
        self.trainer.train(start, self.cfg.SOLVER.MAX_ITER)


def train(cfg: CfgNode, resume: bool = False) -> None:
    """A whole run, in this process; also what `run_processes` calls in each."""
    Training(cfg).train(resume=resume)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or Adam over Detectron2's parameter groups; the pyramid's rate times SAP.LR_MULT."""
    groups = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        lr_factor_func=lambda name: cfg.SAP.LR_MULT if name.startswith("sap.") else 1.0,
    )
    common = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
    if cfg.SOLVER.OPTIMIZER == "ADAM":
        optimizer = torch.optim.Adam(groups, betas=tuple(cfg.SOLVER.BETAS), **common)
    else:
        momentum, nesterov = cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV
        optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, **common)
    return maybe_add_gradient_clipping(cfg, optimizer)


def run_processes(function: Callable[..., None], processes: int, *arguments: Any) -> None:
    """`function(*arguments)` in each of `processes`: one per GPU by NCCL, or on CPUs by gloo."""
    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise UserError(f"got --num-gpus {processes}, this machine has {torch.cuda.device_count()}")
    launch(function, processes, dist_url="auto", args=arguments)


class _Pairs:
    """Pairs of samples as pairs of Detectron2's dictionaries."""

    def __init__(self, loader: PairedLoader, channels: str) -> None:
        self.loader, self.channels = loader, channels

    def __iter__(self) -> Iterator[tuple[Inputs, Inputs | None]]:
        for source, target in self.loader:
            yield self._inputs(source), None if target is None else self._inputs(target)

    def _inputs(self, samples: Iterable) -> Inputs:
        return [to_input(sample, self.channels) for sample in samples]


class _SeededSteps(HookBase):
    """Anchors and regions are sampled by (seed, rank, iteration): resuming needs no state."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_step(self) -> None:
        entropy = [self.seed, comm.get_rank(), self.trainer.iter]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def _build_model(cfg: CfgNode) -> nn.Module:
    if cfg.MODEL.META_ARCHITECTURE != "SAPRCNN":
        raise UserError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, expected SAPRCNN: with "
            "SAP.ENABLED False it trains on the source only"
        )
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("MODEL.DEVICE is cuda, and there is no GPU here: set MODEL.DEVICE cpu")
    if device.type == "cpu" and cfg.SOLVER.AMP.ENABLED:
        raise UserError("SOLVER.AMP.ENABLED needs a GPU with Detectron2: set it to False")
    return build_model(cfg)


def _in_parallel(model: nn.Module) -> nn.Module:
    """Gradients averaged over processes; Detectron2's own trainer cannot on CPUs."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    devices = None if on_cpu else [comm.get_local_rank()]
    return create_ddp_model(model, device_ids=devices, broadcast_buffers=False)
