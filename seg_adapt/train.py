"""Trains, adapts and evaluates a segmentation model. Without a config: the toy pair game → real."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from shared.cli import run
except ModuleNotFoundError:
    raise SystemExit("not installed: run `pip install -e .` in the repository first") from None

import yaml
from fvcore.common.config import CfgNode

from seg_adapt.config import defaults, total_iterations
from seg_adapt.engine.checkpoint import FREE_KEYS
from seg_adapt.engine.run import Run
from seg_adapt.methods import METHODS
from shared import distributed
from shared.config import flatten, load_config
from shared.errors import MissingFileError, UserError
from shared.events import read_metrics
from shared.files import check_writable

CONFIGS = Path(__file__).parents[1] / "configs"
TOY_NOTICE = (
    "no --config-file: the toy default, game → real (made on the spot). "
    "GTA5 → Cityscapes: python seg_adapt/train.py --config-file configs/road_gta5.yaml"
)
BASELINE_METHOD = "source_only"
_SCORED_ON = ("DATASETS.TEST", "DATASETS.LABEL_SPACE")
_TRAINED_WITH = (
    *("SEED", "DATASETS.TRAIN", "INPUT", "MODEL", "LOSS"),
    *(
        "SOURCE_STAGE",
        "total iterations",
        "SOLVER.IMS_PER_BATCH",
        "SOLVER.ACCUMULATE",
        "SOLVER.MODEL",
    ),
)

logger = logging.getLogger(__name__)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="methods: " + ", ".join(METHODS),
    )
    parser.add_argument("--method", metavar="NAME", help=f"one of: {', '.join(METHODS)}")
    parser.add_argument(
        "--config-file", type=Path, metavar="FILE", help="an experiment of configs/"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: runs/<config>/<method>"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help=f"run to compare with; default: the {BASELINE_METHOD} run beside the output",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        action="append",
        default=[],
        metavar="RUN",
        help="another run whose predictions the panels show; can be repeated",
    )
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    parser.add_argument("--eval-only", action="store_true", help="score the last checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="build all, check the data, stop")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY VALUE", help="e.g. SOLVER.IMS_PER_BATCH 2"
    )
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        _main(args)
    finally:
        distributed.shut_down()
    return 0


def _main(args: argparse.Namespace) -> None:
    if args.config_file is None:
        logger.info(TOY_NOTICE)
    cfg = configure(args, args.method)
    folder = Path(cfg.OUTPUT_DIR)
    baseline = _baseline(args, cfg)
    for other in args.compare:
        if not (other / "predictions").is_dir():
            raise MissingFileError(f"no predictions in '{other}' to compare with (--compare)")
    training = not (args.eval_only or args.dry_run)
    if training and not args.resume and (folder / "checkpoints").exists():
        raise UserError(
            f"{folder} already holds a run: --resume continues it, --output names another folder"
        )
    if training:
        check_writable(folder, "--output")
    toy = args.config_file is None
    if toy and training and baseline is None and cfg.METHOD != BASELINE_METHOD:
        baseline = _train_baseline(cfg, folder.with_name(BASELINE_METHOD))
    run_ = Run(cfg, folder, baseline=baseline, compared=args.compare)
    if args.dry_run:
        run_.check()
        print("dry run: model, weights and data are in order; nothing was trained")
        return
    if args.resume or args.eval_only:
        run_.resume(required=args.eval_only)
    scores = run_.evaluate() if args.eval_only else run_.train()
    if distributed.is_main():
        chosen = "last checkpoint" if cfg.SELECTION.METHOD == "none" else "selected checkpoint"
        print(summary(scores, cfg.METHOD, folder, baseline, chosen))


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
    cfg.SELF_TRAINING.ROUNDS = 0
    cfg.freeze()
    baseline = Run(cfg, folder)
    baseline.resume()
    baseline.train()
    return folder


def configure(args: argparse.Namespace, method: str | None) -> CfgNode:
    """The config of the experiment, with its method and its folder filled in."""
    overrides = list(args.overrides)
    if method is not None:
        METHODS.get(method)
        overrides = ["METHOD", method, *overrides]
    path = args.config_file or toy_config(method)
    cfg = load_config(defaults(), path, overrides)
    METHODS.get(cfg.METHOD)
    cfg.defrost()
    cfg.OUTPUT_DIR = str(args.output or cfg.OUTPUT_DIR or Path("runs") / path.stem / cfg.METHOD)
    cfg.freeze()
    return cfg


def toy_config(method: str | None) -> Path:
    """The toy default of a method: its own where it needs one, otherwise that of all."""
    own = CONFIGS / f"toy_{method}.yaml"
    return own if own.is_file() else CONFIGS / "toy.yaml"


def _baseline(args: argparse.Namespace, cfg: CfgNode) -> Path | None:
    if args.baseline is not None:
        if not args.baseline.is_dir():
            raise MissingFileError(f"no run '{args.baseline}' to compare with (--baseline)")
        if not _finished(args.baseline):
            logger.warning("%s holds no finished run: nothing to compare with", args.baseline)
        unlike = _differences(args.baseline, cfg, _SCORED_ON)
        if unlike:
            raise UserError(
                f"cannot compare with {args.baseline}: its {'; '.join(unlike)}: name a baseline "
                "that was scored on the same images and classes"
            )
        baseline = args.baseline
    else:
        baseline = Path(cfg.OUTPUT_DIR).with_name(BASELINE_METHOD)
        if cfg.METHOD == BASELINE_METHOD or not _finished(baseline):
            return None
        unlike = _differences(baseline, cfg, _SCORED_ON)
        if unlike:
            logger.warning("%s is no baseline of this run: its %s", baseline, "; ".join(unlike))
            return None
    unlike = _differences(baseline, cfg, _TRAINED_WITH)
    if unlike:
        logger.warning("baseline %s differs in more than METHOD: %s", baseline, "; ".join(unlike))
    return baseline


def _finished(run_folder: Path) -> bool:
    """Whether the run was scored at its end, not only on the way."""
    settings = _settings(run_folder)
    end = total_iterations(settings) if settings else 0
    events = read_metrics(run_folder)
    return any(event["kind"] == "eval" and event["iteration"] >= end for event in events)


def _differences(run_folder: Path, cfg: CfgNode, prefixes: tuple[str, ...]) -> list[str]:
    then, now = _settings(run_folder), flatten(cfg)
    if then:
        then["total iterations"] = total_iterations(then)
        now["total iterations"] = total_iterations(now)
    return [
        f"{key} is {then[key]!r}, here {value!r}"
        for key, value in now.items()
        if key.startswith(prefixes) and key not in FREE_KEYS and key in then and then[key] != value
    ]


def _settings(run_folder: Path) -> dict[str, object]:
    path = run_folder / "config.yaml"
    return flatten(CfgNode(yaml.safe_load(path.read_text()))) if path.is_file() else {}


def summary(
    scores: dict, method: str, folder: Path, baseline: Path | None, chosen: str = "last checkpoint"
) -> str:
    """One line a result: mIoU by our count and by the official script, and the baseline's.

    Args:
        scores: empty where nothing was scored.
        chosen: which snapshot was scored.
    """

    def line(name: str, result: dict) -> str:
        official = result.get("official")
        by_script = f", official script {official['miou']:.2f}" if official else ""
        return f"{name}: mIoU {result['miou']:.2f}{by_script} ({result['dataset']}, {chosen})"

    lines = []
    if baseline is not None:
        before = [event for event in read_metrics(baseline) if event["kind"] == "eval"]
        lines += [line(baseline.name, event) for event in before[-1:]]
    if scores:
        lines.append(line(method, scores))
    return "\n".join([*lines, f"report: {folder / 'report.html'}"])


if __name__ == "__main__":
    run(main)
