"""Seconds per training step of every method on noise, and the network's peak memory.

The figure to watch is the ratio to source_only: what adaptation costs.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from seg_adapt.config import defaults
from seg_adapt.engine.build import build_method
from seg_adapt.engine.trainer import Trainer
from seg_adapt.methods import METHODS
from seg_adapt.structures import Geometry, SourceBatch, TargetBatch
from shared.config import load_config

TOY = Path(__file__).parents[1] / "configs" / "toy.yaml"


def batches(count: int, height: int, width: int) -> tuple[SourceBatch, TargetBatch]:
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
    ones = torch.ones(count)
    geometry = Geometry(0 * ones, 0 * ones, ones, ones, height * ones, width * ones)
    labels = torch.randint(0, 19, (count, height, width))
    names = tuple(map(str, range(count)))
    return SourceBatch(images, labels, geometry, names), TargetBatch(images, geometry, names)


def measure(name: str, steps: int) -> str:
    cfg = load_config(defaults(), TOY, ["METHOD", name, "SOLVER.MAX_ITER", str(steps + 1)])
    torch.manual_seed(0)
    method = build_method(cfg, 19)
    method.prepare()
    trainer = Trainer(method, cfg, device=torch.device("cpu"))
    width, height = cfg.INPUT.CROP
    batch = [(0, *batches(cfg.SOLVER.IMS_PER_BATCH, height, width))]
    trainer.step(batch)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        trainer.step(batch)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{name:12} {wall / steps:8.3f} s {cpu / steps:8.3f} CPU-s {peak:8.0f} MB"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--method", choices=list(METHODS), help="this one, in this process")
    args = parser.parse_args(argv)
    if args.method:
        print(measure(args.method, args.steps))
        return 0
    for name in METHODS:
        # A process of its own: peak memory only ever grows.
        subprocess.run(
            [sys.executable, __file__, "--method", name, "--steps", str(args.steps)], check=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
