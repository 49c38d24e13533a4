"""Predictions of a trained checkpoint for an image, a folder of images or a video.

    python seg_adapt/predict.py --checkpoint runs/x/checkpoints/last.pt INPUT --output DIR

writes for every image its class ids, their colours and an overlay. A file that cannot be read is
named on stderr and left out; the exit code is then 2.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    from shared.cli import run
except ModuleNotFoundError:
    raise SystemExit("not installed: run `pip install -e .` in the repository first") from None

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from seg_adapt.engine.build import network_size
from seg_adapt.engine.checkpoint import load_method
from seg_adapt.evaluation.cityscapes import write_prediction
from seg_adapt.evaluation.inference import Windows, predict_train_ids
from seg_adapt.methods.base import Method
from shared.cli import EXIT_USER_ERROR
from shared.errors import MissingFileError, UserError
from shared.images import write_png
from shared.label_maps import LabelSpace, encode_colors
from shared.media import Video, find_images, is_video, read_picture, writing_video
from shared.visualize import overlay

OVERLAY_ALPHA = 0.55


@dataclass(frozen=True)
class Predictor:
    """A method, its classes, the (height, width) at which it sees images, and through what."""

    method: Method
    space: LabelSpace
    device: torch.device
    resize: tuple[int, int] | None
    interpolation: str
    windows: Windows | None

    @classmethod
    def from_checkpoint(
        cls, path: Path, device: torch.device, resize: tuple[int, int] | None
    ) -> "Predictor":
        method, space, cfg = load_method(path, device)
        return cls(
            method,
            space,
            device,
            resize or network_size(cfg, "TEST"),
            cfg.INPUT.INTERPOLATION,
            Windows.from_config(cfg),
        )

    def __call__(self, image: Tensor) -> np.ndarray:
        """image: (3, H, W) uint8; returns train ids (H, W) uint8."""
        ids = predict_train_ids(
            self.method,
            image[None].to(self.device),
            resize=self.resize,
            size=tuple(image.shape[-2:]),
            interpolation=self.interpolation,
            windows=self.windows,
        )
        return ids[0]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("input", type=Path, help="image, folder (searched recursively) or video")
    parser.add_argument("--checkpoint", type=Path, required=True, help="runs/…/checkpoints/last.pt")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--resize",
        type=int,
        nargs=2,
        metavar=("W", "H"),
        help="size that the network sees; default: the checkpoint's INPUT.TEST.RESIZE. "
        "Predictions always have the image's own size",
    )
    parser.add_argument(
        "--frames", action="store_true", help="of a video, write every frame's pictures as well"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if args.resize and min(args.resize) < 1:
        raise UserError(f"--resize {args.resize[0]} {args.resize[1]}: expected positive pixels")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    if not args.input.exists():
        raise MissingFileError(f"no image, folder or video at {args.input}")
    video = is_video(args.input)
    files = [] if video else find_images(args.input, args.output)
    resize = (args.resize[1], args.resize[0]) if args.resize else None
    predictor = Predictor.from_checkpoint(args.checkpoint, torch.device(args.device), resize)
    if video:
        count = predict_video(predictor, args.input, args.output, frames=args.frames)
        print(f"{count} frames predicted: {args.output}")
        return 0
    failed = predict_images(predictor, files, args.output)
    print(f"{len(files) - failed} of {len(files)} images predicted: {args.output}")
    return EXIT_USER_ERROR if failed else 0


def predict_images(predictor: Predictor, files: list[tuple[Path, Path]], output: Path) -> int:
    """Writes the predictions of every file; returns how many could not be read."""
    failed = 0
    for path, name in tqdm(files, unit="image", disable=len(files) == 1):
        try:
            image = read_picture(path)
        except UserError as error:
            failed += 1
            tqdm.write(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        write(output / name, image, predictor(image), predictor.space)
    return failed


def write(base: Path, image: Tensor, ids: np.ndarray, space: LabelSpace) -> np.ndarray:
    """`<base>_labelIds.png` (or `_trainIds`), `_color.png`, `_overlay.png`; returns the overlay.

    Args:
        image: (3, H, W) uint8.
        ids: (H, W) train ids.
    """
    blended, colors = _overlay(image, ids, space)
    if space.label_ids is None:
        write_png(base.with_name(f"{base.name}_trainIds.png"), ids)
    else:
        write_prediction(base.with_name(f"{base.name}_labelIds.png"), ids, space)
    write_png(base.with_name(f"{base.name}_color.png"), colors)
    write_png(base.with_name(f"{base.name}_overlay.png"), blended)
    return blended


def predict_video(predictor: Predictor, path: Path, output: Path, *, frames: bool) -> int:
    """Writes `<stem>_overlay.mp4`, with `frames` also every frame's pictures; returns their count.

    The video appears under its name when it is whole.
    """
    video, count = Video(path), 0
    with writing_video(output / f"{path.stem}_overlay.mp4", video.rate, video.size) as writer:
        for image in tqdm(video, total=video.count, unit="frame"):
            ids = predictor(image)
            if frames:
                base = output / f"{path.stem}_frames" / f"{count:06d}"
                blended = write(base, image, ids, predictor.space)
            else:
                blended, _ = _overlay(image, ids, predictor.space)
            writer.write(cv2.cvtColor(blended, cv2.COLOR_RGB2BGR))
            count += 1
    return count


def _overlay(image: Tensor, ids: np.ndarray, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    colors = encode_colors(ids, space)
    return overlay(image.permute(1, 2, 0).numpy(), colors, OVERLAY_ALPHA), colors


if __name__ == "__main__":
    run(main)
