"""Trains, adapts and evaluates a detector. Without a config: the toy pair game → real."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

try:
    from shared.cli import Parser, run
except ImportError as error:
    raise SystemExit(f"{error}: run `pip install -e .`, or another 'shared' hides ours") from None

import torch
from fvcore.common.config import CfgNode

from det_adapt import toy
from det_adapt.config import adapts
from det_adapt.engines import ENGINES, choose_engine, engine_config, engine_defaults
from det_adapt.run import Run
from det_adapt.source_stage import resolve_weights, source_config
from shared import distributed
from shared.config import CONFIGS, changed, flatten, read_experiment
from shared.errors import MissingFileError, UserError
from shared.extensions import KEY as IMPORTS
from shared.extensions import add_import_option
from shared.files import check_writable
from shared.run.command import (
    check_compared,
    machines_of,
    run_training,
    train_parser,
)
from shared.run.folder import (
    check_new,
    checkpoint_of,
    comparable_baseline,
    is_finished,
    settings_of,
)
from shared.run.launch import Machines, launch
from shared.slots import share

TOY_CONFIG = CONFIGS / "sapnet_toy.yaml"
TOY_NOTICE = (
    "no --config-file: the toy pair game → real (made on the spot). Sim10k → Cityscapes: "
    "street-adapt train --config-file sapnet_sim10k"
)
BASELINE_NOTICE = (
    "The first is the stage that the second starts from. Source only for as long: {} False and "
    "another --output, which --baseline then names."
)
DETECTRON2_DEFAULT_OUTPUT = "./output"
# Beginnings of the keys that a fair baseline has in common with the run.
_TRAINED_WITH = (
    *("SEED", "DATASETS.TRAIN", "INPUT", "MODEL", "total iterations"),
    *("SOLVER.IMS_PER_BATCH", "SOLVER.ACCUMULATE", "SOLVER.BASE_LR", "SOLVER.OPTIMIZER"),
)
# The source stage decides these itself.
_OF_ONE_STAGE = ("OUTPUT_DIR", "MODEL.WEIGHTS", "SAP.ENABLED", "DA_FASTER.ENABLED")

logger = logging.getLogger(__name__)


def parser() -> Parser:
    parser = train_parser(
        __doc__,
        epilog="--eval-only without a run scores the detector that MODEL.WEIGHTS names.",
        output="runs/<config>",
        baseline="the source stage that MODEL.WEIGHTS names",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help=f"{', '.join(ENGINES)}; auto (default): Detectron2 where it is installed",
    )
    add_import_option(parser, "of a run that goes on, what it recorded; else none")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_training(parser(), _main, argv)


def _main(args: argparse.Namespace, argv: Sequence[str]) -> int:
    engine = choose_engine(args.engine)
    path = Path(args.config_file or TOY_CONFIG)
    output = [] if args.output is None else ["OUTPUT_DIR", str(args.output)]
    overrides = [*args.overrides, *output]
    imports = args.imports
    if not imports and (args.resume or args.eval_only):
        unchecked = read_experiment(path) | dict(zip(overrides[::2], overrides[1::2], strict=False))
        imports = settings_of(_folder(path, unchecked)).get(IMPORTS, [])
    cfg = configure(engine, path, overrides, imports)
    folder = Path(cfg.OUTPUT_DIR)
    check_compared(args.compare)
    begun = checkpoint_of(folder) is not None
    training, given = not args.eval_only, args.eval_only and not begun
    if training and not args.resume and not args.dry_run:
        check_new(folder)
    if given and "MODEL.WEIGHTS" not in args.overrides[::2]:
        raise MissingFileError(
            f"no checkpoint in {folder} to evaluate: train first, or name one with MODEL.WEIGHTS"
        )
    machines = machines_of(args)
    if machines.to_launch:
        _check_processes(cfg, machines)
    if args.dry_run:
        return _dry_run(cfg, engine, args.baseline)
    check_writable(folder, "--output")
    if machines.to_launch:
        return launch([__file__, *map(str, argv)], machines)
    if args.config_file is None:
        logger.info(TOY_NOTICE)
    logger.info("engine: %s", engine)
    if training and not begun:
        _ensure_source_stage(cfg, engine, args.overrides)
    baseline = _baseline(cfg, engine, args.baseline) if training or begun or args.baseline else None
    run_ = Run(cfg, engine, baseline=baseline, compared=args.compare, resumed=begun, trained=given)
    scores = run_.train() if training else run_.evaluate(describe=given)
    if distributed.is_main():
        print(run_.summary(scores))
        if baseline is not None and baseline == Path(cfg.MODEL.WEIGHTS):
            keys = ("SAP.ENABLED", "DA_FASTER.ENABLED")
            values = flatten(cfg)
            print(BASELINE_NOTICE.format(" False ".join(key for key in keys if values[key])))
    return 0


def _dry_run(cfg: CfgNode, engine: str, baseline: Path | None) -> int:
    if _makes_source_stage(cfg):
        logger.info("the run would first train its source-only stage, %s", cfg.MODEL.WEIGHTS)
        cfg = changed(cfg, "MODEL.WEIGHTS", "")
    _baseline(cfg, engine, baseline)
    Run(cfg, engine).check()
    print("dry run: model, weights and data are in order; nothing was trained")
    return 0


def configure(
    engine: str, path: Path, overrides: Sequence[str], imports: Sequence[str] = ()
) -> CfgNode:
    """The config of the experiment, its folder filled in."""
    cfg = engine_config(engine, path, list(overrides), imports)
    if cfg.OUTPUT_DIR == DETECTRON2_DEFAULT_OUTPUT and "OUTPUT_DIR" not in overrides[::2]:
        cfg = changed(cfg, "OUTPUT_DIR", str(_folder(path, {})))
    return cfg


def _folder(path: Path, settings: Mapping[str, object]) -> Path:
    """The run's folder, from an experiment's keys."""
    return Path(settings.get("OUTPUT_DIR", Path("runs") / path.stem))


def _ensure_source_stage(cfg: CfgNode, engine: str, overrides: Sequence[str]) -> None:
    """Trains a toy's source stage first where it is missing; of real data, says how it is made."""
    weights = cfg.MODEL.WEIGHTS
    if not _makes_source_stage(cfg):
        resolve_weights(weights)
        return
    logger.info("first the source-only stage: %s", weights)
    pairs = zip(overrides[::2], overrides[1::2], strict=True)
    shared = [item for key, value in pairs if key not in _OF_ONE_STAGE for item in (key, value)]
    first = configure(engine, source_config(weights), [*shared, "OUTPUT_DIR", weights], cfg.IMPORTS)
    Run(first, engine, resumed=checkpoint_of(Path(weights)) is not None).train()


def _makes_source_stage(cfg: CfgNode) -> bool:
    weights = cfg.MODEL.WEIGHTS
    missing = source_config(weights) is not None and not _usable(Path(weights))
    return missing and toy.is_toy(cfg)


def _usable(run: Path) -> bool:
    return checkpoint_of(run) is not None and is_finished(run)


def _baseline(cfg: CfgNode, engine: str, named: Path | None) -> Path | None:
    """The run named, or the source stage; that is shorter by nature, so without a warning."""
    start = Path(cfg.MODEL.WEIGHTS) if adapts(cfg) and cfg.MODEL.WEIGHTS else None
    trained_with = () if named is None else _TRAINED_WITH
    return comparable_baseline(
        cfg,
        named=named,
        default=start,
        trained_with=trained_with,
        defaults=engine_defaults(engine),
    )


def _check_processes(cfg: CfgNode, machines: Machines) -> None:
    share("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH, machines.world_size)
    if cfg.MODEL.DEVICE != "cpu" and torch.cuda.device_count() < machines.processes:
        raise UserError(
            f"got --num-gpus {machines.processes}, this machine has {torch.cuda.device_count()}"
        )


if __name__ == "__main__":
    run(main)
