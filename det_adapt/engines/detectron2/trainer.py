"""Training with Detectron2's trainers, hooks, writers and checkpoints, on GPUs or CPUs."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter
from torch import nn

from det_adapt.config import device_of, seed
from det_adapt.data.build import paired_loader
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
        device_of(cfg)
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        if cfg.FLOAT32_PRECISION:
            torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.manual_seed(seed(cfg))
        with named_errors():
            self.model = build_model(cfg)
            optimizer = build_optimizer(cfg, self.model)
            scheduler = build_lr_scheduler(cfg, optimizer)
        trainer_class = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self.trainer = trainer_class(_in_parallel(self.model), [], optimizer)
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
        self.log_period = log_period

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
        if comm.is_main_process():
            self.trainer.register_hooks([self._writers()])
        self.trainer.train(start, self.cfg.SOLVER.MAX_ITER)

    def _writers(self) -> HookBase:
        folder = Path(self.cfg.OUTPUT_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        writers = [
            CommonMetricPrinter(self.cfg.SOLVER.MAX_ITER),
            JSONWriter(str(folder / "metrics.json")),
            TensorboardXWriter(str(folder)),
        ]
        return hooks.PeriodicWriter(writers, self.log_period)


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


class _Pairs:
    """Pairs of samples as pairs of Detectron2's dictionaries."""

    def __init__(self, loader: Iterable, channels: str) -> None:
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


def _in_parallel(model: nn.Module) -> nn.Module:
    """Gradients averaged over processes; Detectron2's own trainer cannot on CPUs."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    devices = None if on_cpu else [comm.get_local_rank()]
    return create_ddp_model(model, device_ids=devices, broadcast_buffers=False)
