"""Instances in the official Cityscapes format, and cityscapesScripts' own scores of them.

The script's functions for one frame run in several processes, those for all frames in this one.
Left out is only what it writes besides, its matches into the current folder and a cache of the
ground truth, never renewed, into the installed package.
"""

import json
import shutil
import warnings
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np

from det_adapt.evaluation.base import Evaluation
from det_adapt.structures import Detections
from shared.cityscapes_scripts import load_script, running_script
from shared.data.cityscapes import CITYSCAPES_THINGS
from shared.data.images import write_png
from shared.data.label_maps import ID_TABLES
from shared.data.records import DetectionDataset, DetectionRecord
from shared.errors import UserError
from shared.files import write_atomically
from shared.processes import in_processes

RESULT = "resultInstanceLevelSemanticLabeling.json"

_SCRIPT = load_script("evalInstanceLevelSemanticLabeling")
_SCRIPT.setInstanceLabels(_SCRIPT.args)
_LABEL_IDS = {name: i for i, name in ID_TABLES.get("cityscapes").items()}


def write_prediction(
    folder: str | Path, name: str, detections: Detections, classes: Sequence[str]
) -> Path:
    """Write `<name>.txt` and, in the folder `<name>`, one mask for each of its lines.

    Args:
        name: `<city>_<sequence>_<frame>`, and what may follow.
        detections: with masks, at the size of the file.
        classes: names by class index; `CITYSCAPES_THINGS` or some of them.

    Returns:
        The text file.
    """
    if detections.masks is None:
        raise UserError(
            f"detections of frame '{name}' have no masks, which the Cityscapes instance script "
            "scores; set MODEL.MASK_ON, or evaluate boxes only"
        )
    folder = Path(folder)
    if (folder / name).is_dir():
        shutil.rmtree(folder / name)
    lines = []
    for i, (mask, score, index) in enumerate(
        zip(
            detections.masks.cpu().numpy(),
            detections.scores.tolist(),
            detections.classes.tolist(),
            strict=True,
        )
    ):
        write_png(folder / name / f"{i}.png", mask.astype(np.uint8) * 255)
        lines.append(f"{name}/{i}.png {_LABEL_IDS[classes[index]]} {score}\n")
    path = folder / f"{name}.txt"
    write_atomically(path, "".join(lines).encode())
    return path


class CityscapesEvaluation(Evaluation[Path]):
    """The official AP of masks over the overlaps 0.5, 0.55, …, 0.95.

    Its rules are not COCO's: predictions that are mostly void, group or true instances of less than
    100 pixels count neither way, and the curve is summed without making precision fall.

    Args:
        folder: where predictions and the script's result are written; what an earlier evaluation of
            the same frames left there is replaced.
        workers: processes, as in `shared.processes.worker_count`.
    """

    def __init__(self, dataset: DetectionDataset, folder: str | Path, workers: int = 0) -> None:
        super().__init__(dataset)
        unknown = [name for name in dataset.classes if name not in CITYSCAPES_THINGS]
        truths = {record.instances for record in dataset.records}
        if unknown or None in truths:
            raise UserError(
                f"the official Cityscapes script does not apply to data set '{dataset.name}', "
                "expected Cityscapes or Foggy Cityscapes with the classes "
                f"{', '.join(CITYSCAPES_THINGS)}, or some of them"
            )
        if len(truths) < len(dataset.records):
            raise UserError(
                f"data set '{dataset.name}' shows frames more than once, of which the official "
                "Cityscapes script takes one prediction each; name a data set of one β"
            )
        self.folder, self.workers = Path(folder).resolve(), workers
        root = dataset.official_root
        if root is not None and self.folder.is_relative_to(root.resolve()):
            raise UserError(f"folder {folder} is inside the data set; choose one outside")

    def scores(self) -> dict:
        """`ap` and `ap50` of all eight classes, and their means `map` and `map50`.

        A class that `dataset.classes` lacks scores 0, as it is never predicted. The script's full
        result is written into `folder`.
        """
        truths = [record.instances for record in self.dataset.records]
        result = score_files(truths, self._all(), self.folder, self.workers)
        write_atomically(self.folder / RESULT, json.dumps(result, indent=4).encode())
        averages, by_class = result["averages"], result["averages"]["classes"]
        return {
            "ap": {c: _none_if_nan(by_class[c]["ap"]) for c in CITYSCAPES_THINGS},
            "ap50": {c: _none_if_nan(by_class[c]["ap50%"]) for c in CITYSCAPES_THINGS},
            "map": _none_if_nan(averages["allAp"]),
            "map50": _none_if_nan(averages["allAp50%"]),
        }

    def _keep(self, record: DetectionRecord, detections: Detections) -> Path:
        return write_prediction(self.folder, record.name, detections, self.dataset.classes)


def score_files(
    truths: Sequence[Path], predictions: Sequence[Path], folder: Path, workers: int = 0
) -> dict:
    """What the official script writes as its result, to the last bit.

    Args:
        truths: instance PNGs, each once.
        predictions: the text file of each; their masks lie below `folder`.
        workers: as in `shared.processes.worker_count`.
    """
    jobs = [(str(t), str(p), str(folder)) for t, p in zip(truths, predictions, strict=True)]
    matches: dict[str, dict] = {}
    for of_frame in in_processes(_match, jobs, workers):
        matches |= of_frame
    options = _SCRIPT.args
    scores = np.array(
        [
            [_average_precision(matches, label, overlap) for overlap in options.overlaps]
            for label in options.instLabels
        ]
    )[None]
    with warnings.catch_warnings():
        # The mean of no class at all, which stays NaN.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        averages = _SCRIPT.computeAverages(scores, options)
    return _SCRIPT.prepareJSONDataForResults(averages, scores, options)


def _average_precision(matches: dict[str, dict], label: str, overlap: float) -> float:
    """AP of one class at one overlap; NaN for a class without ground truth."""
    only = copy(_SCRIPT.args)
    only.instLabels, only.overlaps = [label], np.array([overlap])
    try:
        return _SCRIPT.evaluateMatches(matches, only).item()
    except IndexError:
        # The script stops where no true instance is found and every prediction is ignored.
        return 0.0


def _match(job: tuple[str, str, str]) -> dict[str, dict]:
    """The script's matches of one frame: (instance PNG, prediction file, their root)."""
    truth, prediction, folder = job
    options = copy(_SCRIPT.args)
    options.predictionPath = folder
    with running_script(prediction):
        instances = _SCRIPT.instances2dict([truth])
        return _SCRIPT.matchGtWithPreds([prediction], [truth], instances, options)


def _none_if_nan(score: float) -> float | None:
    return None if np.isnan(score) else float(score)
