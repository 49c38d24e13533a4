"""A run's folder: its checkpoint and settings, whether it is finished, what it compares with."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from fvcore.common.config import CfgNode

from shared.checkpoint import peek
from shared.config import differences, flatten, nested, plain
from shared.errors import MissingFileError, UserError
from shared.events import read_metrics
from shared.files import write_atomically

CONFIG = "config.yaml"
# A resumed run may change these: they change neither what is learned nor how it goes on.
RESUMABLE_KEYS = (
    "OUTPUT_DIR",
    "IMPORTS",
    "LOG_PERIOD",
    "MODEL.DEVICE",
    "DATASETS.ROOT",
    "DATASETS.CACHE",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.TIMEOUT",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.CHECKPOINT_KEEP",
    "TEST.EVAL_PERIOD",
    "TEST.STAGES",
    "TEST.WINDOW",
    "TEST.STRIDE",
    "TEST.OFFICIAL",
    "TEST.PICTURES",
)
# The length of a run and what it is scored on are read without knowing the defaults; Detectron2
# misses its version.
_ALWAYS_WRITTEN = ("VERSION", "SOLVER.MAX_ITER", "DATASETS.TEST")
Changes = dict[str, tuple[object, object]]
"""Key to its value before and now."""
_SCORED_ON = ("DATASETS.TEST", "DATASETS.LABEL_SPACE", "DATASETS.CLASSES")

logger = logging.getLogger(__name__)


def last_checkpoint(run: Path) -> Path:
    """Where a run keeps its checkpoint."""
    return run / "checkpoints" / "last.pt"


def checkpoint_of(run: Path) -> Path | None:
    """The last checkpoint in a run's folder, ours or Detectron2's; None where there is none."""
    ours = last_checkpoint(run)
    if ours.is_file():
        return ours
    pointer = run / "last_checkpoint"  # Detectron2's
    if pointer.is_file():
        return run / pointer.read_text().strip()
    return None


def checkpoint_at(path: Path) -> Path:
    """The checkpoint that `path` is, or the last one of the run whose folder it is."""
    checkpoint = checkpoint_of(path) if path.is_dir() else path
    if checkpoint is None or not checkpoint.is_file():
        raise MissingFileError(f"no checkpoint at {path}: expected a run's folder, or a file in it")
    return checkpoint


def write_config(run: Path, cfg: CfgNode, defaults: CfgNode | None = None) -> None:
    """config.yaml, itself an experiment file; see `dump_config`."""
    run.mkdir(parents=True, exist_ok=True)
    write_atomically(run / CONFIG, dump_config(cfg, defaults).encode())


def dump_config(cfg: CfgNode, defaults: CfgNode | None = None) -> str:
    """YAML; keys without a value are left out, as it asks.

    Args:
        defaults: of the same keys; what equals them is left out as well, so that another version
            or engine that knows fewer keys reads the file. None: every key is written.
    """
    values = flatten(cfg)
    if defaults is not None:
        always = {key: values[key] for key in _ALWAYS_WRITTEN if key in values}
        values = differences(cfg, defaults) | always
    values = {key: plain(value) for key, value in values.items() if value is not None}
    return yaml.safe_dump(nested(values))


def settings_of(run: Path) -> dict[str, object]:
    """Keys and values of a run's config.yaml; empty without one."""
    path = run / CONFIG
    return flatten(CfgNode(yaml.safe_load(path.read_text()))) if path.is_file() else {}


def stored_settings(checkpoint: Path) -> dict[str, object]:
    """The settings that a checkpoint of detection holds, nested as in an experiment file.

    Raises:
        UserError: it holds none.
    """
    state = peek(checkpoint)
    config = state.get("config") if isinstance(state, dict) else None
    if not isinstance(config, str):
        raise UserError(f"'{checkpoint}' holds no settings: expected a checkpoint of train_net.py")
    return yaml.safe_load(config)


def total_iterations(settings: Mapping[str, object]) -> int:
    """Optimizer steps of all stages, from flat settings; missing keys count as 0."""
    rounds = settings.get("SELF_TRAINING.ROUNDS", 0) * settings.get("SELF_TRAINING.ITERATIONS", 0)
    stages = settings.get("SOURCE_STAGE.ITERATIONS", 0) + settings.get("SOLVER.MAX_ITER", 0)
    return stages + rounds


