"""Do they adapt? Every method on toy pairs, several seeds, against source only and an oracle.

Each finished run leaves one JSON file in benchmarks/results/adaptation/SUITE, and is not repeated
while that lies there; an interrupted one is continued from its checkpoint. `--write` brings the
tables and plots of docs/results.md up to date.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from color_transfer import TRANSFERS, score_transferred
from fvcore.common.config import CfgNode
from results_page import write_page
from suites import REFERENCE, SUITES, Row, Suite

from shared.config import flatten
from shared.events import read_metrics
from shared.files import write_atomically

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "adaptation"
SEEDS = (0, 1, 2)  # every choice was made on other seeds


def run(name: str, row: Row, seed: int, runs: Path, results: Path = RESULTS) -> None:
    """Trains and scores one row of the suite `name` with one seed, unless its result is there."""
    suite = SUITES[name]
    path = results / name / f"{row.name}_seed{seed}.json"
    if path.is_file():
        print(f"{name}/{path.name}: there already")
        return
    folder = runs / name / f"seed{seed}" / row.name
    folder.mkdir(parents=True, exist_ok=True)
    arguments = suite.command(row, seed, folder)
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
        raise SystemExit(f"{name}, {row.name}, seed {seed}, failed: see {folder / 'log.txt'}")
    scored = [event for event in read_metrics(folder) if event["kind"] == "eval"]
    environment = json.loads((folder / "environment.json").read_text())
    result = {
        "row": row.name,
        "seed": seed,
        "command": " ".join(["python", *arguments]).replace(str(folder.parent), "runs"),
        "revision": environment["revision"],
        "dirty": environment["dirty"],
        "cpu_seconds": round(seconds, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
        "stages": {event["stage"]: event[suite.measures[0].mean] for event in scored},
        "iterations": scored[-1]["iteration"],
        **suite.read(scored[-1]),
        "settings": settings(suite, folder),
    }
    if name == "segmentation" and row.name == REFERENCE:
        result["transferred"] = {
            name: score_transferred(folder / "checkpoints" / "last.pt", name) for name in TRANSFERS
        }
    _write(path, result)
    first = suite.measures[0]
    print(f"{name}/{path.name}: {first.title} {result[first.mean]:.2f}, {seconds:.0f} CPU-s")


def settings(suite: Suite, folder: Path) -> dict:
    """Every key of a finished run that differs from its default."""
    stored = flatten(CfgNode(yaml.safe_load((folder / "config.yaml").read_text())))
    plain = flatten(suite.defaults())
    return {
        key: value
        for key, value in stored.items()
        if plain.get(key) != value and key not in suite.places
    }


def _add_seconds(path: Path, seconds: float) -> float:
    """What a run took so far, with the processes that were interrupted."""
    before = float(path.read_text()) if path.is_file() else 0.0
    write_atomically(path, str(before + seconds).encode())
    return before + seconds


def _write(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())


def _batches(suite: Suite, rows: Sequence[str]) -> list[list[Row]]:
    """What others start from or are compared with first."""
    chosen = [row for row in suite.rows if not rows or row.name in rows]
    needed = {row.after for row in chosen} | {REFERENCE}
    start = [row for row in chosen if row.name in needed and row.after is None]
    return [start, [row for row in chosen if row not in start]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", nargs="+", default=list(SUITES), choices=list(SUITES))
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs" / "adaptation")
    parser.add_argument("--write", action="store_true", help="only write docs/results.md")
    args = parser.parse_args(argv)
    if not args.write:
        with ThreadPoolExecutor(args.jobs) as pool:
            plans = [(name, _batches(SUITES[name], args.rows)) for name in args.suites]
            for turn in (0, 1):
                jobs = [
                    pool.submit(run, name, row, seed, args.runs)
                    for name, batches in plans
                    for seed in args.seeds
                    for row in batches[turn]
                ]
                for job in jobs:
                    job.result()
    write_page(RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
