"""The spatial attention pyramid against its literal form: its pooling, and the module as a whole.

13 windows, stride 2, forward and backward on the CPU, one thread.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.attention import spatial_mask
from shared.sap import SapOptions, SpatialAttentionPyramid, sap_losses
from shared.sap.pooling import (
    STRIDE,
    average_vectors,
    pooled_size,
    window_means,
    window_size,
)

LEVELS = (3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 35, 37)
SIZE = (38, 75)  # 600 x 1200 pixels at stride 16
CHANNELS = 256


def literal_maps(features: Tensor) -> list[Tensor]:
    return [F.avg_pool2d(features, window_size(k, *features.shape[-2:]), STRIDE) for k in LEVELS]


def banded_maps(features: Tensor) -> list[Tensor]:
    height, width = features.shape[-2:]
    windows = [window_size(kernel, height, width) for kernel in LEVELS]
    return [
        window_means(height, rows, features) @ features @ window_means(width, columns, features).T
        for rows, columns in windows
    ]


def attend(maps: list[Tensor], masks: Sequence[Tensor]) -> Tensor:
    pairs = zip(maps, masks, strict=True)
    return torch.stack([(pooled * mask).sum(dim=(2, 3)) for pooled, mask in pairs], dim=1)


def literal_vectors(features: Tensor, masks: Sequence[Tensor], levels: Sequence[int]) -> Tensor:
    return attend(literal_maps(features), masks)


def difference(tensors: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    pairs = zip(tensors, reference, strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def table(
    forms: dict[str, Callable[[], Sequence[Tensor]]], leaves: list[Tensor], repeats: int
) -> None:
    """Milliseconds of processor time, the forms in turn; differences from the first of them."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    results = {}
    upstream = [torch.randn_like(output) for output in next(iter(forms.values()))()]
    for _ in range(repeats + 1):
        for name, form in forms.items():
            start = time.process_time()
            outputs = form()
            gradients = torch.autograd.grad(outputs, leaves, upstream)
            times[name].append(1e3 * (time.process_time() - start))
            results[name] = (outputs, gradients)
    first = next(iter(forms))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, median in medians.items():
        forward, backward = (difference(results[name][i], results[first][i]) for i in range(2))
        print(
            f"  {name:28} {median:7.1f} ms {medians[first] / median:6.1f} x   "
            f"difference {forward:.0e}, gradient {backward:.0e}"
        )


def pooling(repeats: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(1, CHANNELS, *SIZE, requires_grad=True)
    scores = [torch.randn(1, 1, *pooled_size(k, *SIZE), requires_grad=True) for k in LEVELS]
    masks = [spatial_mask(score).detach().requires_grad_() for score in scores]
    print(f"pooled maps of 1x{CHANNELS}x{SIZE[0]}x{SIZE[1]}")
    forms = {
        "avg_pool2d": lambda: literal_maps(features),
        "banded products A f B'": lambda: banded_maps(features),
    }
    table(forms, [features], repeats)
    print("pooling and Eq. 2: the vectors V")
    forms = {
        "avg_pool2d": lambda: [attend(literal_maps(features), masks)],
        "banded products A f B'": lambda: [attend(banded_maps(features), masks)],
        "bands on the masks (ours)": lambda: [average_vectors(features, masks, LEVELS)],
    }
    table(forms, [features, *masks], repeats)


def whole(form: str, repeats: int) -> str:
    """One source and one target image through the module and its loss; 512 channels, 15 anchors."""
    torch.manual_seed(0)
    module = SpatialAttentionPyramid(512, 15, SapOptions(levels=LEVELS, guide_channels=0))
    batches = [
        (torch.randn(1, 512, *SIZE).requires_grad_(), torch.randn(1, 15, *SIZE).requires_grad_())
        for _ in range(2)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    vectors = literal_vectors if form == "literal" else average_vectors
    with patch("shared.sap.module.average_vectors", vectors):
        for _ in range(repeats + 1):
            start = time.process_time()
            sap_losses(module, *batches, weight=1.0)[0]["sap"].backward()
            times.append(time.process_time() - start)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return f"  {form:28} {statistics.median(times[1:]):7.2f} s   {peak:5.0f} MB"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--form", choices=["literal", "ours"], help="the module, in this process")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.form:
        print(whole(args.form, args.repeats))
        return 0
    pooling(args.repeats)
    print("the module, two images, and its peak memory", flush=True)
    for form in ("literal", "ours"):
        # A process of its own: peak memory only ever grows.
        command = [sys.executable, __file__, "--form", form, "--repeats", str(args.repeats)]
        subprocess.run(command, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
