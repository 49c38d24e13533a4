"""The command line of prediction, whatever is predicted: an image, a folder or a video."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from shared.cli import EXIT_USER_ERROR
from shared.data.media import Video, find_images, is_video, read_picture, writing_video
from shared.errors import MissingFileError, UserError
from shared.files import check_writable


class Predictor(Protocol):
    """What `predict` runs on images (3, H, W) uint8."""

    drawing: str  # what a drawing is called in a video's name

    def draw(self, image: Tensor) -> np.ndarray:
        """The predictions drawn into the image, (H, W, 3) uint8 RGB."""
        ...

    def write(self, base: Path, image: Tensor) -> np.ndarray:
        """Writes all predictions as `<base>_….<ending>`; returns the drawing."""
        ...


def add_arguments(parser: argparse.ArgumentParser, checkpoint: str) -> None:
    """The arguments of every prediction.

    Args:
        checkpoint: what --checkpoint takes.
    """
    parser.add_argument("input", type=Path, help="image, folder (searched recursively) or video")
    parser.add_argument("--checkpoint", type=Path, required=True, help=checkpoint)
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--frames", action="store_true", help="of a video, write every frame's files as well"
    )


def predict(args: argparse.Namespace, load: Callable[[], Predictor]) -> int:
    """Predicts `args.input` into `args.output` and says how much; returns the exit code.

    A file that cannot be read is named on stderr and left out; the exit code is then 2.

    Args:
        load: makes the predictor, once input and device are known to be there.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    if not args.input.exists():
        raise MissingFileError(f"no image, folder or video at {args.input}")
    check_writable(args.output, "--output")
    if is_video(args.input):
        count = _predict_video(load(), args.input, args.output, frames=args.frames)
        print(f"{count} frames predicted: {args.output}")
        return 0
    files = find_images(args.input, args.output)
    failed = _predict_images(load(), files, args.output)
    print(f"{len(files) - failed} of {len(files)} images predicted: {args.output}")
    return EXIT_USER_ERROR if failed else 0


def _predict_images(predictor: Predictor, files: list[tuple[Path, Path]], output: Path) -> int:
    """Returns how many could not be read."""
    failed = 0
    for path, name in tqdm(files, unit="image", disable=len(files) == 1):
        try:
            image = read_picture(path)
        except UserError as error:
            failed += 1
            tqdm.write(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        predictor.write(output / name, image)
    return failed


def _predict_video(predictor: Predictor, path: Path, output: Path, *, frames: bool) -> int:
    """Returns the number of frames. The video appears under its name when it is whole."""
    video, count = Video(path), 0
    target = output / f"{path.stem}_{predictor.drawing}.mp4"
    with writing_video(target, video.rate, video.size) as writer:
        for image in tqdm(video, total=video.count, unit="frame"):
            if frames:
                drawn = predictor.write(output / f"{path.stem}_frames" / f"{count:06d}", image)
            else:
                drawn = predictor.draw(image)
            writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
            count += 1
    return count
