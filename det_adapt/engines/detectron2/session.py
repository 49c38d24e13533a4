"""Detectron2's training, evaluated and logged as a run of either engine is."""

import logging
import os
from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn

from det_adapt.config import device_of
from det_adapt.engines.detectron2.trainer import Training as Detectron2Training
from det_adapt.engines.detectron2.trainer import named_errors
from det_adapt.engines.detectron2.weights import LoadReport, initialise
from shared import distributed
from shared.errors import MissingFileError, UserError


class Training:
    """`det_adapt.training.Training` on Detectron2; its checkpoints and writers are Detectron2's.

    Attributes:
        model: on its device.
        iteration: how many are done.
    """

    def __init__(self, cfg: CfgNode) -> None:
        if distributed.world_size() > 1 and comm._LOCAL_PROCESS_GROUP is None:
            comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
        self.cfg = cfg
        self._hook = _AfterStep()
        self._training = Detectron2Training(cfg, [self._hook])
        self.model = self._training.model
        self.device = torch.device(cfg.MODEL.DEVICE)
        self.iteration = 0
        self._resumed = False

    def initialise(self) -> None:
        self._training.initialise()

    def resume(self) -> None:
        """Continues from the last checkpoint of OUTPUT_DIR; MissingFileError without one."""
        checkpointer = self._training.checkpointer
        if not checkpointer.has_checkpoint():
            raise MissingFileError(f"no checkpoint of Detectron2 in {self.cfg.OUTPUT_DIR}")
        checkpointer.resume_or_load("", resume=True)
        self.iteration = self._training.trainer.iter + 1
        self._resumed = True

    def train(self, after_step: Callable[[dict[str, float]], None]) -> None:
        def count(logs: dict[str, float]) -> None:
            self.iteration += 1
            after_step(logs)

        self._hook.after = count
        # It would log the traceback of an error that a user can mend.
        logging.getLogger("detectron2.engine.train_loop").setLevel(logging.CRITICAL)
        try:
            self._training.train(resume=self._resumed)
        except FloatingPointError as error:
            raise UserError(
                f"{str(error).splitlines()[0]} lower SOLVER.BASE_LR or lengthen "
                "SOLVER.WARMUP_ITERS, and --resume from the last checkpoint"
            ) from error


class _AfterStep(HookBase):
    """Passes an iteration's scalars on; `after` is set when training begins."""

    after: Callable[[dict[str, float]], None]

    def after_step(self) -> None:
        logs = {}
        for name, (value, iteration) in self.trainer.storage.latest().items():
            if iteration == self.trainer.iter and name.startswith(("loss_", "accuracy/", "lr")):
                logs[_NAMES.get(name, name.replace("loss_", "loss/", 1))] = float(value)
        self.after(logs)


_NAMES = {"lr": "lr/model"}


def build_detector(cfg: CfgNode) -> tuple[nn.Module, LoadReport | None]:
    """A detector with the weights of MODEL.WEIGHTS, on its device, to predict with."""
    device_of(cfg)
    with named_errors():
        model = build_model(cfg)
    return model, initialise(model, cfg)
