"""The two engines, Detectron2 and torchvision, and what a run asks of either."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import nn

from det_adapt.config import INSTALL_DETECTRON2, check, check_torchvision, hint_for, seed
from det_adapt.structures import Detections, Losses, Maps, Sample
from shared import distributed, gradients
from shared.config import changed, read_experiment
from shared.errors import UserError
from shared.extensions import KEY as IMPORTS
from shared.extensions import import_named
from shared.progress import LogWindow
from shared.run.command import load_experiment

ENGINES = ("auto", "detectron2", "torchvision")


class Detector(Protocol):
    """A detector of either engine; a `torch.nn.Module` as well.

    Images are normalized and batched inside. Both domains go through the same backbone and RPN
    head, of which no parameter is toggled.
    """

    feature_channels: int  # Ĉ
    anchors: int  # A, per cell
    lower_channels: int | None  # C of SAP.LOWER.FEATURE; None where that is empty
    adversaries: list[nn.Module]  # `det_adapt.adversaries.Adversary`: `sap`, `da_faster`

    def source(self, samples: list[Sample]) -> tuple[Losses, Maps]:
        """Training mode. The task's losses: loss_rpn_cls, loss_rpn_loc, loss_cls, loss_box_reg,
        and loss_mask with masks."""
        ...

    def target(self, samples: list[Sample]) -> Maps:
        """Training mode. No annotation; backbone and RPN head only, unless an adversary reads
        proposals."""
        ...

    def detect(self, samples: list[Sample]) -> list[Detections]:
        """Evaluation mode. Boxes and masks in pixels of the files."""
        ...


class Trainer(Protocol):
    """A training run of an engine, in the folder OUTPUT_DIR.

    Attributes:
        model: a `Detector`, on its device.
        iteration: how many are done.
    """

    model: nn.Module
    device: torch.device
    iteration: int

    def load_weights(self) -> object:
        """Fills the model by MODEL.WEIGHTS and logs what was loaded."""
        ...

    def resume(self) -> LogWindow:
        """Continues from the last checkpoint, and returns what it was given with it;
        MissingFileError where there is none."""
        ...

    def save(self, log_window: LogWindow | None = None) -> None:
        """Writes a checkpoint of `iteration`, which `resume` continues from."""
        ...

    def train(self, after_step: Callable[[dict[str, float]], None]) -> None:
        """From `iteration` to SOLVER.MAX_ITER; saves nothing by itself.

        Args:
            after_step: gets the logs of each iteration.
        """
        ...


def choose_engine(name: str) -> str:
    """`detectron2` or `torchvision`; `auto` is Detectron2 where it can be imported."""
    if name not in ENGINES:
        raise UserError(f"got --engine {name}, expected one of {', '.join(ENGINES)}")
    installed = find_spec("detectron2") is not None
    if name == "detectron2" and not installed:
        raise UserError(
            "--engine detectron2 needs Detectron2, which is not installed: see "
            f"{INSTALL_DETECTRON2}, or use --engine torchvision"
        )
    if name == "auto":
        return "detectron2" if installed else "torchvision"
    return name


def engine_defaults(engine: str) -> CfgNode:
    """All keys of an engine, at their defaults."""
    return _package(engine).defaults()


def engine_config(
    engine: str,
    path: str | Path | Mapping[str, Any] | None,
    overrides: list[str],
    imports: Iterable[str] = (),
) -> CfgNode:
    """An experiment file, or what it holds, over the keys of an engine; checked.

    Args:
        imports: modules of one's own beside those that `IMPORTS` names.
    """
    unchecked = {} if path is None else path
    if not isinstance(unchecked, Mapping):
        unchecked = read_experiment(unchecked)
    recorded = import_named(unchecked, overrides, imports)
    tree = engine_defaults(engine)
    if engine == "torchvision":
        cfg = load_experiment("detection", tree, path, overrides, hint=hint_for)
        check_torchvision(cfg)
    else:
        cfg = load_experiment("detection", tree, path, overrides)
    check(cfg, tree)
    if cfg.MODEL.META_ARCHITECTURE != "SAPRCNN":
        raise UserError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, expected SAPRCNN: with "
            "SAP.ENABLED False it trains on the source only"
        )
    return changed(cfg, IMPORTS, recorded)


def build_trainer(engine: str, cfg: CfgNode) -> Trainer:
    """The engine's run, with fresh weights."""
    return _package(engine).Trainer(cfg)


def load_detector(engine: str, cfg: CfgNode) -> nn.Module:
    """A detector with all weights of the file MODEL.WEIGHTS, in evaluation mode."""
    if not cfg.MODEL.WEIGHTS:
        raise UserError("MODEL.WEIGHTS is empty, expected the run or the checkpoint of a detector")
    package = _package(engine)
    model = package.build_detector(cfg)
    report = package.load_weights(model, cfg)
    if report is not None and (report.missing or report.misshapen):
        raise UserError(f"'{cfg.MODEL.WEIGHTS}' is no whole detector: {report}")
    return model.eval()


def check_losses(losses: Losses) -> None:
    """FloatingPointError where their sum is not finite."""
    if not torch.isfinite(sum(losses.values())):
        values = ", ".join(f"{name} {loss.item():g}" for name, loss in losses.items())
        raise FloatingPointError(f"the loss is not finite ({values})")


def not_finite(what: str, iteration: int, cfg: CfgNode, samples: list[Sample]) -> UserError:
    """The error of a batch; see `shared.gradients.not_finite`."""
    return gradients.not_finite(
        what,
        iteration,
        names=[sample.name for sample in samples],
        batch={"samples": [asdict(sample) for sample in samples]},
        run=cfg.OUTPUT_DIR,
        rate="SOLVER.BASE_LR",
    )


def seed_forward(cfg: CfgNode, iteration: int, number: int) -> None:
    """Anchors, regions and dropout are drawn by (seed, rank, iteration, number of the forward):
    resuming needs no state."""
    entropy = [seed(cfg), distributed.rank(), iteration, *([number] if number else [])]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def _package(engine: str) -> ModuleType:
    """The one of the two that is needed: Detectron2 is optional."""
    return import_module(f"det_adapt.{engine}_engine")
