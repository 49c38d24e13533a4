"""Trains, adapts and evaluates a detector. Without a config: the toy pair game → real."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from shared.cli import run
except ModuleNotFoundError:
    raise SystemExit("not installed: run `pip install -e .` in the repository first") from None

import torch
from fvcore.common.config import CfgNode

from det_adapt import toy
from det_adapt.data.loaders import BatchPlan
from det_adapt.engines import ENGINES, choose_engine, engine_config
from det_adapt.launch import is_launched, launch
from det_adapt.run import Run, headline
from det_adapt.run_folder import (
    CONFIGS,
    checkpoint_of,
    is_finished,
    resolve_weights,
    settings_of,
    source_config,
)
from shared import distributed
from shared.config import changed
from shared.errors import MissingFileError, UserError
from shared.events import read_metrics
from shared.files import check_writable

TOY_CONFIG = CONFIGS / "sapnet_toy.yaml"
TOY_NOTICE = (
    "no --config-file: the toy pair game → real (made on the spot). Sim10k → Cityscapes: "
    "python det_adapt/train_net.py --config-file configs/sapnet_sim10k.yaml"
)
BASELINE_NOTICE = (
    "The first is the stage that the second starts from. Source only for as long: SAP.ENABLED "
    "False and an OUTPUT_DIR, which --baseline then names."
)
DETECTRON2_DEFAULT_OUTPUT = "./output"
_SCORED_ON = ("DATASETS.TEST", "DATASETS.CLASSES")
# The source stage decides these itself.
_OF_ONE_STAGE = ("OUTPUT_DIR", "MODEL.WEIGHTS", "SAP.ENABLED")

logger = logging.getLogger(__name__)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config-file", type=Path, metavar="FILE", help="an experiment of configs/"
    )
    parser.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help=f"{', '.join(ENGINES)}; auto (default): Detectron2 where it is installed",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="run to compare with; default: the source stage that MODEL.WEIGHTS names",
    )
    parser.add_argument("--dry-run", action="store_true", help="build all, check the data, stop")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="score the run's last checkpoint; without one, the detector that MODEL.WEIGHTS names",
    )
    parser.add_argument(
        "--num-gpus", type=int, default=1, metavar="N", help="processes; on CPUs with DEVICE cpu"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY VALUE",
        help="e.g. SOLVER.MAX_ITER 100 OUTPUT_DIR runs/x",
    )
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return _main(args, sys.argv[1:] if argv is None else argv)
    finally:
        distributed.shut_down()


def _main(args: argparse.Namespace, argv: Sequence[str]) -> int:
    engine = choose_engine(args.engine)
    cfg = configure(engine, args.config_file or TOY_CONFIG, args.overrides)
    folder = Path(cfg.OUTPUT_DIR)
    begun = checkpoint_of(folder) is not None
    training, given = not args.eval_only, args.eval_only and not begun
    if training and begun and not args.resume:
        raise UserError(
            f"{folder} already holds a run: --resume continues it, OUTPUT_DIR names another"
        )
    if given and "MODEL.WEIGHTS" not in args.overrides[::2]:
        raise MissingFileError(
            f"no checkpoint in {folder} to evaluate: train first, or name one with MODEL.WEIGHTS"
        )
    if args.num_gpus > 1 and not is_launched():
        _check_processes(cfg, args.num_gpus)
    if args.dry_run:
        return _dry_run(cfg, engine, args.baseline)
    check_writable(folder, "OUTPUT_DIR")
    if args.num_gpus > 1 and not is_launched():
        return launch([__file__, *map(str, argv)], args.num_gpus)
    if args.config_file is None:
        logger.info(TOY_NOTICE)
    logger.info("engine: %s", engine)
    if training and not begun:
        _ensure_source_stage(cfg, engine, args.overrides)
    baseline = _baseline(cfg, args.baseline) if training or begun or args.baseline else None
    run_ = Run(cfg, engine, baseline=baseline, resumed=begun, trained=given)
    scores = run_.train() if training else run_.evaluate()
    if distributed.is_main():
        print(summary(scores, folder, baseline))
        if baseline is not None and baseline == Path(cfg.MODEL.WEIGHTS):
            print(BASELINE_NOTICE)
    return 0


def _dry_run(cfg: CfgNode, engine: str, baseline: Path | None) -> int:
    if _makes_source_stage(cfg):
        logger.info("the run would first train its source-only stage, %s", cfg.MODEL.WEIGHTS)
        cfg = changed(cfg, "MODEL.WEIGHTS", "")
    _baseline(cfg, baseline)
    Run(cfg, engine).check()
    print("dry run: model, weights and data are in order; nothing was trained")
    return 0


def configure(engine: str, path: Path, overrides: Sequence[str]) -> CfgNode:
    """The config of the experiment, its folder filled in."""
    cfg = engine_config(engine, path, list(overrides))
    if cfg.OUTPUT_DIR == DETECTRON2_DEFAULT_OUTPUT and "OUTPUT_DIR" not in overrides[::2]:
        cfg = changed(cfg, "OUTPUT_DIR", str(Path("runs") / path.stem))
    return cfg


def _ensure_source_stage(cfg: CfgNode, engine: str, overrides: Sequence[str]) -> None:
    """Trains a toy's source stage first where it is missing; of real data, says how it is made."""
    weights = cfg.MODEL.WEIGHTS
    if not _makes_source_stage(cfg):
        resolve_weights(weights)
        return
    logger.info("first the source-only stage: %s", weights)
    pairs = zip(overrides[::2], overrides[1::2], strict=True)
    shared = [item for key, value in pairs if key not in _OF_ONE_STAGE for item in (key, value)]
    first = configure(engine, source_config(weights), [*shared, "OUTPUT_DIR", weights])
    Run(first, engine, resumed=checkpoint_of(Path(weights)) is not None).train()


