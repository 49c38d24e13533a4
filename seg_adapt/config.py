"""The configuration of an experiment: the keys of `seg_adapt/options.py` and of every method."""

from fvcore.common.config import CfgNode

from seg_adapt.methods import METHODS
from seg_adapt.options import ExperimentOptions
from shared.errors import UserError


def defaults() -> CfgNode:
    """A fresh tree of defaults; `shared.config.load_config` lays a YAML and overrides over it."""
    cfg = CfgNode()
    ExperimentOptions().add_keys(cfg)
    for name in METHODS:
        METHODS.get(name).options_type().add_keys(cfg)
    return cfg


def check(cfg: CfgNode) -> None:
    """UserError for a value that has the right type but that no run can use.

    The keys of the method are checked where it is built.
    """
    ExperimentOptions.from_config(cfg)
    if not cfg.SOLVER.MAX_ITER:
        raise UserError("SOLVER.MAX_ITER is 0, expected at least 1")
