"""Speed of the procedural street scenes: images per second of every domain."""

import argparse
import time
from collections.abc import Callable, Sequence

import cv2

from shared.toy import DOMAINS, render


def rate(work: Callable[[int], object], repeats: int) -> float:
    """Calls per second of processor time; the first call fills the caches and is not counted."""
    work(0)
    start = time.process_time()
    for index in range(1, repeats + 1):
        work(index)
    return repeats / (time.process_time() - start)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100, help="frames per domain")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=512)
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    for domain in DOMAINS:
        speed = rate(
            lambda k, d=domain: render(d, k, height=args.height, width=args.width), args.frames
        )
        print(f"{domain:12s} {speed:7.1f} images/s")


if __name__ == "__main__":
    main()
