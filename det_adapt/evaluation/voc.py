"""Average precision as the PASCAL VOC devkit defines it.

The devkit counts pixels from 1 and includes both ends of a box, hence its width xmax - xmin + 1. A
record's box [x1, x2) = [xmin - 1, xmax) has the same width x2 - x1 and the same intersections, so
the numbers are the devkit's, without a + 1. (Adding 1 to the widths of such boxes, as is done where
a box counts from 0 and is taken for an inclusive one, gives larger overlaps.)
"""

from dataclasses import dataclass

import numpy as np

from det_adapt.evaluation.base import Evaluation, mean_or_none
from det_adapt.structures import Detections
from shared.data.records import DetectionDataset, DetectionRecord
from shared.errors import UserError

METRICS = ("area", "11-point")

_FALSE, _TRUE, _IGNORED = 0, 1, 2


@dataclass(frozen=True)
class _Frame:
    """Of one frame; `outcomes` as in `match`."""

    scores: np.ndarray  # (n,)
    classes: np.ndarray  # (n,)
    outcomes: np.ndarray  # (n,) uint8
    positives: np.ndarray  # (C,) ground-truth boxes that count


class VOCEvaluation(Evaluation[_Frame]):
    """AP of each class at one overlap; difficult things and crowds count neither way.

    Args:
        iou: overlap from which on a box is found (the devkit's ≥; ports of it to Python take >).
        metric: "area" below the precision envelope (VOC2010 and later), or "11-point" (VOC2007).
        ignore_crowds: False: they are no part of the truth, and what is found there is false.
        min_size: pixels; of the truth, boxes with a smaller side are left out.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        iou: float = 0.5,
        metric: str = "area",
        *,
        ignore_crowds: bool = True,
        min_size: float = 0.0,
    ) -> None:
        super().__init__(dataset)
        self.ignore_crowds, self.min_size = ignore_crowds, min_size
        if not 0 < iou <= 1:
            raise UserError(f"got an overlap of {iou}, expected more than 0 and at most 1")
        if metric not in METRICS:
            raise UserError(f"got AP metric '{metric}', expected one of: {', '.join(METRICS)}")
        self.iou, self.metric = iou, metric

    def scores(self) -> dict:
        """`ap50` by class and their mean `map50`, where 50 is 100 · `iou`; and `metric`."""
        average = {}
        for index, name in enumerate(self.dataset.classes):
            precision, recall = self.curve(index)
            average[name] = (
                None if recall is None else average_precision(precision, recall, self.metric)
            )
        at = f"{100 * self.iou:g}"
        mean = mean_or_none(average.values())
        return {f"ap{at}": average, f"map{at}": mean, "metric": self.metric}

    def curve(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Precision and recall of a class after each detection that counts, by falling score.

        Equal scores stay in the data set's order.

        Returns:
            Both (n,) float64; recall is None for a class without ground truth.
        """
        frames = self._all()
        chosen = [frame.classes == index for frame in frames]
        none = np.empty(0)
        scores = [f.scores[which] for f, which in zip(frames, chosen, strict=True)]
        outcomes = [f.outcomes[which] for f, which in zip(frames, chosen, strict=True)]
        scores, outcomes = np.concatenate([none, *scores]), np.concatenate([none, *outcomes])
        outcomes = outcomes[np.argsort(-scores, kind="stable")]
        outcomes = outcomes[outcomes != _IGNORED]
        found = np.cumsum(outcomes == _TRUE)
        precision = found / np.arange(1, len(found) + 1)
        positives = sum(int(frame.positives[index]) for frame in frames)
        return precision, found / positives if positives else None

    def _keep(self, record: DetectionRecord, detections: Detections) -> _Frame:
        found = detections.to("cpu")
        truths = [
            a
            for a in record.annotations
            if a.is_at_least(self.min_size) and (self.ignore_crowds or not a.crowd)
        ]
        index_of = {name: i for i, name in enumerate(self.dataset.classes)}
        true_boxes = np.array([a.box for a in truths], np.float64).reshape(-1, 4)
        true_classes = np.array([index_of[a.category] for a in truths], np.int64)
        ignored = np.array([a.difficult or a.crowd for a in truths], bool)
        # Not by the caller's order: a claim goes to the highest score.
        order = np.argsort(-found.scores.numpy(), kind="stable")
        scores, classes = found.scores.numpy()[order], found.classes.numpy()[order]
        boxes = found.boxes.numpy()[order].astype(np.float64)
        outcomes = np.empty(len(order), np.uint8)
        for index in np.unique(classes):
            mine, true = classes == index, true_classes == index
            overlaps = pairwise_iou(boxes[mine], true_boxes[true])
            outcomes[mine] = match(overlaps, ignored[true], self.iou)
        positives = np.bincount(true_classes[~ignored], minlength=len(index_of))
        return _Frame(scores, classes, outcomes, positives)


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 4) with (m, 4) boxes x1 y1 x2 y2, x2 and y2 exclusive.

    Returns:
        (n, m) float64; 0 where both are empty.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inside = (high - low).clip(0).prod(axis=2)
    areas, other_areas = ((b[:, 2:] - b[:, :2]).clip(0).prod(axis=1) for b in (boxes, others))
    union = areas[:, None] + other_areas[None] - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def match(overlaps: np.ndarray, ignored: np.ndarray, iou: float) -> np.ndarray:
    """What becomes of the detections of one class in one frame.

    Each detection goes to the true box that it overlaps most, the first of equals. Below `iou` it
    is false; at an ignored box it is ignored; else the first is true, those after it false.

    Args:
        overlaps: (n, m), detections by falling score.
        ignored: (m,) bool.

    Returns:
        (n,) uint8: 0 false, 1 true, 2 ignored.
    """
    outcomes = np.full(len(overlaps), _FALSE, np.uint8)
    if not overlaps.size:
        return outcomes
    nearest = overlaps.argmax(axis=1)
    hit = overlaps.max(axis=1) >= iou
    outcomes[hit & ignored[nearest]] = _IGNORED
    claims = np.flatnonzero(hit & ~ignored[nearest])
    _, first = np.unique(nearest[claims], return_index=True)
    outcomes[claims[first]] = _TRUE
    return outcomes


def average_precision(precision: np.ndarray, recall: np.ndarray, metric: str) -> float:
    """Average precision of a curve, whose precision is first made to fall with recall.

    p(r) = max of the precision at recalls of at least r. "area": Σ (rᵢ - rᵢ₋₁) p(rᵢ); "11-point":
    the mean of p at 0, 0.1, …, 1.

    Args:
        precision, recall: (n,), by falling score.
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if metric == "area":
        return float(np.diff(recall, prepend=0.0) @ envelope)
    # Quotients, as recall is one: 0.1 · 3 is more than 3 / 10.
    first = np.searchsorted(recall, np.arange(11) / 10)
    return float(np.append(envelope, 0.0)[first].mean())