def is_finished(run: Path) -> bool:
    """Whether a run was scored at its end; trained to it, where it has nothing to score."""
    settings = settings_of(run)
    kind = "eval" if settings.get("DATASETS.TEST") else "train"
    end = total_iterations(settings)
    events = read_metrics(run) if settings else []
    return any(event["kind"] == kind and event["iteration"] >= end for event in events)


def check_new(run: Path) -> None:
    """UserError where the folder holds a run already, whatever of it is there."""
    if checkpoint_of(run) is not None or (run / "checkpoints").exists():
        raise UserError(
            f"{run} already holds a run: --resume continues it, --output names another folder"
        )


def check_same_run(
    checkpoint: Path,
    then: Mapping[str, object],
    now: Mapping[str, object],
    *,
    extendable: str | None = None,
    free: Iterable[str] = (),
) -> Changes:
    """UserError where a run goes on with other settings, which change what is learned.

    Learning rates, warm-ups and clipping may change all the same, with a warning; they are
    returned.

    Args:
        then, now: flat settings; keys that `then` lacks are not compared.
        free: further keys that may differ.
        extendable: why SOLVER.MAX_ITER cannot grow; None: it can.
    """
    changes = changed_settings(then, now)
    changes = {key: change for key, change in changes.items() if key not in free}
    tamed = {key: changes.pop(key) for key in list(changes) if _tames_losses(key)}
    for key, (before, after) in tamed.items():
        logger.warning("%s goes on with %s %r instead of %r", checkpoint, key, after, before)
    length = "SOLVER.MAX_ITER"
    longer = now.get(length, 0) > then.get(length, 0)
    if longer and extendable is None:
        changes.pop(length, None)
    if not changes:
        return tamed
    why = f" ({extendable})" if longer and extendable else ""
    raise UserError(
        f"cannot resume {checkpoint}: "
        + "; ".join(f"{key} was {a!r}, is {b!r}" for key, (a, b) in changes.items())
        + f"{why}; repeat the settings of the run, or start a new one with --output"
    )


def _tames_losses(key: str) -> bool:
    """What may have to change where a loss is not finite."""
    rates = ("LR", "BASE_LR", "WARMUP", "WARMUP_ITERS")
    return key.startswith("SOLVER.CLIP_GRADIENTS.") or key.rpartition(".")[2] in rates


def changed_settings(
    then: Mapping[str, object], now: Mapping[str, object], prefixes: Iterable[str] = ("",)
) -> Changes:
    """Key to both values, of what differs; `RESUMABLE_KEYS` and keys that `then` lacks do not."""
    return {
        key: (then[key], value)
        for key, value in now.items()
        if key in then
        and key.startswith(tuple(prefixes))
        and key not in RESUMABLE_KEYS
        and plain(then[key]) != plain(value)
    }


def comparable_baseline(
    cfg: CfgNode,
    *,
    named: Path | None,
    default: Path | None,
    trained_with: Iterable[str] = (),
    defaults: CfgNode | None = None,
) -> Path | None:
    """The run to compare with; None where there is none.

    A default that is not finished, or was scored on other images or classes, is left out.

    Args:
        named: by the user.
        default: used where none is named.
        trained_with: beginnings of the keys whose difference is worth a warning.
        defaults: of the keys that config.yaml leaves out; see `write_config`.

    Raises:
        MissingFileError: the named run is not there or not finished.
        UserError: it was scored on other images or classes.
    """
    baseline = named or default
    if baseline is None or not is_finished(baseline):
        if named is None:
            return None
        raise MissingFileError(f"no finished run '{named}' to compare with (--baseline)")
    then = ({} if defaults is None else flatten(defaults)) | settings_of(baseline)
    now = flatten(cfg)
    scored_on = {key: now[key] for key in _SCORED_ON if now.get(key)}
    unlike = _listed(changed_settings(then, scored_on))
    if unlike and named is None:
        logger.warning("%s is no baseline of this run: its %s", baseline, unlike)
        return None
    if unlike:
        raise UserError(
            f"cannot compare with {baseline}: its {unlike}: name a baseline that was scored on the "
            "same images and classes"
        )
    then["total iterations"], now["total iterations"] = map(total_iterations, (then, now))
    unlike = _listed(changed_settings(then, now, trained_with)) if trained_with else ""
    if unlike:
        logger.warning("baseline %s differs in more than the method: %s", baseline, unlike)
    return baseline


def _listed(changes: Changes) -> str:
    return "; ".join(f"{key} is {a!r}, here {b!r}" for key, (a, b) in changes.items())
