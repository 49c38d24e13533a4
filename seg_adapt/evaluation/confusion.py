"""Intersection over union from pixel counts, equal to cityscapesScripts' to the last bit."""

import math
from collections.abc import Iterable

import numpy as np
import torch

from shared.data.label_maps import IGNORE, LabelSpace
from shared.errors import UserError


def _as_bytes(labels: np.ndarray | torch.Tensor, what: str) -> np.ndarray:
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    if labels.dtype == np.uint8:
        return labels
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if labels.dtype.kind not in "iu" or low < 0 or high > IGNORE:
        raise UserError(
            f"{what} is {labels.dtype} from {low} to {high}; expected integer train ids or {IGNORE}"
        )
    return labels.astype(np.uint8)


class ConfusionMatrix:
    """Counts of pixels by true and predicted class; pixels whose truth is 255 are not counted.

    Attributes:
        counts: (C, C + 1) int64; rows are the truth, columns the prediction, the last column holds
            the pixels for which no class of the space was predicted.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(
        self, prediction: np.ndarray | torch.Tensor, truth: np.ndarray | torch.Tensor
    ) -> None:
        """Count a map or a batch.

        Args:
            prediction: integers of any shape, train ids; others count as void. uint8 is quickest.
            truth: the same shape; train ids or 255.
        """
        if tuple(prediction.shape) != tuple(truth.shape):
            raise UserError(
                f"prediction has shape {tuple(prediction.shape)}, truth {tuple(truth.shape)}; "
                "scores are counted at the size of the ground truth"
            )
        pairs = _as_bytes(truth, "ground truth").astype(np.uint16)
        pairs <<= 8
        pairs |= _as_bytes(prediction, "prediction")
        counts = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
        c = self.num_classes
        stray = np.flatnonzero(counts[c:IGNORE].any(axis=1))
        if stray.size:
            raise UserError(
                f"ground truth holds {stray[0] + c}; expected train ids 0 to {c - 1} or {IGNORE}: "
                "map raw ids with shared.data.label_maps.lookup_table"
            )
        self.counts[:, :c] += counts[:c, :c]
        self.counts[:, c] += counts[:c, c:].sum(axis=1)

    def merge(self, other: "ConfusionMatrix") -> None:
        """Add the counts of a matrix over other pixels."""
        if other.num_classes != self.num_classes:
            raise UserError(
                f"cannot merge matrices of {self.num_classes} and {other.num_classes} classes"
            )
        self.counts += other.counts

    def iou(self) -> list[float]:
        """tp / (tp + fp + fn) per class; NaN for a class neither present nor predicted."""
        scores = []
        for c in range(self.num_classes):
            true_positive = int(self.counts[c, c])
            union = int(self.counts[c].sum() + self.counts[:, c].sum()) - true_positive
            scores.append(float(true_positive) / union if union else math.nan)
        return scores

    def mean_iou(self, subset: Iterable[int] | None = None) -> float:
        """Mean over the classes of `subset` (default: all) whose IoU is a number."""
        scores = self.iou()
        return mean([scores[c] for c in (range(self.num_classes) if subset is None else subset)])

    def pixel_accuracy(self) -> float:
        """Share of the counted pixels that are right."""
        total = int(self.counts.sum())
        return int(np.trace(self.counts)) / total if total else math.nan

    def scores(self, space: LabelSpace) -> dict:
        """Everything there is to report, ready for JSON (None stands for NaN).

        With 16 classes this differs from the official script, which counts the pixels of terrain,
        truck and train as errors of whatever was predicted there; here they are ignored, as the
        papers that train 16 outputs do.

        Returns:
            `iou` by class name, `miou`, `protocols` (mean IoU by published class list), and
            `pixel_accuracy`.
        """
        if space.num_classes != self.num_classes:
            raise UserError(
                f"label space '{space.name}' has {space.num_classes} classes, the matrix "
                f"{self.num_classes}"
            )
        index = {name: i for i, name in enumerate(space.classes)}
        return {
            "iou": {n: none_if_nan(v) for n, v in zip(space.classes, self.iou(), strict=True)},
            "miou": none_if_nan(self.mean_iou()),
            "protocols": {
                name: none_if_nan(self.mean_iou(index[c] for c in classes))
                for name, classes in space.protocols.items()
            },
            "pixel_accuracy": none_if_nan(self.pixel_accuracy()),
        }


def mean(scores: Iterable[float]) -> float:
    """Mean of the numbers among `scores`; NaN where there is none."""
    numbers = [s for s in scores if not math.isnan(s)]
    # From Python 3.12 on, sum() compensates rounding errors; cityscapesScripts does not.
    total = 0.0
    for number in numbers:
        total += number
    return total / len(numbers) if numbers else math.nan


def none_if_nan(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
