"""What every measure of detections does alike: one frame after the other, each exactly once."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, TypeVar

from det_adapt.structures import Detections
from shared.data.records import DetectionDataset, DetectionRecord
from shared.errors import UserError

Kept = TypeVar("Kept")


class Evaluation(ABC, Generic[Kept]):
    """Scores of a data set's frames; `update` with each of them, in any order, then `scores`.

    What a frame adds is made small at once: no boxes of other frames, no masks stay in memory.

    Attributes:
        frames: how many have been added.
    """

    def __init__(self, dataset: DetectionDataset) -> None:
        if any(record.annotations is None for record in dataset.records):
            raise UserError(
                f"data set '{dataset.name}' was loaded without annotations, expected "
                "load_detection(…, labeled=True) for an evaluation"
            )
        self.dataset = dataset
        self._records = {record.name: record for record in dataset.records}
        self._kept: dict[str, Kept] = {}

    @property
    def frames(self) -> int:
        return len(self._kept)

    def update(self, name: str, detections: Detections) -> None:
        """Adds what was found in the frame `name`; nothing found is a `Detections` of length 0."""
        record = self._records.get(name)
        if record is None:
            raise UserError(f"frame '{name}' is not in data set '{self.dataset.name}'")
        if name in self._kept:
            raise UserError(f"frame '{name}' was evaluated before; add each frame once")
        _check(record, detections, self.dataset)
        self._kept[name] = self._keep(record, detections)

    def merge(self, other: "Evaluation[Kept]") -> None:
        """Adds the frames of another process."""
        twice = self._kept.keys() & other._kept.keys()
        if twice:
            raise UserError(f"frame '{min(twice)}' was evaluated twice; add each frame once")
        self._kept |= other._kept

    @abstractmethod
    def scores(self) -> dict:
        """Ready for JSON: fractions of 1, and None for what has no ground truth."""

    @abstractmethod
    def _keep(self, record: DetectionRecord, detections: Detections) -> Kept:
        """What `scores` needs to know of a frame."""

    def _all(self) -> list[Kept]:
        """What was kept, in the data set's order: ties do not depend on the order of updates."""
        missing = [name for name in self._records if name not in self._kept]
        if missing:
            raise UserError(
                f"{len(missing)} of the {len(self._records)} frames of data set "
                f"'{self.dataset.name}' were not evaluated (first: {missing[0]}); add all"
            )
        return [self._kept[name] for name in self._records]


def mean_or_none(scores: Iterable[float | None]) -> float | None:
    """Mean of the numbers among `scores`; None where there is none."""
    numbers = [score for score in scores if score is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _check(record: DetectionRecord, detections: Detections, dataset: DetectionDataset) -> None:
    n, where = len(detections), f"detections of frame '{record.name}'"
    if detections.boxes.shape != (n, 4) or detections.classes.shape != (n,):
        raise UserError(
            f"{where}: got boxes {tuple(detections.boxes.shape)} and classes "
            f"{tuple(detections.classes.shape)} with {n} scores, expected ({n}, 4) and ({n},)"
        )
    if not detections.scores.isfinite().all():
        raise UserError(f"{where} have a score that is no finite number; the network diverged")
    stray = detections.classes[
        (detections.classes < 0) | (detections.classes >= len(dataset.classes))
    ]
    if len(stray):
        raise UserError(
            f"{where} have class {stray[0].item()}, expected 0 to {len(dataset.classes) - 1} "
            f"({', '.join(dataset.classes)})"
        )
    if detections.masks is not None:
        expected = (n, record.height, record.width)
        if tuple(detections.masks.shape) != expected:
            raise UserError(
                f"{where} have masks of shape {tuple(detections.masks.shape)}, expected "
                f"{expected}: the size of the file"
            )
