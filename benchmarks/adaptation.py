"""Do they adapt? Every method on a toy pair, several seeds, against source only and an oracle.

Each finished run leaves one JSON file in benchmarks/results/adaptation, and is not repeated while
that lies there; an interrupted one is continued from its checkpoint. `--write` brings the table and
the plot of docs/results.md up to date.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml
from color_transfer import TRANSFERS, score_transferred
from fvcore.common.config import CfgNode
from results_page import write_page

from seg_adapt.config import defaults
from shared.config import flatten
from shared.events import read_metrics
from shared.files import write_atomically

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "adaptation"
SEEDS = (0, 1, 2)  # every choice was made on other seeds
# What says where and how fast, not what.
_PLACES = ("OUTPUT", "DEVICE", "DATA.ROOT", "DATA.CACHE", "DATA.WORKERS", "TEST.OFFICIAL")


@dataclass(frozen=True)
class Row:
    """One line of the table: a method and the settings it differs in from the toy default."""

    name: str
    method: str
    overrides: tuple[str, ...] = ()


ROWS = (
    Row("source_only", "source_only"),
    # Target images pass through the network's BatchNorm, and nothing else is learned from them.
    Row(
        "statistics",
        "road",
        ("ROAD.DISTILLATION_WEIGHT", "0.0", "ROAD.SPATIAL_WEIGHT", "0.0"),
    ),
    Row("adaptseg", "adaptseg"),
    Row("fcn_wild", "fcn_wild"),
    Row("road", "road"),
    Row("plca", "plca"),
    Row("sapnet", "sapnet"),
    Row("dast", "dast"),
    Row("oracle", "source_only", ("DATA.SOURCE", "toy_real_train")),
)


def command(row: Row, seed: int, folder: Path) -> list[str]:
    """What is run, relative to the repository."""
    return [
        *("seg_adapt/train.py", "--method", row.method, "--output", str(folder), "--resume"),
        *("SEED", str(seed), "DATA.WORKERS", "0", "TEST.OFFICIAL", "False", *row.overrides),
    ]


def run(row: Row, seed: int, runs: Path, results: Path = RESULTS) -> None:
    """Trains and scores one row with one seed, unless its result is there."""
    path = results / f"{row.name}_seed{seed}.json"
    if path.is_file():
        print(f"{path.name}: there already")
        return
    folder = runs / f"seed{seed}" / row.name
    folder.mkdir(parents=True, exist_ok=True)
    arguments = command(row, seed, folder)
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = _add_seconds(folder / "cpu_seconds", usage.ru_utime + usage.ru_stime)
    if status:
        raise SystemExit(f"{row.name}, seed {seed}, failed: see {folder / 'log.txt'}")
    scored = [event for event in read_metrics(folder) if event["kind"] == "eval"]
    environment = json.loads((folder / "environment.json").read_text())
    result = {
        "row": row.name,
        "seed": seed,
        "command": " ".join(["python", *arguments]).replace(str(folder), f"runs/{row.name}"),
        "revision": environment["revision"],
        "dirty": environment["dirty"],
        "cpu_seconds": round(seconds, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
        "stages": {event["stage"]: event["miou"] for event in scored},
        "iterations": scored[-1]["iteration"],
        "miou": scored[-1]["miou"],
        "iou": scored[-1]["iou"],
        "settings": settings(folder),
    }
    if row.name == "source_only":
        result["transferred"] = {
            name: score_transferred(folder / "checkpoints" / "last.pt", name) for name in TRANSFERS
        }
    _write(path, result)
    print(f"{path.name}: mIoU {result['miou']:.2f}, {result['cpu_seconds']:.0f} CPU-s")


def settings(folder: Path) -> dict:
    """Every key of a finished run that differs from its default."""
    stored = flatten(CfgNode(yaml.safe_load((folder / "config.yaml").read_text())))
    plain = flatten(defaults())
    return {
        key: value
        for key, value in stored.items()
        if plain.get(key) != value and key not in _PLACES
    }


def _add_seconds(path: Path, seconds: float) -> float:
    """What a run took so far, with the processes that were interrupted."""
    before = float(path.read_text()) if path.is_file() else 0.0
    write_atomically(path, str(before + seconds).encode())
    return before + seconds


def _write(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", default=[row.name for row in ROWS], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs" / "adaptation")
    parser.add_argument("--write", action="store_true", help="only write docs/results.md")
    args = parser.parse_args(argv)
    rows = [row for row in ROWS if row.name in args.rows]
    if not args.write:
        # Source only first: it is the baseline of the others' reports.
        first = [row for row in rows if row.name == "source_only"]
        others = [row for row in rows if row.name != "source_only"]
        with ThreadPoolExecutor(args.jobs) as pool:
            for batch in (first, others):
                jobs = [
                    pool.submit(run, row, seed, args.runs) for seed in args.seeds for row in batch
                ]
                for job in jobs:
                    job.result()
    write_page(RESULTS, [row.name for row in ROWS])
    return 0


if __name__ == "__main__":
    sys.exit(main())
