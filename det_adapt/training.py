"""What a run asks of an engine, and the engines that answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from fvcore.common.config import CfgNode
from torch import nn

from det_adapt.config import check, check_torchvision, defaults
from shared.errors import UserError
from shared.run.command import load_experiment


class Training(Protocol):
    """A training run of an engine, in the folder OUTPUT_DIR.

    Attributes:
        model: a `Detector`, on its device; its `sap` is the adversary, or None.
        iteration: how many are done.
    """

    model: nn.Module
    device: torch.device
    iteration: int

    def initialise(self) -> object:
        """Fills the model by MODEL.WEIGHTS and logs what was loaded."""
        ...

    def resume(self) -> None:
        """Continues from the last checkpoint; MissingFileError where there is none."""
        ...

    def train(self, after_step: Callable[[dict[str, float]], None]) -> None:
        """To SOLVER.MAX_ITER; `after_step` gets the logs of each iteration, once its checkpoint, if
        it has one, is written."""
        ...


def engine_config(engine: str, path: Path, overrides: list[str]) -> CfgNode:
    """An experiment file over the keys of an engine, checked."""
    tree = defaults()
    if engine == "detectron2":
        from det_adapt.engines.detectron2 import defaults as detectron2_defaults

        tree = detectron2_defaults()
    cfg = load_experiment("detection", tree, path, overrides)
    if engine == "torchvision":
        check_torchvision(cfg)
    check(cfg)
    if cfg.MODEL.META_ARCHITECTURE != "SAPRCNN":
        raise UserError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, expected SAPRCNN: with "
            "SAP.ENABLED False it trains on the source only"
        )
    return cfg


def build_training(engine: str, cfg: CfgNode) -> Training:
    """The engine's run, with fresh weights."""
    if engine == "detectron2":
        from det_adapt.engines.detectron2.session import Training as Detectron2Training

        return Detectron2Training(cfg)
    from det_adapt.engines.torchvision.trainer import Training as TorchvisionTraining

    return TorchvisionTraining(cfg)


def load_detector(engine: str, cfg: CfgNode) -> nn.Module:
    """A detector with all weights of the file MODEL.WEIGHTS, in evaluation mode."""
    if not cfg.MODEL.WEIGHTS:
        raise UserError("MODEL.WEIGHTS is empty, expected the run or the checkpoint of a detector")
    if engine == "detectron2":
        from det_adapt.engines.detectron2.session import build_detector
    else:
        from det_adapt.engines.torchvision.trainer import build_detector
    model, report = build_detector(cfg)
    if report is not None and (report.missing or report.misshapen):
        raise UserError(f"'{cfg.MODEL.WEIGHTS}' is no whole detector: {report}")
    return model.eval()
