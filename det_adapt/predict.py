"""Detections of a trained checkpoint in an image, a folder of images or a video.

    python det_adapt/predict.py --checkpoint runs/x INPUT --output DIR

writes for every image its detections as JSON and drawn. A file that cannot be read is named on
stderr and left out; the exit code is then 2.
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
from torch import Tensor, nn

from det_adapt.data.build import test_augmentation
from det_adapt.data.samples import Augmentation, resize
from det_adapt.detection_files import write_detections
from det_adapt.engines import ENGINES, choose_engine, engine_config, load_detector
from det_adapt.pictures import LOWEST_SCORE, draw_attention, draw_detections
from det_adapt.structures import Detections, Sample
from shared import predictor
from shared.data.images import write_png
from shared.errors import UserError
from shared.extensions import KEY as IMPORTS
from shared.extensions import add_import_option
from shared.pictures import to_array
from shared.run.folder import checkpoint_at, stored_settings


@dataclass(frozen=True)
class Predictor(predictor.Predictor):
    """A detector, its classes, the size at which it sees images, and what of it is drawn."""

    drawing: ClassVar[str] = "detections"
    model: nn.Module
    classes: tuple[str, ...]
    augmentation: Augmentation
    lowest: float
    attention: bool

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        *,
        engine: str = "torchvision",
        device: str = "cpu",
        lowest: float = LOWEST_SCORE,
        attention: bool = False,
        imports: Sequence[str] = (),
    ) -> "Predictor":
        """
        Args:
            path: a run's folder, or a checkpoint in it.
            imports: modules in place of those that the run recorded (`IMPORTS`).
        """
        weights = checkpoint_at(path)
        overrides = ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", device]
        overrides += ["SOLVER.AMP.ENABLED", "False"]
        settings = stored_settings(weights)
        settings |= {IMPORTS: list(imports)} if imports else {}
        cfg = engine_config(engine, settings, overrides)
        model = load_detector(engine, cfg)
        if attention and (model.sap is None or not model.sap.has_masks):
            raise UserError(f"--attention: {path} was trained without a pyramid; leave it out")
        classes = tuple(cfg.DATASETS.CLASSES)
        return cls(model, classes, test_augmentation(cfg), lowest, attention)

    @torch.no_grad()
    def predict(self, image: Tensor) -> Detections:
        """What is found in an image (3, H, W) uint8, in its pixels."""
        return self.model.detect([self._sample(image)])[0]

    def write(self, base: Path, image: Tensor) -> np.ndarray:
        """`<base>.json`, `<base>_detections.png` and, if asked for, `<base>_attention.png`; returns
        the drawing."""
        detections = self.predict(image)
        write_detections(base.with_name(f"{base.name}.json"), detections, self.classes)
        drawn = self._draw(image, detections)
        write_png(base.with_name(f"{base.name}_detections.png"), drawn)
        if self.attention:
            with torch.no_grad():
                picture = draw_attention(self.model, self._sample(image))
            write_png(base.with_name(f"{base.name}_attention.png"), picture)
        return drawn

    def draw(self, image: Tensor) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._draw(image, self.predict(image))

    def _draw(self, image: Tensor, detections: Detections) -> np.ndarray:
        return draw_detections(to_array(image), detections, self.classes, lowest=self.lowest)

    def _sample(self, image: Tensor) -> Sample:
        height, width = image.shape[-2:]
        rows, columns, _ = self.augmentation.draw(height, width, np.random.default_rng(0))
        return Sample(resize(image, rows, columns), "", height, width)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n\n")[0])
    predictor.add_arguments(parser, checkpoint="a run, or a file in it")
    parser.add_argument("--engine", default="auto", metavar="NAME", help=", ".join(ENGINES))
    parser.add_argument(
        "--score",
        type=float,
        default=LOWEST_SCORE,
        help=f"lowest score that is drawn (default {LOWEST_SCORE}); the JSON has all",
    )
    parser.add_argument("--attention", action="store_true", help="also draw the pyramid's masks")
    add_import_option(parser, "what the run recorded")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    engine = choose_engine(args.engine)
    if not 0 <= args.score <= 1:
        raise UserError(f"--score {args.score}: expected a number from 0 to 1")

    def load() -> Predictor:
        return Predictor.from_checkpoint(
            args.checkpoint,
            engine=engine,
            device=args.device,
            lowest=args.score,
            attention=args.attention,
            imports=args.imports,
        )

    return predictor.predict(args, load)


if __name__ == "__main__":
    run(main)
