"""The command line of prediction, whatever is predicted: an image, a folder or a video."""

import argparse
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from shared.cli import EXIT_USER_ERROR
from shared.data.media import Video, find_images, is_video, read_picture, writing_video
from shared.errors import MissingFileError, UserError
from shared.files import check_writable


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the former mode comes back, whatever happens."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


class Predictor(ABC):
    """A trained model of either half, ready to predict.

    Called with an image – a file, an array (H, W, 3) uint8 RGB or a tensor (3, H, W) uint8 – it
    returns what the half predicts, at the image's own size.
    """

    drawing: ClassVar[str]  # what a drawing is called in a video's name

    def __call__(self, image: str | Path | np.ndarray | Tensor) -> Any:
        return self.predict(as_image(image))

    @abstractmethod
    def predict(self, image: Tensor) -> Any:
        """The prediction of an image (3, H, W) uint8."""

    @abstractmethod
    def draw(self, image: Tensor) -> np.ndarray:
        """The predictions drawn into the image, (H, W, 3) uint8 RGB."""

    @abstractmethod
    def write(self, base: Path, image: Tensor) -> np.ndarray:
        """Writes all predictions as `<base>_….<ending>`; returns the drawing."""

    def folder(self, source: str | Path, output: str | Path) -> int:
        """Predicts an image, or the images of a folder and its subfolders, into a folder.

        A file that cannot be read is named on stderr and left out.

        Returns:
            how many were predicted.
        """
        files = find_images(Path(source), Path(output))
        return len(files) - _predict_images(self, files, Path(output))


def as_image(image: str | Path | np.ndarray | Tensor) -> Tensor:
    """(3, H, W) uint8 RGB of a file, an array (H, W, 3) or such a tensor.

    Raises:
        UserError: of another shape or type, or a file that cannot be read.
    """
    if isinstance(image, str | Path):
        return read_picture(Path(image))
    if isinstance(image, np.ndarray) and image.ndim == 3:
        image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
        shape = tuple(getattr(image, "shape", ()))
        raise UserError(f"got an image of shape {shape}, expected (H, W, 3) or a (3, H, W) tensor")
    if image.dtype != torch.uint8:
        raise UserError(f"got an image of {image.dtype}, expected uint8 RGB, 0 to 255")
    return image


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
