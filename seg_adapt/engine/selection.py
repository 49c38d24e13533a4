"""Which snapshot of a stage to go on with, without any target label (DAST, "When to Start the
Self-Training"): by the score on labeled source images, held out of training, in target style."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seg_adapt.data.fda import stylize
from seg_adapt.data.reading import Reader
from seg_adapt.data.transforms import resize_image
from seg_adapt.evaluation.confusion import ConfusionMatrix
from seg_adapt.evaluation.inference import Windows, predict_train_ids
from seg_adapt.methods.base import Method
from shared import checkpoint, distributed
from shared.data.images import read_image
from shared.data.label_maps import LabelSpace
from shared.data.records import SegmentationDataset
from shared.errors import UserError
from shared.predictor import evaluating
from shared.processes import prefetch


def hold_out(
    dataset: SegmentationDataset, count: int, seed: int
) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Divides a source into what is trained on and `count` records that are not."""
    total = len(dataset.records)
    if not 0 < count < total:
        raise UserError(
            f"SELECTION.HELD_OUT is {count}, expected at least 1 and fewer than the {total} images "
            f"of the source '{dataset.name}'"
        )
    chosen = set(np.random.default_rng([seed, 2]).permutation(total)[:count].tolist())
    parts = (
        tuple(r for place, r in enumerate(dataset.records) if (place in chosen) == held)
        for held in (False, True)
    )
    train, held_out = (replace(dataset, records=records) for records in parts)
    return train, held_out


class StylizedImages:
    """Held-out source images, each in the style of one target image, drawn once by `seed`.

    Args:
        held_out: labeled.
        target: only its images are read.
        betas: one version of each image for each; see `seg_adapt.data.fda.swap_amplitude`.
        resize: (height, width) that the network sees; None keeps each image's own.
    """

    def __init__(
        self,
        held_out: SegmentationDataset,
        target: SegmentationDataset,
        space: LabelSpace,
        *,
        betas: Sequence[float],
        resize: tuple[int, int] | None,
        interpolation: str,
        seed: int,
    ) -> None:
        if not betas or not all(0 < beta <= 1 for beta in betas):
            raise UserError(
                f"SELECTION.BETAS is {list(betas)}, expected at least one share above 0, up to 1"
            )
        self.held_out = held_out
        self.betas = tuple(betas)
        self.num_classes = space.num_classes
        self.resize = resize
        self.interpolation = interpolation
        self.read = Reader(held_out, space)
        generator = np.random.default_rng([seed, 3])
        draws = generator.integers(len(target.records), size=len(held_out.records))
        self.styles = [target.records[draw].image for draw in draws]

    def __len__(self) -> int:
        return len(self.held_out.records)

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Images (number of βs, 3, h, w) at the network's size and train ids (H, W) at the
        file's own, all uint8."""
        image, labels = self.read(self.held_out.records[index])
        size = self.resize or tuple(image.shape[-2:])
        image = resize_image(image, size, self.interpolation)
        style = resize_image(read_image(self.styles[index]), size, self.interpolation)
        return torch.stack([stylize(image, style, beta) for beta in self.betas]), labels


def selection_score(
    method: Method,
    images: StylizedImages,
    *,
    device: torch.device,
    windows: Windows | None = None,
    workers: int = 0,
) -> float:
    """Mean over the βs of the mean IoU (0 to 1) on the stylized images; processes share them.

    Args:
        windows: of the network's input; None predicts it whole.
        workers: processes that read and stylize.
    """
    matrices = [ConfusionMatrix(images.num_classes) for _ in images.betas]
    indices = range(distributed.rank(), len(images), distributed.world_size())
    with evaluating(method):
        for stylized, labels in prefetch(images.load, indices, workers):
            predictions = predict_train_ids(
                method,
                stylized.to(device),
                resize=None,
                size=tuple(labels.shape),
                windows=windows,
            )
            for matrix, prediction in zip(matrices, predictions, strict=True):
                matrix.update(prediction, labels)
    counts = torch.from_numpy(np.stack([matrix.counts for matrix in matrices]))
    for matrix, summed in zip(matrices, distributed.sum_tensor(counts).numpy(), strict=True):
        matrix.counts = summed
    score = float(np.mean([matrix.mean_iou() for matrix in matrices]))
    if np.isnan(score):
        raise UserError(
            f"none of the {len(images)} images held out of '{images.held_out.name}' has a "
            "labeled pixel: raise SELECTION.HELD_OUT"
        )
    return score


class Selection:
    """Keeps the state of the running stage that scored best, in one file, which is all it knows.

    Args:
        path: of that file.
        device, windows, workers: see `selection_score`.
    """

    def __init__(
        self,
        path: Path,
        images: StylizedImages,
        *,
        device: torch.device,
        windows: Windows | None = None,
        workers: int = 0,
    ) -> None:
        self.path = path
        self.images = images
        self.device = device
        self.windows = windows
        self.workers = workers

    def update(self, stage: str, iteration: int, method: Method) -> float:
        """Scores `method` as it is, and keeps it where it is the stage's best; the score."""
        score = selection_score(
            method,
            self.images,
            device=self.device,
            windows=self.windows,
            workers=self.workers,
        )
        if distributed.is_main():
            best = checkpoint.load(self.path) if self.path.is_file() else None
            if best is None or best["stage"] != stage or score > best["score"]:
                state = {"stage": stage, "iteration": iteration, "score": score}
                checkpoint.save(state | {"method": method.state_dict()}, self.path)
        distributed.barrier()
        return score

    def load_best(self, stage: str, method: Method) -> tuple[int, float]:
        """Puts the best state of `stage` into `method`; its iteration and score."""
        best = checkpoint.load(self.path)
        if best["stage"] != stage:
            raise ValueError(f"{self.path} is of stage '{best['stage']}', '{stage}' has no score")
        method.load_state_dict(best["method"])
        return best["iteration"], best["score"]
