"""A run's checkpoint: everything that training continues from and that prediction needs."""

from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from fvcore.common.config import CfgNode

from seg_adapt.config import defaults
from seg_adapt.engine.build import build_method
from seg_adapt.engine.trainer import Trainer
from seg_adapt.methods.base import Method
from seg_adapt.models.weights import conventions
from shared import checkpoint, extensions
from shared.config import flatten
from shared.data.label_maps import LABEL_SPACES, LabelSpace, label_space
from shared.data.own import resolve_label_space
from shared.errors import UserError
from shared.events import git_revision
from shared.progress import LogWindow
from shared.run.folder import Changes, check_same_run, checkpoint_at

FORMAT, SCRIPT = 1, "seg_adapt/train.py"


def save_run(
    path: Path,
    trainer: Trainer,
    cfg: CfgNode,
    space: LabelSpace | None = None,
    *,
    log_window: LogWindow | None = None,
) -> None:
    """Writes the whole state of a run; see `shared.checkpoint.save`.

    Args:
        space: the classes when the run began; None: those that DATASETS.LABEL_SPACE names now.
        log_window: what the log line that has begun averages.
    """
    revision, _ = git_revision()
    space = space or resolve_label_space(cfg.DATASETS.LABEL_SPACE)
    state = {
        "format": FORMAT,
        "config": cfg.dump(),
        "revision": revision,
        "made_for": conventions(trainer.method.segmentor),
        "label_space": _own_space(space),
        "log_window": dict(log_window or {}),
        **trainer.state_dict(),
    }
    checkpoint.check_finite(state["method"], trainer.iteration)
    checkpoint.save(state, path, keep=cfg.SOLVER.CHECKPOINT_KEEP)


def resume_run(
    path: Path,
    trainer: Trainer,
    cfg: CfgNode,
    space: LabelSpace | None = None,
    *,
    to_score: bool = False,
) -> tuple[LogWindow, Changes]:
    """Continues `trainer` from a run's checkpoint; returns its `log_window` and what
    `check_same_run` does.

    Args:
        space: what `cfg.DATASETS.LABEL_SPACE` stands for, where that was looked up already.
        to_score: nothing is trained; the test data may be others.

    Raises:
        UserError: the run was made with other settings or classes, which change what is learned.
    """
    state = checkpoint.load_run(path, FORMAT, SCRIPT)
    then = flatten(_config(state, cfg.IMPORTS))
    changes = check_same_run(
        path,
        then,
        flatten(cfg),
        extendable=_why_not_longer(cfg, trainer),
        free=["DATASETS.TEST"] if to_score else (),
    )
    stored = state.get("label_space")
    space = space or resolve_label_space(cfg.DATASETS.LABEL_SPACE)
    if stored is not None and tuple(stored["classes"]) != space.classes:
        raise UserError(
            f"cannot resume {path}: its classes are {', '.join(stored['classes'])}, those "
            f"of {cfg.DATASETS.LABEL_SPACE} are now {', '.join(space.classes)}; restore them, or "
            "start a new run with --output"
        )
    trainer.load_state_dict(state)
    return state.get("log_window", {}), changes


def _why_not_longer(cfg: CfgNode, trainer: Trainer) -> str | None:
    """Why a run cannot be resumed to a larger SOLVER.MAX_ITER; None: it can."""
    if cfg.SOLVER.SCHEDULE == "poly" and not cfg.SOLVER.HORIZON:
        return "a poly schedule's rates depend on the length: all that were used would change"
    if len(trainer.method.stages(cfg.SOLVER.MAX_ITER)) > 1 or cfg.SELF_TRAINING.ROUNDS:
        return "the stages that follow would move"
    return None


def load_method(
    path: str | Path, device: torch.device, imports: Sequence[str] = ()
) -> tuple[Method, LabelSpace, CfgNode]:
    """The trained method of a run, in evaluation mode, ready to predict.

    Args:
        path: a run's folder, or a checkpoint in it.
        imports: modules in place of those that the run recorded (`IMPORTS`).

    Example:
        >>> method, space, cfg = load_method("runs/toy/road", torch.device("cpu"))
        >>> method.predict(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).shape[:2]
        torch.Size([1, 19])
    """
    state = checkpoint.load_run(checkpoint_at(Path(path)), FORMAT, SCRIPT)
    cfg = _config(state, imports)
    space = _stored_space(state, cfg)
    method = build_method(cfg, space.num_classes)
    name = checkpoint.not_finite(state["method"])
    if name is not None:
        raise UserError(f"'{path}' holds numbers that are not finite ({name}): train again")
    method.load_state_dict(state["method"])
    return method.to(device).eval(), space, cfg


def _own_space(space: LabelSpace) -> dict | None:
    """A user's own classes as plain values: prediction must not need the file that names them."""
    if space.name in LABEL_SPACES and LABEL_SPACES.get(space.name) == space:
        return None
    return {"name": space.name, "classes": list(space.classes), "colors": list(space.colors)}


def _stored_space(state: dict, cfg: CfgNode) -> LabelSpace:
    own = state.get("label_space")
    if own is None:
        return label_space(cfg.DATASETS.LABEL_SPACE)
    colors = tuple(tuple(color) for color in own["colors"])
    return LabelSpace(own["name"], tuple(own["classes"]), colors, None, {})


def _config(state: dict, imports: Sequence[str] = ()) -> CfgNode:
    stored = CfgNode(yaml.safe_load(state["config"]))
    extensions.import_extensions(imports or stored.get(extensions.KEY, []))
    cfg = defaults()
    try:
        cfg.merge_from_other_cfg(stored)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the checkpoint is of another version, revision {state.get('revision')}: {error}; "
            "use that revision, or train again"
        ) from error
    return cfg
