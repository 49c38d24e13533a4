"""Training with Detectron2's trainers, hooks and checkpoints, on GPUs or CPUs; the log is ours."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from det_adapt import weights
from det_adapt.config import device_of, seed
from det_adapt.data.build import paired_loader
from det_adapt.engines import engine_defaults, seed_step
from shared import distributed
from shared.checkpoint import check_finite
from shared.errors import MissingFileError, UserError
from shared.run.folder import dump_config
from shared.weights import LoadReport


class _Checkpointer(DetectionCheckpointer):
    """Its files hold the run's settings as well: prediction needs nothing beside them."""

    config = ""

    def save(self, name: str, **kwargs: Any) -> None:
        if distributed.is_main():
            check_finite(self.model.state_dict(), kwargs["iteration"] + 1)
        super().save(name, config=self.config, **kwargs)


class Trainer:
    """`det_adapt.engines.Trainer`; checkpoints lie in OUTPUT_DIR under Detectron2's names.

    Attributes:
        model: on its device.
        iteration: how many are done.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg
        self.device = device_of(cfg)
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        if cfg.FLOAT32_PRECISION:
            torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.manual_seed(seed(cfg))
        self.model = build_detector(cfg)
        with named_errors():
            optimizer = build_optimizer(cfg, self.model)
            scheduler = build_lr_scheduler(cfg, optimizer)
        trainer_class = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = trainer_class(_in_parallel(self.model), [], optimizer)
        self._checkpointer = _Checkpointer(self.model, cfg.OUTPUT_DIR, trainer=self._trainer)
        self._checkpointer.config = dump_config(cfg, engine_defaults("detectron2"))
        self._trainer.register_hooks(
            [
                hooks.CallbackHook(before_step=lambda trainer: seed_step(cfg, trainer.iter)),
                hooks.LRScheduler(scheduler=scheduler),
            ]
        )
        if distributed.is_main():
            period = cfg.SOLVER.CHECKPOINT_PERIOD
            self._trainer.register_hooks([hooks.PeriodicCheckpointer(self._checkpointer, period)])
        self.iteration = 0

    def load_weights(self) -> None:
        load_weights(self.model, self.cfg)

    def resume(self) -> None:
        """Continues from the last checkpoint of OUTPUT_DIR; MissingFileError without one."""
        if not self._checkpointer.has_checkpoint():
            raise MissingFileError(f"no checkpoint of Detectron2 in {self.cfg.OUTPUT_DIR}")
        self._checkpointer.resume_or_load("", resume=True)
        self.iteration = self._trainer.iter + 1

    def save(self) -> None:
        if distributed.is_main():
            done = self.iteration - 1  # Detectron2 counts from 0
            self._checkpointer.save(f"model_{done:07d}", iteration=done)

    def train(self, after_step: Callable[[dict[str, float]], None]) -> None:
        """From `iteration` to SOLVER.MAX_ITER.

        Args:
            after_step: gets an iteration's losses and rate, after its checkpoint was written.
        """

        def count(trainer: SimpleTrainer) -> None:
            self.iteration += 1
            after_step(_logs(trainer))

        loader = paired_loader(
            self.cfg,
            start=self.iteration,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        inputs = self.model.inputs
        pairs = ((inputs(s), None if t is None else inputs(t)) for s, t in loader)
        self._trainer.reset_data_loader(lambda: pairs)
        self._trainer.register_hooks([hooks.CallbackHook(after_step=count)])
        Path(self.cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
        # It would log the traceback of an error that the user can correct.
        logging.getLogger("detectron2.engine.train_loop").setLevel(logging.CRITICAL)
        try:
            self._trainer.train(self.iteration, self.cfg.SOLVER.MAX_ITER)
        except FloatingPointError as error:
            raise UserError(
                f"{str(error).splitlines()[0]} lower SOLVER.BASE_LR or lengthen "
                "SOLVER.WARMUP_ITERS, and --resume from the last checkpoint"
            ) from error


def build_detector(cfg: CfgNode) -> nn.Module:
    """A detector with fresh weights, on its device."""
    device_of(cfg)
    with named_errors():
        return build_model(cfg)


def load_weights(model: nn.Module, cfg: CfgNode) -> LoadReport | None:
    """`det_adapt.weights.load_weights`; Detectron2 itself loads a .pkl or an address."""
    path = cfg.MODEL.WEIGHTS
    if path.endswith(".pkl") or "://" in path:
        DetectionCheckpointer(model).load(path)
        return None
    return weights.load_weights(model, cfg, weights.to_detectron2)


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
    on_gpu = next(model.parameters()).device.type == "cuda"
    devices = [torch.cuda.current_device()] if on_gpu else None
    return create_ddp_model(model, device_ids=devices, broadcast_buffers=False)


def _logs(trainer: SimpleTrainer) -> dict[str, float]:
    """The scalars of the trainer's iteration, by the names of our log."""
    logs = {}
    for name, (value, iteration) in trainer.storage.latest().items():
        if iteration == trainer.iter and name.startswith(("loss_", "accuracy/")):
            logs[name.replace("loss_", "loss/", 1)] = float(value)
        elif iteration == trainer.iter and name == "lr":
            logs["lr/model"] = float(value)
    return logs
