"""A trained run of either half as a function; any method of segmentation on your batches."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from shared import checkpoint
from shared.errors import UserError
from shared.predictor import Predictor
from shared.run.folder import checkpoint_at


def load(run: str | Path, *, device: str = "cpu", engine: str = "auto") -> Predictor:
    """The trained model of a run, ready to predict.

    Segmentation returns train ids (H, W) uint8; detection `det_adapt.structures.Detections`.

    Args:
        run: a run's folder, or a checkpoint in it.
        engine: of a detector: detectron2 or torchvision; auto: Detectron2 where it is installed.

    Raises:
        MissingFileError: there is no checkpoint.
        UserError: it is none of a run.
    """
    path = checkpoint_at(Path(run))
    if is_segmentation(path):
        from seg_adapt.predict import Predictor as Segmentation

        return Segmentation.from_checkpoint(path, torch.device(device))
    from det_adapt.engines import choose_engine
    from det_adapt.predict import Predictor as Detection

    return Detection.from_checkpoint(path, engine=choose_engine(engine), device=device)


class Adaptation:
    """A method of segmentation with its optimizers, fed with your own batches.

    Args:
        method: a name of `python seg_adapt/train.py --help`.
        num_classes: train ids are 0 … num_classes - 1; 255 is ignored.
        config: an experiment file; None: the defaults.
        overrides: `KEY VALUE` pairs, e.g. ["SOLVER.MODEL.LR", "1e-4"].

    Raises:
        UserError: a name, key or value that cannot be used.
    """

    def __init__(
        self,
        method: str,
        *,
        num_classes: int,
        config: str | Path | None = None,
        overrides: Sequence[str] = (),
    ) -> None:
        from seg_adapt.config import check, load
        from seg_adapt.engine.build import build_method, device_of
        from seg_adapt.engine.trainer import Trainer
        from seg_adapt.models.weights import load_pretrained

        length = [] if config else ["SOLVER.MAX_ITER", "100000", "SOLVER.SCHEDULE", "constant"]
        cfg = load(config, [*length, "METHOD", method, *overrides])
        check(cfg)
        self.cfg = cfg
        self.device = device_of(cfg)
        torch.manual_seed(cfg.SEED)
        self.method = build_method(cfg, num_classes)
        load_pretrained(self.method.segmentor, cfg.MODEL.WEIGHTS)
        self.method.to(self.device).prepare()
        self._trainer = Trainer(self.method, cfg, device=self.device)

    def step(self, images: Tensor, labels: Tensor, target: Tensor | None) -> dict[str, float]:
        """One optimizer step; returns the losses, rates and what the method records.

        Args:
            images: (N, 3, H, W) uint8 RGB of the source.
            labels: (N, H, W) train ids, 255 = ignore.
            target: (N, 3, H, W) uint8 RGB of the target; None for methods that need none.

        Raises:
            UserError: the loss is not finite.
        """
        from seg_adapt.structures import Geometry, SourceBatch, TargetBatch

        def whole(batch: Tensor) -> dict:
            count, _, height, width = batch.shape
            names = tuple(str(index) for index in range(count))
            return {"geometry": Geometry.whole(count, height, width), "names": names}

        source = SourceBatch(images, labels.long(), **whole(images))
        targets = None if target is None else TargetBatch(target, **whole(target))
        if targets is None and self.method.needs_target:
            raise UserError(f"{self.cfg.METHOD} needs target images, got None")
        logs = self._trainer.step([(0, source, targets)])
        self._trainer.iteration += 1
        return logs

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Train ids (N, H, W) of uint8 RGB images (N, 3, H, W)."""
        self.method.eval()
        logits = self.method.predict(images.to(self.device))
        return self.method.segmentor.upsample(logits, tuple(images.shape[-2:])).argmax(dim=1)

    def state_dict(self) -> dict:
        """Weights, optimizers and iteration: all that training continues from."""
        return self._trainer.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continues from a `state_dict` of the same method and settings."""
        self._trainer.load_state_dict(state)


def is_segmentation(path: Path) -> bool:
    """Whether a run's checkpoint is one of segmentation."""
    state = checkpoint.peek(path)
    return isinstance(state, dict) and "method" in state
