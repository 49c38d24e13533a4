"""The command line of both `train` scripts: one parser, one set of words."""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from shared import distributed
from shared.cli import Parser
from shared.config import find_config, load_config
from shared.errors import MissingFileError, UserError
from shared.run.launch import Machines

_ONLY_SEGMENTATION = {"METHOD", "SOURCE_STAGE", "SELF_TRAINING", "SELECTION", "LOSS"}
_ONLY_DETECTION = {"VERSION", "VIS_PERIOD", "CUDNN_BENCHMARK"}


def train_parser(description: str, *, epilog: str, output: str, baseline: str) -> Parser:
    """The options that both halves have.

    Args:
        output, baseline: what these are where they are not given.
    """
    parser = Parser(description=description, epilog=epilog)
    add = parser.add_argument
    add("--config-file", metavar="FILE", help="an experiment of configs/, by name or path")
    add("--output", type=Path, metavar="DIR", help=f"the run's folder; default: {output}")
    add(
        "--baseline",
        type=Path,
        metavar="RUN",
        help=f"run to compare with; default: {baseline}",
    )
    add(
        "--compare",
        type=Path,
        action="append",
        default=[],
        metavar="RUN",
        help="another run whose predictions the panels show; can be repeated",
    )
    add("--resume", action="store_true", help="continue from the last checkpoint")
    add("--eval-only", action="store_true", help="score the last checkpoint, train nothing")
    add("--dry-run", action="store_true", help="build all, check the data, stop")
    add("--num-gpus", type=int, default=1, metavar="N", help="processes; on a CPU too")
    add("--num-machines", type=int, default=1, metavar="N")
    add("--machine-rank", type=int, default=0, metavar="R", help="of this machine, from 0")
    add("--dist-url", default="auto", metavar="URL", help="tcp://host:port of machine 0")
    add("overrides", nargs="*", metavar="KEY VALUE", help="e.g. SOLVER.IMS_PER_BATCH 2")
    return parser


def run_training(
    parser: Parser,
    start: Callable[[argparse.Namespace, Sequence[str]], int],
    argv: Sequence[str] | None,
) -> int:
    """Parses `argv` (None: the command line), calls `start` with both, ends its process group."""
    args = parser.parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return start(args, sys.argv[1:] if argv is None else argv)
    finally:
        distributed.shut_down()


def machines_of(args: argparse.Namespace) -> Machines:
    """What --num-gpus and its neighbors ask for."""
    return Machines(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)


def load_experiment(
    half: str,
    defaults: CfgNode,
    path: Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    **options: Any,
) -> CfgNode:
    """`load_config`; a file of the other half is answered with the right command.

    Args:
        half: segmentation or detection.
        options: of `load_config`.
    """
    try:
        return load_config(defaults, path, overrides, **options)
    except UserError:
        other = None if isinstance(path, Mapping) else half_of(path)
        if other in (None, half):
            raise
    raise UserError(f"{path} is an experiment of {other}: street-adapt train --config-file {path}")


def half_of(path: Path) -> str | None:
    """'segmentation' or 'detection', by an experiment's keys; None where that is unclear."""
    try:
        keys = CfgNode.load_yaml_with_base(str(find_config(path)))
    except (OSError, yaml.YAMLError, TypeError, AttributeError, AssertionError, RecursionError):
        return None
    model = keys.get("MODEL")
    model = set(model) if isinstance(model, dict) else set()
    if keys.keys() & _ONLY_SEGMENTATION or "ARCHITECTURE" in model:
        return "segmentation"
    if keys.keys() & _ONLY_DETECTION or "META_ARCHITECTURE" in model:
        return "detection"
    return None


def check_compared(runs: Sequence[Path]) -> None:
    """MissingFileError where a run of --compare has no predictions."""
    for run in runs:
        if not (run / "predictions").is_dir():
            raise MissingFileError(f"no predictions in '{run}' to compare with (--compare)")
