"""The folder of a run: where its checkpoint is, and with which settings it was made."""

from pathlib import Path

import yaml
from fvcore.common.config import CfgNode

from det_adapt.config import defaults
from shared.config import dump_changed, flatten, plain
from shared.errors import MissingFileError, UserError
from shared.events import read_metrics

CONFIG = "config.yaml"
CONFIGS = Path(__file__).parents[1] / "configs"
# Keys that change neither what is learned nor how a resumed run continues.
FREE_KEYS = (
    "OUTPUT_DIR",
    "MODEL.DEVICE",
    "DATASETS.ROOT",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_PERIOD",
)


def checkpoint_of(run: Path) -> Path | None:
    """The last checkpoint in a run's folder, of either engine; None where there is none."""
    ours = run / "checkpoints" / "last.pt"
    if ours.is_file():
        return ours
    pointer = run / "last_checkpoint"  # Detectron2's
    if pointer.is_file():
        return run / pointer.read_text().strip()
    return None


def write_config(run: Path, cfg: CfgNode, tree: CfgNode) -> None:
    """config.yaml, itself an experiment file: what differs from the defaults in `tree`."""
    run.mkdir(parents=True, exist_ok=True)
    (run / CONFIG).write_text(dump_changed(cfg, tree))


def settings_of(run: Path) -> dict[str, object]:
    """Keys of both engines with their values in a run; of one engine alone, those in its
    config.yaml. Empty without one."""
    return flatten(defaults()) | changes_of(run) if (run / CONFIG).is_file() else {}


def changes_of(run: Path) -> dict[str, object]:
    """Keys and values of a run's config.yaml."""
    return flatten(CfgNode(yaml.safe_load((run / CONFIG).read_text())))


def is_finished(run: Path) -> bool:
    """Whether the run was trained to its end and has a checkpoint."""
    if checkpoint_of(run) is None:
        return False
    end = settings_of(run).get("SOLVER.MAX_ITER", 0)
    return any(event["iteration"] >= end for event in read_metrics(run))


def resolve_weights(weights: str) -> str:
    """MODEL.WEIGHTS with the folder of a run replaced by its last checkpoint.

    Raises:
        MissingFileError: there is no such run; the message has the command that makes it.
        UserError: it was not trained to its end.
    """
    if weights in ("", "torchvision") or "://" in weights or Path(weights).is_file():
        return weights
    path = Path(weights)
    if path.suffix in (".pt", ".pth", ".pkl"):
        raise MissingFileError(f"no file '{weights}' (MODEL.WEIGHTS)")
    found = checkpoint_of(path)
    config = source_config(weights)
    command = f"python det_adapt/train_net.py --config-file configs/{config.name}" if config else ""
    if found is not None and settings_of(path) and not is_finished(path):
        hint = f" ({command} --resume)" if command else ""
        raise UserError(
            f"MODEL.WEIGHTS is '{weights}', a run that was not trained to its end: resume it"
            f"{hint}, or name its checkpoint {found}"
        )
    if found is not None:
        return str(found)
    hint = (
        f"make it with: {command}"
        if command
        else "expected a file, the folder of a run, torchvision, or '' to train from scratch"
    )
    raise MissingFileError(f"MODEL.WEIGHTS is '{weights}', where there is no checkpoint; {hint}")


def source_config(weights: str) -> Path | None:
    """The experiment that fills the folder `runs/<name>`; None where none does."""
    config = CONFIGS / f"{Path(weights).name}.yaml"
    return config if weights and config.is_file() else None


def check_same_run(run: Path, cfg: CfgNode, tree: CfgNode) -> None:
    """UserError where a run was begun with other settings, which change what is learned.

    Args:
        tree: the engine's keys at their defaults.
    """
    if not (run / CONFIG).is_file():
        return
    then = flatten(tree) | changes_of(run)
    changed = [
        f"{key} was {then[key]!r}, is {value!r}"
        for key, value in flatten(cfg).items()
        if key not in FREE_KEYS and plain(then[key]) != plain(value)
    ]
    if changed:
        raise UserError(
            f"cannot resume {run}: {'; '.join(changed)}; repeat the settings of the run, or start "
            "a new one with OUTPUT_DIR"
        )
