"""What adaptation costs: a SAPNet step against a source-only step of the same engine.

Noise images with random boxes; forward, backward and Adam on the CPU, one thread. Each form runs in
a process of its own, since peak memory only ever grows.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import nn

from det_adapt.data.samples import resized_size
from det_adapt.engines import build_trainer, choose_engine, engine_config
from det_adapt.structures import Sample

REPOSITORY = Path(__file__).parents[1]
FORMS = {"source only": "False", "SAPNet": "True"}
FILE_SIZE = (1024, 2048)
BOXES = 12  # per image


def config(engine: str, experiment: str, form: str) -> CfgNode:
    path = REPOSITORY / "configs" / f"sapnet_{experiment}.yaml"
    overrides = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "SAP.ENABLED", FORMS[form]]
    return engine_config(engine, path, overrides)


def noise(cfg: CfgNode, count: int, *, labeled: bool) -> list[Sample]:
    size = resized_size(*FILE_SIZE, cfg.INPUT.MIN_SIZE_TRAIN[0], cfg.INPUT.MAX_SIZE_TRAIN)
    extent = torch.tensor([*size[::-1]])
    samples = []
    for number in range(count):
        image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        if not labeled:
            samples.append(Sample(image, str(number), *FILE_SIZE))
            continue
        corners = torch.rand(BOXES, 2) * 0.7 * extent
        sides = (0.05 + 0.25 * torch.rand(BOXES, 2)) * extent
        boxes = torch.cat([corners, corners + sides], dim=1)
        classes = torch.randint(cfg.MODEL.ROI_HEADS.NUM_CLASSES, (BOXES,))
        masks = None
        if cfg.MODEL.MASK_ON:
            masks = torch.zeros(BOXES, *size, dtype=torch.bool)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
                mask[y1:y2, x1:x2] = True
        samples.append(Sample(image, str(number), *FILE_SIZE, boxes, classes, masks))
    return samples


def step(model: nn.Module, optimizer: torch.optim.Optimizer, pair: tuple) -> None:
    source, target = pair
    losses, maps = model.source(source)
    if model.sap is not None:
        losses = losses | model.sap(maps, model.target(target))[0]
    sum(losses.values()).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(engine: str, experiment: str, form: str, steps: int) -> tuple[float, float]:
    """CPU seconds of a step, and the process's peak memory in MB."""
    torch.set_num_threads(1)
    cfg = config(engine, experiment, form)
    model = build_trainer(engine, cfg).model.train()
    count = cfg.SOLVER.IMS_PER_BATCH
    pair = noise(cfg, count, labeled=True), noise(cfg, count, labeled=False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    with _recording(engine):
        step(model, optimizer, pair)
        start = time.process_time()
        for _ in range(steps):
            step(model, optimizer, pair)
    seconds = (time.process_time() - start) / steps
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _recording(engine: str) -> object:
    """Detectron2's heads write scalars, which need a place."""
    if engine == "torchvision":
        return nullcontext()
    from detectron2.utils.events import EventStorage

    return EventStorage()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--experiments", nargs="+", default=["toy"], metavar="NAME")
    parser.add_argument("--engines", nargs="+", default=["torchvision"], metavar="NAME")
    parser.add_argument("--form", choices=list(FORMS), help="this one, in this process")
    args = parser.parse_args(argv)
    if args.form:
        engine = choose_engine(args.engines[0])
        seconds, memory = measure(engine, args.experiments[0], args.form, args.steps)
        print(seconds, memory)
        return 0
    for experiment in args.experiments:
        for engine in args.engines:
            found = {form: _in_process(experiment, engine, form, args.steps) for form in FORMS}
            (plain, plain_memory), (adapted, memory) = found.values()
            print(
                f"{experiment:12} {engine:12} source only {plain:7.2f} s {plain_memory:6.0f} MB   "
                f"SAPNet {adapted:7.2f} s {memory:6.0f} MB   {adapted / plain:.2f} x time, "
                f"{memory / plain_memory:.2f} x memory",
                flush=True,
            )
    return 0


def _in_process(experiment: str, engine: str, form: str, steps: int) -> tuple[float, float]:
    one = ["--experiments", experiment, "--engines", engine, "--form", form]
    command = [sys.executable, __file__, *one, "--steps", str(steps)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, memory = map(float, printed.split()[-2:])
    return seconds, memory


if __name__ == "__main__":
    sys.exit(main())
