"""Class-wise thresholds of pseudo-labels: streamed histograms against kept and sorted confidences.

Both see the same synthetic probability maps, one after the other, each in a process of its own:
peak memory only ever grows. Making the maps is not timed. The sorting form keeps the float32
confidence of every pixel; it still lacks the probabilities that its second pass would need.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from seg_adapt.engine.pseudo_labels import ConfidenceHistograms

CLASSES, QUANTILE, CAP = 19, 0.5, 0.9
# Cityscapes' training images, at the size that the papers label them.
FULL_IMAGES, FULL_HEIGHT, FULL_WIDTH = 2975, 512, 1024


class Thresholds(Protocol):
    def update(self, probabilities: Tensor) -> None: ...

    def thresholds(self, quantile: float, cap: float) -> Tensor: ...


class SortedConfidences:
    """The definition to the letter: lists of all confidences, sorted class by class."""

    def __init__(self, num_classes: int) -> None:
        self.found: list[list[np.ndarray]] = [[] for _ in range(num_classes)]

    def update(self, probabilities: Tensor) -> None:
        confidences, classes = (x.numpy() for x in probabilities.max(dim=1))
        for index, found in enumerate(self.found):
            found.append(confidences[classes == index])

    def thresholds(self, quantile: float, cap: float) -> Tensor:
        values = []
        for found in self.found:
            confidences = np.sort(np.concatenate(found))[::-1]
            rank = math.floor(quantile * len(confidences))
            values.append(min(cap, confidences[rank - 1].item()) if rank else 1.0)
        return torch.tensor(values)


FORMS = {"histograms": ConfidenceHistograms, "sorting": SortedConfidences}


def probability_map(index: int, height: int, width: int) -> Tensor:
    """(1, C, height, width) from smooth random logits, as an upsampled network's are."""
    generator = torch.Generator().manual_seed(index)
    logits = 4 * torch.randn(1, CLASSES, height // 8 + 1, width // 8 + 1, generator=generator)
    logits = torch.nn.functional.interpolate(
        logits, (height, width), mode="bilinear", align_corners=True
    )
    return logits.softmax(dim=1)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, images: int, height: int, width: int) -> dict:
    """Peak memory in MB above that of making the maps, and processor seconds."""
    for index in range(3):
        probabilities = probability_map(index, height, width)
    start = peak_mb()
    form: Thresholds = FORMS[name](CLASSES)
    update = 0.0
    for index in range(images):
        probabilities = probability_map(index, height, width)
        began = time.process_time()
        form.update(probabilities)
        update += time.process_time() - began
    began = time.process_time()
    thresholds = form.thresholds(QUANTILE, CAP)
    find = time.process_time() - began
    return {
        "memory": peak_mb() - start,
        "update": update,
        "find": find,
        "thresholds": thresholds.tolist(),
    }


def in_own_process(name: str, images: int, height: int, width: int) -> dict:
    sizes = ["--images", str(images), "--height", str(height), "--width", str(width)]
    command = [sys.executable, __file__, "--form", name, *sizes]
    # Freed arrays go back at once (glibc): the peak is what is held, not what is left over.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    child = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(child.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[60, 200])
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--form", choices=list(FORMS), help="this one, in this process, as JSON")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.form:
        print(json.dumps(measure(args.form, args.images[0], args.height, args.width)))
        return 0
    print(f"{'images':>6} {'form':12} {'extra MB':>9} {'ms/image':>9} {'find ms':>9} {'error':>9}")
    for images in args.images:
        results = {
            name: in_own_process(name, images, args.height, args.width) for name in reversed(FORMS)
        }
        exact = np.array(results["sorting"]["thresholds"])
        for name, result in results.items():
            error = np.abs(np.array(result["thresholds"]) - exact).max()
            print(
                f"{images:6} {name:12} {result['memory']:9.1f} "
                f"{1e3 * result['update'] / images:9.2f} {1e3 * result['find']:9.1f} {error:9.1e}"
            )
    pixels = FULL_IMAGES * FULL_HEIGHT * FULL_WIDTH
    counts = ConfidenceHistograms(CLASSES).counts
    print(
        f"computed for {FULL_IMAGES} images of {FULL_WIDTH}x{FULL_HEIGHT}: "
        f"{4 * pixels / 2**30:.2f} GiB of confidences, "
        f"{4 * CLASSES * pixels / 2**30:.0f} GiB of probabilities; "
        f"histograms {counts.nbytes / 2**20:.1f} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
