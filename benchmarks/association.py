"""PLCA's association of one pair of images: ours against the same equations with N x N matrices.

Forward and backward of the cosine branch with aggregation, each in a process of its own, in turn.
Peak memory is what the process holds beyond its inputs; time is by the wall and by the processors.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_adapt.losses.association import association_loss, cosine_pixels
from seg_adapt.losses.pairwise_softmax import aggregate_features

SIZES = ("46x46", "92x92", "92x183")


def inputs(height: int, width: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features (C, h, w) after a ReLU that depend on classes, with a domain shift; source labels.

    Classes are patches of the images, as streets have them; every tenth pixel is unlabeled.
    """
    torch.manual_seed(0)
    prototypes = torch.randn(19, channels)
    maps = []
    for shift in (0.0, 0.5):
        classes = torch.randint(0, 19, (1, 1, -(-height // 8), -(-width // 8))).float()
        classes = F.interpolate(classes, (height, width), mode="nearest")[0, 0].long()
        features = torch.randn(channels, height, width)
        features += prototypes[classes].permute(2, 0, 1)
        features += shift * torch.randn(channels, 1, 1)
        maps.append((features.relu_(), classes))
    (source, labels), (target, _) = maps
    labels.view(-1)[::10] = 255
    return source.requires_grad_(), target.requires_grad_(), labels


def ours(source: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    target_pixels = cosine_pixels(aggregate_features(target.flatten(1).t()))
    source_pixels = cosine_pixels(source.flatten(1).t())
    return association_loss([(source_pixels, target_pixels, labels.flatten())])[0]


def naive(source: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    def contrast(similarity: Tensor) -> Tensor:
        mean, deviation = (
            similarity.detach().mean(1, True),
            similarity.detach().std(1, keepdim=True),
        )
        return (similarity - mean) / (deviation + 1e-10)

    source, target, labels = source.flatten(1).t(), target.flatten(1).t(), labels.flatten()
    unit = F.normalize(target, dim=1)
    weights = contrast(unit @ unit.t()).softmax(1)
    target = F.normalize(0.5 * target + 0.5 * weights @ target, dim=1)
    similarity = F.normalize(source, dim=1) @ target.t()
    middles = similarity.argmax(1)
    ends = similarity.argmax(0)[middles]
    closed = (labels != 255) & (labels[ends] == labels)
    forth = contrast(similarity).log_softmax(1)
    back = contrast(similarity.t()).log_softmax(1)
    starts = closed.nonzero()[:, 0]
    log_p = forth[starts, middles[starts]] + back[middles[starts], ends[starts]]
    return -log_p.sum() / closed.sum().clamp(min=1)


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"naive": naive, "ours": ours}


def megabytes(field: str) -> float:
    """VmRSS (now) or VmHWM (at its peak) of this process; Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024 / 1e6


def measure(form: str, size: str, channels: int) -> dict[str, float]:
    height, width = map(int, size.split("x"))
    # What libraries allocate once is no part of the comparison.
    FORMS[form](*inputs(12, 12, 64)).backward()
    source, target, labels = inputs(height, width, channels)
    before = megabytes("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    loss = FORMS[form](source, target, labels)
    forward = time.perf_counter() - wall
    loss.backward()
    return {
        "wall": time.perf_counter() - wall,
        "forward": forward,
        "cpu": time.process_time() - cpu,
        "megabytes": megabytes("VmHWM") - before,
        "loss": loss.item(),
        "gradient": source.grad.norm().item() + target.grad.norm().item(),
    }


def in_process(form: str, size: str, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--form", form, "--size", size]
    command += ["--channels", str(args.channels), "--threads", str(args.threads)]
    # Threads that wait sleep: spinning would count as work wherever other processes run.
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(run.stdout)


def report(size: str, forms: Sequence[str], args: argparse.Namespace) -> None:
    runs: dict[str, list[dict[str, float]]] = {form: [] for form in forms}
    for _ in range(args.repeats):
        for form in forms:
            runs[form].append(in_process(form, size, args))
    for form in forms:
        middle = {key: statistics.median(r[key] for r in runs[form]) for key in runs[form][0]}
        print(
            f"{size:>7} {form:6} {middle['wall']:6.1f} s (forward {middle['forward']:5.1f}) "
            f"{middle['cpu']:6.1f} CPU-s {middle['megabytes']:6.0f} MB  "
            f"loss {middle['loss']:.6f}  |gradient| {middle['gradient']:.6g}",
            flush=True,
        )
    if len(forms) == 2:
        ratios = {
            key: statistics.median(
                o[key] / n[key] for o, n in zip(runs["ours"], runs["naive"], strict=True)
            )
            for key in ("megabytes", "wall", "cpu")
        }
        print(
            f"{size:>7} ours / naive: memory {ratios['megabytes']:.2f}, wall {ratios['wall']:.2f}, "
            f"CPU {ratios['cpu']:.2f}",
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="of each form and size")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HxW")
    parser.add_argument("--naive-up-to", type=int, default=92 * 92, help="pixels: 9 N^2 floats")
    parser.add_argument("--form", choices=list(FORMS), help="this one, in this process, as JSON")
    parser.add_argument("--size", default="92x92")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.form:
        print(json.dumps(measure(args.form, args.size, args.channels)))
        return 0
    for size in args.sizes:
        height, width = map(int, size.split("x"))
        forms = list(FORMS) if height * width <= args.naive_up_to else ["ours"]
        report(size, forms, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
