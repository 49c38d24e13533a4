"""Training with Detectron2's trainers, hooks and checkpoints, on GPUs or CPUs."""

import logging
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import (
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    hooks,
)
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.logger import setup_logger
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from det_adapt.config import check, device_of, seed
from det_adapt.data.build import TrainLoader, classes_of
from det_adapt.detectron2_engine.build import (
    build_detector,
    build_optimizer,
    load_weights,
    named_errors,
)
from det_adapt.detectron2_engine.sap_rcnn import Inputs, to_inputs
from det_adapt.engines import engine_defaults, not_finite, seed_forward
from det_adapt.source_stage import resolve_weights
from shared import checkpoint, distributed
from shared.config import changed
from shared.errors import MissingFileError
from shared.files import write_atomically
from shared.precision import MixedPrecision
from shared.progress import LogWindow
from shared.run.folder import dump_config


class PairedTrainLoader(TrainLoader):
    """This process's (source, target) of every iteration, each a list of Detectron2's dictionaries;
    without an adversary the source alone, a batch as Detectron2's own."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg, rank=distributed.rank(), world_size=distributed.world_size())
        self.channels = cfg.INPUT.FORMAT

    def __iter__(self) -> Iterator[tuple[Inputs, Inputs] | Inputs]:
        for source, target in super().__iter__():
            inputs = to_inputs(source, self.channels)
            yield inputs if target is None else (inputs, to_inputs(target, self.channels))


class _Checkpointer(DetectionCheckpointer):
    """Its files hold the run's settings as well: prediction needs nothing beside them. They are
    written whole or not at all."""

    config = ""
    keep = 1

    def save(self, name: str, **kwargs: Any) -> None:
        if not self.save_to_disk:
            return
        state = {"model": self.model.state_dict(), "config": self.config}
        checkpoint.check_finite(state["model"], kwargs["iteration"] + 1)
        state |= {key: each.state_dict() for key, each in self.checkpointables.items()}
        checkpoint.save(state | kwargs, Path(self.save_dir) / f"{name}.pth")
        self.tag_last_checkpoint(f"{name}.pth")
        self._remove_old(kwargs["iteration"])

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_atomically(Path(self.save_dir) / "last_checkpoint", last_filename_basename.encode())

    def _remove_old(self, iteration: int) -> None:
        """Leaves SOLVER.CHECKPOINT_KEEP files, that of `iteration` included."""
        numbered = {int(p.stem[6:]): p for p in Path(self.save_dir).glob("model_[0-9]*.pth")}
        older = sorted(number for number in numbered if number < iteration)
        for number in older[: max(len(older) + 1 - self.keep, 0)]:
            numbered[number].unlink()


class _Stepper(SimpleTrainer):
    """Detectron2's steps by the mean gradient of SOLVER.ACCUMULATE pairs, in the precision of
    SOLVER.AMP, on GPUs and CPUs."""

    def __init__(self, cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(_in_parallel(model), [], optimizer)
        self.cfg = cfg
        self.amp = MixedPrecision(cfg.SOLVER.AMP, next(model.parameters()).device)

    def run_step(self) -> None:
        count = self.cfg.SOLVER.ACCUMULATE
        means: dict[str, torch.Tensor] = {}
        waited = 0.0
        self.optimizer.zero_grad()
        for number in range(count):
            start = time.perf_counter()
            pair = next(self._data_loader_iter)
            waited += time.perf_counter() - start
            seed_forward(self.cfg, self.iter, number)
            # Processes add up their gradients with the last.
            separate = number + 1 < count and isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if separate else nullcontext():
                with self.amp.autocast():
                    losses = self.model(pair)
                    total = sum(losses.values()) / count
                self.amp.backward(total)
            for name, loss in losses.items():
                means[name] = means.get(name, 0) + loss.detach() / count
        self.after_backward()
        self._write_metrics(means, waited)
        self.amp.step(self.optimizer)
        self.amp.update()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"grad_scaler": self.amp.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):  # older runs in fp32 have none
            self.amp.scaler.load_state_dict(state_dict["grad_scaler"])


class SapTrainer(DefaultTrainer):
    """Detectron2's trainer on pairs of source and target: `SapTrainer(cfg).train()` is a run.

    It draws by SEED alone, so that a resumed run equals an uninterrupted one, trains on CPUs as
    well, steps once in SOLVER.ACCUMULATE pairs, and scores DATASETS.TEST as COCO does.

    Args:
        cfg: `get_cfg()` after `add_sap_config`. MODEL.WEIGHTS may be a run's folder as well.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's own would open the data, and wrap a model on CPUs as one on GPUs.
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        check(cfg, engine_defaults("detectron2"))
        self.cfg = cfg
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        if cfg.FLOAT32_PRECISION:
            torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.manual_seed(seed(cfg))
        model = self.build_model(cfg)
        with named_errors():
            optimizer = self.build_optimizer(cfg, model)
            self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self._trainer = _Stepper(cfg, model, optimizer)
        self.checkpointer = _Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.checkpointer.keep = cfg.SOLVER.CHECKPOINT_KEEP
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self._has_weights = False
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        return build_detector(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> PairedTrainLoader:
        return PairedTrainLoader(cfg)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        folder = Path(cfg.OUTPUT_DIR) / "inference"
        # What another run has left there may have other classes.
        return COCOEvaluator(dataset_name, output_dir=str(folder), allow_cached_coco=False)

    def resume_or_load(self, resume: bool = True) -> None:
        """Continues from the last checkpoint of OUTPUT_DIR, or loads MODEL.WEIGHTS."""
        if resume and self.checkpointer.has_checkpoint():
            super().resume_or_load(resume=True)
        else:
            path = resolve_weights(self.cfg.MODEL.WEIGHTS)
            load_weights(self.checkpointer.model, changed(self.cfg, "MODEL.WEIGHTS", path))
        self._has_weights = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "_trainer" not in state_dict:  # a run's before it had this trainer
            state_dict = state_dict | {"_trainer": state_dict | {"hooks": {}}}
        super().load_state_dict(state_dict)

    def train(self) -> Any:
        """To SOLVER.MAX_ITER, from MODEL.WEIGHTS where `resume_or_load` was not called before."""
        if not self._has_weights:
            self.resume_or_load(resume=False)
        loader = self.build_train_loader(self.cfg)
        if isinstance(loader, TrainLoader):
            loader.start = self.start_iter
        self._trainer.reset_data_loader(lambda: loader)
        Path(self.cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
        complete = changed(self.cfg, "DATASETS.CLASSES", classes_of(self.cfg))
        self.checkpointer.config = dump_config(complete, engine_defaults("detectron2"))
        try:
            return super().train()
        except FloatingPointError as error:
            samples = getattr(loader, "samples", [])
            raise not_finite(str(error).rstrip("."), self.iter + 1, self.cfg, samples) from error


class _Silent(SapTrainer):
    """Without Detectron2's own evaluation, log and times to save at: the run has them."""

    def build_hooks(self) -> list[HookBase | None]:
        return [hooks.LRScheduler()]


class Trainer:
    """`det_adapt.engines.Trainer`; checkpoints lie in OUTPUT_DIR under Detectron2's names.

    Attributes:
        model: on its device.
        iteration: how many are done.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.device = device_of(cfg)
        self._trainer = _Silent(cfg)
        self.model = self._trainer.checkpointer.model
        self.iteration = 0

    def load_weights(self) -> None:
        self._trainer.resume_or_load(resume=False)

    def resume(self) -> LogWindow:
        """Continues from the last checkpoint of OUTPUT_DIR; MissingFileError without one."""
        if not self._trainer.checkpointer.has_checkpoint():
            folder = self._trainer.cfg.OUTPUT_DIR
            raise MissingFileError(f"no checkpoint of Detectron2 in {folder}")
        scheduler = self._trainer.scheduler
        rates = list(scheduler.base_lrs)
        self._trainer.resume_or_load()
        # The config's, which a resumed run may change; the next iteration's as well.
        parts = zip(scheduler.optimizer.param_groups, rates, scheduler.base_lrs, strict=True)
        for group, rate, former in parts:
            if rate != former:
                group["lr"] = rate if former == 0 else group["lr"] * rate / former
        scheduler.base_lrs = rates
        self.iteration = self._trainer.start_iter
        state = checkpoint.peek(self._trainer.checkpointer.get_checkpoint_file())
        return state.get("log_window", {})

    def save(self, log_window: LogWindow | None = None) -> None:
        if not distributed.is_main():
            return
        done = self.iteration - 1  # Detectron2 counts from 0
        name = "model_final" if self.iteration == self._trainer.max_iter else f"model_{done:07d}"
        self._trainer.iter = done  # at its end, Detectron2's trainer is one further
        window = dict(log_window or {})
        self._trainer.checkpointer.save(name, iteration=done, log_window=window)

    def train(self, after_step: Callable[[dict[str, float]], None]) -> None:
        """From `iteration` to SOLVER.MAX_ITER.

        Args:
            after_step: gets an iteration's losses and rate.
        """

        def count(trainer: TrainerBase) -> None:
            self.iteration += 1
            after_step(_logs(trainer, self._trainer.cfg.SOLVER.ACCUMULATE))

        self._trainer.register_hooks([hooks.CallbackHook(after_step=count)])
        # It would log the traceback of an error that the user can correct.
        logging.getLogger("detectron2.engine.train_loop").setLevel(logging.CRITICAL)
        self._trainer.train()


def _in_parallel(model: nn.Module) -> nn.Module:
    """Gradients averaged over processes; Detectron2's own trainer cannot on CPUs."""
    if distributed.world_size() == 1:
        return model
    on_gpu = next(model.parameters()).device.type == "cuda"
    devices = [torch.cuda.current_device()] if on_gpu else None
    return create_ddp_model(model, device_ids=devices, broadcast_buffers=False)


def _logs(trainer: TrainerBase, forwards: int) -> dict[str, float]:
    """The scalars of the trainer's iteration, by the names of our log.

    Args:
        forwards: how many the iteration had; each has an accuracy.
    """
    logs = {}
    for name, (value, iteration) in trainer.storage.latest().items():
        if iteration == trainer.iter and name.startswith("accuracy/"):
            logs[name] = float(trainer.storage.history(name).avg(forwards))
        elif iteration == trainer.iter and name.startswith("loss_"):
            logs[name.replace("loss_", "loss/", 1)] = float(value)
        elif iteration == trainer.iter and name == "lr":
            logs["lr/model"] = float(value)
    return logs
