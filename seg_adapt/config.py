"""The configuration of an experiment: the keys of `seg_adapt/options.py` and of every method."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fvcore.common.config import CfgNode

from seg_adapt.methods import METHODS
from seg_adapt.options import ExperimentOptions
from shared import extensions
from shared.config import changed, read_experiment
from shared.errors import UserError
from shared.run.command import load_experiment


def defaults() -> CfgNode:
    """A fresh tree of defaults; `shared.config.load_config` lays a YAML and overrides over it."""
    cfg = CfgNode()
    ExperimentOptions().add_keys(cfg)
    for name in METHODS:
        METHODS.get(name).options_type().add_keys(cfg)
    return cfg


def load(
    path: str | Path | None, overrides: Sequence[str] = (), imports: Iterable[str] = ()
) -> CfgNode:
    """The config of an experiment, whose own modules are imported: they may declare keys.

    Args:
        path: a file or the name of an experiment; None: the defaults.
        overrides: `KEY VALUE` pairs.
        imports: modules beside those that `IMPORTS` names.
    """
    unchecked = {} if path is None else read_experiment(path)
    recorded = extensions.import_named(unchecked, overrides, imports)
    cfg = load_experiment("segmentation", defaults(), path, overrides)
    return changed(cfg, extensions.KEY, recorded)


def check(cfg: CfgNode) -> None:
    """UserError for a value that has the right type but that no run can use.

    The keys of the method are checked where it is built.
    """
    ExperimentOptions.from_config(cfg)
    if not cfg.SOLVER.MAX_ITER:
        raise UserError("SOLVER.MAX_ITER is 0, expected at least 1")
