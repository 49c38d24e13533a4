"""A detection run: where data, detector and evaluation meet."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from fvcore.common.config import CfgNode
from torch import Tensor

from det_adapt import toy
from det_adapt.config import adapts, device_of, seed
from det_adapt.data.build import TrainLoader, classes_of, test_augmentation
from det_adapt.data.loaders import samples_in_order
from det_adapt.engines import build_trainer, engine_defaults, load_detector
from det_adapt.pictures import attention_pictures, detection_panels
from det_adapt.scoring import score, table
from det_adapt.source_stage import resolve_weights
from det_adapt.structures import Sample
from shared import distributed
from shared.config import changed, flatten
from shared.data.folders import data_root
from shared.data.own import resolve_detection
from shared.data.records import DetectionDataset
from shared.errors import UserError
from shared.events import describe_environment
from shared.predictor import evaluating
from shared.run import run
from shared.run.folder import check_same_run, checkpoint_of, settings_of, stored_settings

logger = logging.getLogger(__name__)


class Run(run.Run):
    """A detector of either engine, on its own or adapted; see `shared.run.run.Run`.

    Detectron2's checkpoints lie in the folder itself, under its own names.

    Args:
        engine: detectron2 or torchvision.
        resumed: continue from the folder's checkpoint.
        trained: MODEL.WEIGHTS is a whole detector, to be scored as it is.
    """

    def __init__(
        self,
        cfg: CfgNode,
        engine: str,
        *,
        baseline: Path | None = None,
        compared: Sequence[Path] = (),
        resumed: bool = False,
        trained: bool = False,
    ) -> None:
        super().__init__(cfg, baseline=baseline, compared=compared)
        self.engine = engine
        self.defaults = engine_defaults(engine)
        self._trains = False
        distributed.init_process_group(device_of(cfg))
        if distributed.is_main():
            toy.ensure_data(cfg)
        distributed.barrier()
        # Data before weights: a missing folder is found in a second.
        stored: Mapping[str, object] = {}
        if resumed:
            stored = flatten(stored_settings(checkpoint_of(self.folder)))
        elif trained:
            stored = settings_of(Path(cfg.MODEL.WEIGHTS))
        self.cfg = changed(cfg, "DATASETS.CLASSES", _classes(cfg, stored))
        if resumed:
            # The trainer got the file in place of the run that MODEL.WEIGHTS names.
            then = flatten(self.defaults) | stored | {"MODEL.WEIGHTS": cfg.MODEL.WEIGHTS}
            changes = check_same_run(self.folder, then, flatten(self.cfg))
        self.tests = _test_datasets(self.cfg)
        self.test = next(iter(self.tests), None)
        weights = "" if resumed else resolve_weights(cfg.MODEL.WEIGHTS)
        resolved = changed(self.cfg, "MODEL.WEIGHTS", weights)
        self.training = build_trainer(engine, resolved)
        self.device = self.training.device
        if trained:
            self.training.model = load_detector(engine, resolved)
        if resumed:
            self.go_on(self.training.resume(), changes)
            logger.info("%s: at iteration %d", self.folder, self.iteration)

    @property
    def iteration(self) -> int:
        return self.training.iteration

    @property
    def total(self) -> int:
        return self.cfg.SOLVER.MAX_ITER

    @property
    def stage(self) -> str:
        return "adaptation" if adapts(self.cfg) else "source"

    @staticmethod
    def headline(scores: Mapping) -> str:
        """`AP50 61.2 (boxes), 60.9 (boxes, paper's protocol), 55.0 (masks)`."""

        def percent(value: float | None) -> str:
            return "–" if value is None else f"{value:.2f}"

        titles = {"ours": "boxes", "paper": "boxes, paper's protocol"}
        first = scores.get("protocol", "ours")  # older runs have no other
        text = f"AP50 {percent(scores['map50'])} ({titles[first]})"
        for name, boxes in scores.get("boxes", {}).items():
            if name != first:
                text += f", {percent(boxes['map50'])} ({titles[name]})"
        if "mask" in scores["coco"]:
            text += f", {percent(scores['coco']['mask']['map50'])} (masks)"
        if scores["cityscapes"] is not None:
            text += f", Cityscapes' script {percent(scores['cityscapes']['map50'])} (masks)"
        return text

    def details(self, scores: Mapping) -> list[str]:
        return table(scores["data_sets"]) if "data_sets" in scores else []

    def environment(self) -> dict:
        described = describe_environment(self.cfg.MODEL.DEVICE, seed(self.cfg))
        return described | {"engine": self.engine}

    def check(self) -> None:
        """Loads the weights and a first pair of samples; UserError where training would stop."""
        self.training.load_weights()
        next(iter(TrainLoader(changed(self.cfg, "DATALOADER.NUM_WORKERS", 0))))

    def train(self) -> dict:
        # What training would stumble over, before anything is written.
        TrainLoader(self.cfg, rank=distributed.rank(), world_size=distributed.world_size())
        if self.iteration == 0:
            self.training.load_weights()
        self._trains = True
        return super().train()

    @property
    def weights(self) -> Mapping[str, Tensor]:
        return self.training.model.state_dict()

    def save(self) -> None:
        self.training.save(self.progress.values)

    def fit(self) -> None:
        self.training.train(self.after_step)
        self.save()

    def score(self, predictions: Path, official: Path | None) -> dict:
        """Of the first of DATASETS.TEST; with more, "data_sets" has the means of each, and files of
        the others are in folders of their names."""
        by_name = {}
        for test in self.tests:
            below = "" if test is self.test else test.name
            script = None if official is None else official / below
            model = self.training.model
            by_name[test.name] = score(self.cfg, model, test, predictions / below, script)
        first = by_name[self.test.name]
        if len(self.tests) == 1 or not first:
            return first
        means = {
            test.name: {
                "images": len(test.records),
                "map50": by_name[test.name]["map50"],
                "protocols": by_name[test.name]["protocols"],
            }
            for test in self.tests
        }
        return first | {"data_sets": means}

    def pictures(self) -> dict[str, np.ndarray]:
        """Where the pyramid looks: in a first image of either domain, or in a test image."""
        with evaluating(self.training.model):
            return attention_pictures(self.training.model, self._shown())

    def _shown(self) -> dict[str, Sample]:
        if not self._trains:
            test = samples_in_order(self.test, test_augmentation(self.cfg))
            return {"attention_test": next(test)}
        if not self.cfg.SAP.ENABLED:
            return {}
        pairs = TrainLoader(changed(self.cfg, "DATALOADER.NUM_WORKERS", 0))
        [source, *_], [target, *_] = next(iter(pairs))
        return {"attention_source": source, "attention_target": target}

    def panels(self) -> dict[str, np.ndarray]:
        if self.test is None:
            return {}
        columns = self.compared_predictions() | {self.folder.name: self.predictions}
        return detection_panels(self.test, columns)


def _classes(cfg: CfgNode, stored: Mapping[str, object]) -> list[str]:
    """DATASETS.CLASSES; where that is empty, those that a run stored, or the source data set's."""
    classes = stored.get("DATASETS.CLASSES")
    return list(classes) if classes and not cfg.DATASETS.CLASSES else classes_of(cfg)


def _test_datasets(cfg: CfgNode) -> list[DetectionDataset]:
    root, classes = data_root(cfg.DATASETS.ROOT), list(cfg.DATASETS.CLASSES)
    tests = [
        resolve_detection(name, root, labeled=True, classes=classes) for name in cfg.DATASETS.TEST
    ]
    names = [test.name for test in tests]
    if len(set(names)) < len(names):
        raise UserError(f"DATASETS.TEST names {', '.join(names)}, expected different names")
    return tests