def _makes_source_stage(cfg: CfgNode) -> bool:
    weights = cfg.MODEL.WEIGHTS
    missing = source_config(weights) is not None and not is_finished(Path(weights))
    return missing and toy.is_toy(cfg)


def _baseline(cfg: CfgNode, named: Path | None) -> Path | None:
    """The run named, or the source stage; UserError or None where it was scored on other images."""
    baseline = named or Path(cfg.MODEL.WEIGHTS)
    if named is None and not (cfg.SAP.ENABLED and cfg.MODEL.WEIGHTS and is_finished(baseline)):
        return None
    if not is_finished(baseline):
        raise MissingFileError(f"no finished run '{baseline}' to compare with (--baseline)")
    then = settings_of(baseline)
    unlike = [key for key in _SCORED_ON if list(then.get(key, ())) != _plain(cfg, key)]
    if unlike == ["DATASETS.CLASSES"] and not cfg.DATASETS.CLASSES:
        unlike = []
    if not unlike:
        return baseline
    message = f"{baseline} is no baseline of this run: its {' and '.join(unlike)} differ"
    if named is not None:
        raise UserError(f"{message}; name a run that was scored on the same images and classes")
    logger.warning(message)
    return None


def _plain(cfg: CfgNode, key: str) -> list:
    node, name = key.split(".")
    return list(cfg[node][name])


def _check_processes(cfg: CfgNode, count: int) -> None:
    BatchPlan(cfg.SOLVER.IMS_PER_BATCH, 0, count)
    if cfg.MODEL.DEVICE != "cpu" and torch.cuda.device_count() < count:
        raise UserError(f"got --num-gpus {count}, this machine has {torch.cuda.device_count()}")


def summary(scores: dict, folder: Path, baseline: Path | None) -> str:
    """One line a result, and where the report is.

    Args:
        scores: empty where nothing was scored.
    """

    def line(name: str, result: dict) -> str:
        return f"{name}: {headline(result)} ({result['dataset']}, last checkpoint)"

    lines = []
    if baseline is not None:
        before = [event for event in read_metrics(baseline) if event["kind"] == "eval"]
        lines += [line(baseline.name, event) for event in before[-1:]]
    if scores:
        lines.append(line(folder.name, scores))
    return "\n".join([*lines, f"report: {folder / 'report.html'}"])


if __name__ == "__main__":
    run(main)
