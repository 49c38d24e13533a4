"""The official Cityscapes instance scores: the script itself against its matching in processes.

Both read the same prediction files. The script's reading of the ground truth is part of its time;
so is the start of the processes of ours. Processor time is that of all processes.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np
import torch

from det_adapt.evaluation.cityscapes import CityscapesEvaluation, score_files
from det_adapt.structures import Detections
from shared.cityscapes_scripts import load_script
from shared.data.catalog import load_detection
from shared.data.cityscapes import CITYSCAPES_THINGS, read_instance_ids
from shared.data.records import DetectionRecord
from shared.toy.layouts import make_toy


def predictions(record: DetectionRecord, count: int, seed: int) -> Detections:
    """True masks of the frame, moved by up to eight pixels, with random scores."""
    rng = np.random.default_rng(seed)
    ids = read_instance_ids(record.instances)
    masks = np.zeros((count, *ids.shape), bool)
    classes = np.zeros(count, np.int64)
    for i in range(count if record.annotations else 0):
        thing = record.annotations[i % len(record.annotations)]
        masks[i] = np.roll(ids == thing.instance, rng.integers(-8, 9, 2), (0, 1))
        classes[i] = CITYSCAPES_THINGS.index(thing.category)
    return Detections(
        torch.zeros(count, 4),
        torch.from_numpy(rng.random(count).astype(np.float32)).sort(descending=True).values,
        torch.from_numpy(classes),
        torch.from_numpy(masks),
    )


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start, self.busy = time.perf_counter(), sum(os.times()[:4])

    def __str__(self) -> str:
        busy = sum(os.times()[:4]) - self.busy
        return f"{time.perf_counter() - self.start:7.1f} s, processor {busy:7.1f} s"


def run_script(folder: Path, truths: Sequence[Path], texts: Sequence[Path], found: Path) -> dict:
    """The result of the whole script; what it writes besides goes into `folder`."""
    folder.mkdir()
    script = load_script("evalInstanceLevelSemanticLabeling")
    script.args.gtInstancesFile = str(folder / "gtInstances.json")
    script.args.predictionPath, script.args.JSONOutput = str(found), False
    with chdir(folder):
        return script.evaluateImgLists([*map(str, texts)], [*map(str, truths)], script.args)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--predictions", type=int, default=30, help="in a frame")
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), help="height, width")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        height, width = args.size
        frames = {"count": 1, "val_count": args.frames, "height": height, "width": width}
        make_toy(folder, ["cityscapes"], **frames, workers=0, progress=False)
        data = load_detection("toy_cityscapes_det_val", folder, labeled=True)
        found = folder / "found"
        print(f"{args.frames} frames of {width}×{height}, {args.predictions} predictions in each")
        clock, writing = Clock(), CityscapesEvaluation(data, found)
        for i, record in enumerate(data.records):
            writing.update(record.name, predictions(record, args.predictions, i))
        print(f"  predicting and writing  {clock}")
        truths = [record.instances for record in data.records]
        texts = [found / f"{record.name}.txt" for record in data.records]
        clock = Clock()
        expected = run_script(folder / "script", truths, texts, found)
        print(f"  official script         {clock}", flush=True)
        for workers in args.workers:
            clock = Clock()
            result = score_files(truths, texts, found, workers)
            equal = json.dumps(result, sort_keys=True) == json.dumps(expected, sort_keys=True)
            said = "equal" if equal else "DIFFERENT"
            print(f"  ours, {workers:2} processes      {clock}, {said}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
