"""Predictions of a trained checkpoint for an image, a folder of images or a video.

    python seg_adapt/predict.py --checkpoint runs/x INPUT --output DIR

writes for every image its class ids, their colors and an overlay. A file that cannot be read is
named on stderr and left out; the exit code is then 2.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

try:
    from shared.cli import Parser, run
except ImportError as error:
    raise SystemExit(f"{error}: run `pip install -e .`, or another 'shared' hides ours") from None

import numpy as np
import torch
from torch import Tensor

from seg_adapt.engine.checkpoint import load_method
from seg_adapt.evaluation.cityscapes import write_prediction
from seg_adapt.evaluation.inference import Windows, network_size, predict_train_ids
from seg_adapt.methods.base import Method
from shared import extensions, predictor
from shared.data.images import write_png
from shared.data.label_maps import LabelSpace, encode_colors
from shared.errors import UserError
from shared.pictures import overlay, to_array

OVERLAY_ALPHA = 0.55


@dataclass(frozen=True)
class Predictor(predictor.Predictor):
    """A method, its classes, the (height, width) at which it sees images, and through what."""

    drawing: ClassVar[str] = "overlay"
    method: Method
    space: LabelSpace
    device: torch.device
    resize: tuple[int, int] | None
    interpolation: str
    windows: Windows | None

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        device: torch.device,
        resize: tuple[int, int] | None = None,
        imports: Sequence[str] = (),
    ) -> "Predictor":
        """
        Args:
            path: a run's folder, or a checkpoint in it.
            resize: (height, width) that the network sees; None: INPUT.TEST.RESIZE.
            imports: modules in place of those that the run recorded.

        Example:
            >>> predictor = Predictor.from_checkpoint(Path("runs/toy/road"), torch.device("cpu"))
            >>> predictor("frame.png").dtype
            dtype('uint8')
        """
        method, space, cfg = load_method(path, device, imports)
        return cls(
            method,
            space,
            device,
            resize or network_size(cfg, "TEST"),
            cfg.INPUT.INTERPOLATION,
            Windows.from_config(cfg),
        )

    def predict(self, image: Tensor) -> np.ndarray:
        """Train ids (H, W) uint8 of an image (3, H, W) uint8."""
        ids = predict_train_ids(
            self.method,
            image[None].to(self.device),
            resize=self.resize,
            size=tuple(image.shape[-2:]),
            interpolation=self.interpolation,
            windows=self.windows,
        )
        return ids[0]

    def draw(self, image: Tensor) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._overlay(image, self.predict(image))[0]

    def write(self, base: Path, image: Tensor) -> np.ndarray:
        """`<base>_labelIds.png` (or `_trainIds`), `_color.png`, `_overlay.png`; returns the last.

        Args:
            image: (3, H, W) uint8.
        """
        ids = self.predict(image)
        blended, colors = self._overlay(image, ids)
        if self.space.label_ids is None:
            write_png(base.with_name(f"{base.name}_trainIds.png"), ids)
        else:
            write_prediction(base.with_name(f"{base.name}_labelIds.png"), ids, self.space)
        write_png(base.with_name(f"{base.name}_color.png"), colors)
        write_png(base.with_name(f"{base.name}_overlay.png"), blended)
        return blended

    def _overlay(self, image: Tensor, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        colors = encode_colors(ids, self.space)
        return overlay(to_array(image), colors, OVERLAY_ALPHA), colors


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n\n")[0])
    predictor.add_arguments(parser, checkpoint="a run, or a file in it")
    parser.add_argument(
        "--resize",
        type=int,
        nargs=2,
        metavar=("W", "H"),
        help="size that the network sees; default: the checkpoint's INPUT.TEST.RESIZE. "
        "Predictions always have the image's own size",
    )
    extensions.add_import_option(parser, "what the run recorded")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if args.resize and min(args.resize) < 1:
        raise UserError(f"--resize {args.resize[0]} {args.resize[1]}: expected positive pixels")
    resize = (args.resize[1], args.resize[0]) if args.resize else None
    device = torch.device(args.device)
    return predictor.predict(
        args, lambda: Predictor.from_checkpoint(args.checkpoint, device, resize, args.imports)
    )


if __name__ == "__main__":
    run(main)
