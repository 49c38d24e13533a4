"""Predictions of a trained checkpoint for an image, a folder of images or a video.

    python seg_adapt/predict.py --checkpoint runs/x/checkpoints/last.pt INPUT --output DIR

writes for every image its class ids, their colours and an overlay. A file that cannot be read is
named on stderr and left out; the exit code is then 2.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from shared.files import replacing
from shared.images import read_image, write_png
from shared.label_maps import LabelSpace, encode_colors
from shared.visualize import overlay

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv")
OVERLAY_ALPHA = 0.55
FALLBACK_FRAMES_PER_SECOND = 25.0


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
    video = args.input.suffix.lower() in VIDEOS and args.input.is_file()
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


def find_images(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """(image, its path below `output` without an ending) of one image or of every one in a folder.

    What lies in `output` is left out: a second run must not predict the pictures of the first.
    """
    if source.is_file():
        if source.suffix.lower() not in IMAGES:
            kinds = ", ".join(ending[1:] for ending in IMAGES + VIDEOS)
            raise UserError(f"{source} is no image or video by its name; expected one of {kinds}")
        return [(source, Path(source.stem))]
    if source.resolve() == output.resolve():
        raise UserError(f"--output {output} is the input folder; give another one")
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.suffix.lower() in IMAGES and path.is_file() and not path.name.startswith(".")
        if not path.resolve().is_relative_to(output.resolve())
    ]
    if not files:
        endings = ", ".join(ending[1:] for ending in IMAGES)
        raise UserError(f"no image below {source}; looked for {endings}")
    found: dict[Path, Path] = {}
    for path in files:
        name = path.relative_to(source).with_suffix("")
        if name in found:
            raise UserError(
                f"{found[name]} and {path} would have the same predictions' names; rename one"
            )
        found[name] = path
    return [(path, name) for name, path in found.items()]


def predict_images(predictor: Predictor, files: list[tuple[Path, Path]], output: Path) -> int:
    """Writes the predictions of every file; returns how many could not be read."""
    failed = 0
    for path, name in tqdm(files, unit="image", disable=len(files) == 1):
        try:
            image = _read(path)
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
    capture = cv2.VideoCapture(str(path))
    try:
        first, frame = capture.read()
        if not first:
            raise UserError(f"{path} is damaged or no video that OpenCV reads; convert it to mp4")
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate < 1000 else FALLBACK_FRAMES_PER_SECOND
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        target = output / f"{path.stem}_overlay.mp4"
        with (
            _video_writer(target, rate, frame.shape[:2]) as writer,
            tqdm(total=total if total > 0 else None, unit="frame") as progress,
        ):
            count = 0
            while first:
                image = _to_tensor(frame)
                ids = predictor(image)
                if frames:
                    base = output / f"{path.stem}_frames" / f"{count:06d}"
                    blended = write(base, image, ids, predictor.space)
                else:
                    blended, _ = _overlay(image, ids, predictor.space)
                writer.write(cv2.cvtColor(blended, cv2.COLOR_RGB2BGR))
                count += 1
                progress.update()
                first, frame = capture.read()
    finally:
        capture.release()
    return count


@contextmanager
def _video_writer(path: Path, rate: float, size: tuple[int, int]) -> Iterator[cv2.VideoWriter]:
    """size: (height, width)."""
    code = cv2.VideoWriter_fourcc(*"mp4v")
    with replacing(path) as partial:
        writer = cv2.VideoWriter(str(partial), code, rate, (size[1], size[0]))
        if not writer.isOpened():
            raise UserError(f"OpenCV cannot write {path}: this build has no mp4 encoder")
        try:
            yield writer
        finally:
            writer.release()


def _overlay(image: Tensor, ids: np.ndarray, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    colors = encode_colors(ids, space)
    return overlay(image.permute(1, 2, 0).numpy(), colors, OVERLAY_ALPHA), colors


def _read(path: Path) -> Tensor:
    """(3, H, W) uint8 RGB."""
    if path.suffix.lower() not in (".bmp", ".webp"):
        return read_image(path)
    content = np.fromfile(path, np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if pixels is None:
        raise UserError(f"{path} is damaged or no image; write it again")
    return _to_tensor(pixels)


def _to_tensor(bgr: np.ndarray) -> Tensor:
    """OpenCV's (H, W, 3) BGR as (3, H, W) RGB."""
    return torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1)


if __name__ == "__main__":
    run(main)
