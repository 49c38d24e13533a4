"""Trains, adapts and evaluates a segmentation model. Without a config: the toy pair game → real."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

try:
    from shared.cli import Parser, run
except ImportError as error:
    raise SystemExit(f"{error}: run `pip install -e .`, or another 'shared' hides ours") from None

from fvcore.common.config import CfgNode

from seg_adapt.config import load
from seg_adapt.engine.build import batch_plan
from seg_adapt.engine.run import Run
from seg_adapt.methods import METHODS
from shared import distributed, extensions
from shared.config import CONFIGS, read_experiment
from shared.errors import UserError
from shared.files import check_writable
from shared.run.command import check_compared, machines_of, run_training, train_parser
from shared.run.folder import check_new, comparable_baseline, settings_of
from shared.run.launch import launch

TOY_NOTICE = (
    "no --config-file: the toy default, game → real (made on the spot). "
    "GTA5 → Cityscapes: street-adapt train --config-file road_gta5"
)
BASELINE_METHOD = "source_only"
# Beginnings of the keys that a fair baseline has in common with the run.
_TRAINED_WITH = (
    *("SEED", "DATASETS.TRAIN", "INPUT", "MODEL", "LOSS", "SOURCE_STAGE", "total iterations"),
    *("SOLVER.IMS_PER_BATCH", "SOLVER.ACCUMULATE", "SOLVER.MODEL"),
)

logger = logging.getLogger(__name__)


def parser() -> Parser:
    parser = train_parser(
        __doc__,
        epilog="methods: " + ", ".join(METHODS),
        output="runs/<config>/<method>",
        baseline=f"the {BASELINE_METHOD} run beside the output",
    )
    parser.add_argument("--method", metavar="NAME", help=f"one of: {', '.join(METHODS)}")
    extensions.add_import_option(parser, "of a run that goes on, what it recorded; else none")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_training(parser(), _main, argv)


def _main(args: argparse.Namespace, argv: Sequence[str]) -> int:
    toy = args.config_file is None
    if toy:
        logger.info(TOY_NOTICE)
    cfg = configure(args)
    folder = Path(cfg.OUTPUT_DIR)
    check_compared(args.compare)
    # A trained run that is scored on other data keeps its own scores, predictions and report.
    tested = settings_of(folder).get("DATASETS.TEST", cfg.DATASETS.TEST)
    elsewhere = args.eval_only and tested != cfg.DATASETS.TEST
    place = f"test_{Path(cfg.DATASETS.TEST).stem}" if elsewhere else "."
    cfg = with_folder(cfg, folder / place)
    baseline = comparable_baseline(
        cfg,
        named=args.baseline,
        default=None
        if cfg.METHOD == BASELINE_METHOD
        else folder.with_name(BASELINE_METHOD) / place,
        trained_with=_TRAINED_WITH,
    )
    training = not (args.eval_only or args.dry_run)
    if training:
        if not args.resume:
            check_new(folder)
        check_writable(folder, "--output")
    machines = machines_of(args)
    if machines.to_launch:
        batch_plan(cfg, 0, machines.world_size)
        if not args.dry_run:
            return launch([__file__, *map(str, argv)], machines)
    if toy and training and baseline is None and cfg.METHOD != BASELINE_METHOD:
        baseline = _train_baseline(cfg, folder.with_name(BASELINE_METHOD))
    run_ = Run(cfg, baseline=baseline, compared=args.compare)
    if args.dry_run:
        run_.check()
        print("dry run: model, weights and data are in order; nothing was trained")
        return 0
    if args.resume or args.eval_only:
        run_.resume(to_score=folder if args.eval_only else None)
    scores = run_.evaluate(describe=elsewhere) if args.eval_only else run_.train()
    if distributed.is_main():
        print(run_.summary(scores))
    return 0


def _train_baseline(cfg: CfgNode, folder: Path) -> Path:
    if folder == Path(cfg.OUTPUT_DIR):
        raise UserError(
            f"--output {folder} is where the baseline goes, which is trained first: "
            "name another folder, or an existing baseline with --baseline"
        )
    logger.info("first the baseline without adaptation: %s", folder)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.METHOD, cfg.OUTPUT_DIR = BASELINE_METHOD, str(folder)
    # Self-training sees the target: the baseline trains as long without it.
    cfg.SOLVER.MAX_ITER += cfg.SELF_TRAINING.ROUNDS * cfg.SELF_TRAINING.ITERATIONS
    cfg.SELF_TRAINING.ROUNDS, cfg.SELECTION.METHOD = 0, "none"
    cfg.freeze()
    baseline = Run(cfg)
    baseline.resume()
    baseline.train()
    return folder


def configure(args: argparse.Namespace) -> CfgNode:
    """The config of the experiment, with its method and its folder filled in."""
    overrides = list(args.overrides)
    if args.method is not None:
        overrides = ["METHOD", args.method, *overrides]
    if dict(zip(overrides[::2], overrides[1::2], strict=False)).get("METHOD") == BASELINE_METHOD:
        # Whatever the file does with the target; who overrides these keys himself gets his way.
        overrides = ["SELF_TRAINING.ROUNDS", "0", "SELECTION.METHOD", "none", *overrides]
    path = Path(args.config_file or toy_config(args.method))
    imports = args.imports
    if not imports and (args.resume or args.eval_only):
        # Its method may be one of them, so they come before the config.
        pairs = dict(zip(overrides[::2], overrides[1::2], strict=False))
        unchecked = read_experiment(path) | pairs
        imports = settings_of(_folder(args, path, unchecked)).get(extensions.KEY, [])
    cfg = load(path, overrides, imports)
    METHODS.get(cfg.METHOD)
    return with_folder(cfg, _folder(args, path, cfg))


def with_folder(cfg: CfgNode, folder: Path) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(folder)
    cfg.freeze()
    return cfg


def _folder(args: argparse.Namespace, path: Path, settings: Mapping[str, object]) -> Path:
    """The run's folder, from an experiment's top-level keys."""
    default = Path("runs") / path.stem / settings.get("METHOD", BASELINE_METHOD)
    return Path(args.output or settings.get("OUTPUT_DIR") or default)


def toy_config(method: str | None) -> Path:
    """The toy default of a method: its own where it needs one, otherwise that of all."""
    own = CONFIGS / f"toy_{method}.yaml"
    return own if own.is_file() else CONFIGS / "toy.yaml"


if __name__ == "__main__":
    run(main)
