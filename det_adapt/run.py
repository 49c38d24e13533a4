"""One run from config to report: where data, detector and evaluation meet."""

import json
import logging
from pathlib import Path

import numpy as np
from fvcore.common.config import CfgNode

from det_adapt import toy
from det_adapt.config import device_of, seed
from det_adapt.data.build import dataset_root, paired_loader, source_dataset, test_augmentation
from det_adapt.data.loaders import samples_in_order
from det_adapt.pictures import attention_pictures, detection_panels
from det_adapt.run_folder import check_same_run, resolve_weights, settings_of, write_config
from det_adapt.scoring import evaluating, score
from det_adapt.structures import Sample
from det_adapt.training import build_training, load_detector
from shared import distributed
from shared.config import changed
from shared.data.images import write_png
from shared.data.own import resolve_detection
from shared.data.records import DetectionDataset
from shared.errors import UserError
from shared.events import METRICS_FILE, RunLog, describe_environment
from shared.progress import Progress, peak_memory
from shared.report import write_report

logger = logging.getLogger(__name__)

LOG_PERIOD = 20


class Run:
    """A training run and its folder, OUTPUT_DIR.

    The folder explains itself: config.yaml, environment.json, metrics.jsonl, tensorboard/,
    checkpoints/last.pt (Detectron2's own files on Detectron2), predictions/, official/, panels/,
    pictures/ and report.html.

    Args:
        engine: detectron2 or torchvision.
        baseline: folder of the run to compare with; its predictions are the "before" pictures.
        resumed: continue from the folder's checkpoint.
        trained: MODEL.WEIGHTS is a whole detector, to be scored as it is.
    """

    def __init__(
        self,
        cfg: CfgNode,
        engine: str,
        *,
        baseline: Path | None = None,
        resumed: bool = False,
        trained: bool = False,
    ) -> None:
        self.folder = Path(cfg.OUTPUT_DIR)
        self.engine = engine
        self.baseline = baseline
        distributed.initialise(device_of(cfg))
        if distributed.is_main():
            toy.ensure_data(cfg)
        distributed.barrier()
        # Data before weights: a missing folder is found in a second.
        known = self.folder if resumed else Path(cfg.MODEL.WEIGHTS) if trained else None
        self.cfg = changed(cfg, "DATASETS.CLASSES", _classes(cfg, known))
        if resumed:
            check_same_run(self.folder, self.cfg)
        self.test = _test_dataset(self.cfg)
        weights = "" if resumed else resolve_weights(cfg.MODEL.WEIGHTS)
        resolved = changed(self.cfg, "MODEL.WEIGHTS", weights)
        self.training = build_training(engine, resolved)
        self.resumed = resumed
        if trained:
            self.training.model = load_detector(engine, resolved)
        if resumed:
            self.training.resume()
            logger.info("%s: at iteration %d", self.folder, self.training.iteration)

    def train(self) -> dict:
        """Trains to the end, evaluates the last checkpoint and writes the report.

        Returns:
            the scores; empty where there is no test data, and on every process but the first.
        """
        training, cfg = self.training, self.cfg
        # What training would stumble over, before anything is written.
        paired_loader(cfg, rank=distributed.rank(), world_size=distributed.world_size())
        if training.iteration == 0:
            training.initialise()
        if training.iteration == 0 and distributed.is_main():
            # Of another detector that was scored in this folder.
            (self.folder / METRICS_FILE).unlink(missing_ok=True)
        log = RunLog(
            self.folder,
            total=cfg.SOLVER.MAX_ITER,
            start=training.iteration,
            active=distributed.is_main(),
        )
        self._describe()
        progress = Progress(LOG_PERIOD)
        try:
            training.train(lambda logs: self._after_step(logs, log, progress))
            if self.test is not None:
                return self._evaluate(log, self._training_pair())
            log.say("DATASETS.TEST is empty: trained to the end, nothing was scored")
            self._finish(log, self._training_pair())
            return {}
        finally:
            log.close()

    def check(self) -> None:
        """Loads the weights and a first pair of samples; UserError where training would stop."""
        self.training.initialise()
        next(iter(paired_loader(changed(self.cfg, "DATALOADER.NUM_WORKERS", 0))))

    def evaluate(self) -> dict:
        """Scores the detector as it is, with the official script and a report; trains nothing."""
        if self.test is None:
            raise UserError("DATASETS.TEST is empty: name a labelled data set to score")
        if not self.resumed and distributed.is_main():
            (self.folder / METRICS_FILE).unlink(missing_ok=True)
        reached = self.training.iteration
        log = RunLog(self.folder, total=reached, start=reached, active=distributed.is_main())
        if not self.resumed:
            self._describe()
        test = samples_in_order(self.test, test_augmentation(self.cfg))
        try:
            return self._evaluate(log, {"attention_test": next(test)})
        finally:
            log.close()

    def _evaluate(self, log: RunLog, shown: dict[str, Sample] | None = None) -> dict:
        """Scores; at the end of a run also with the official script and a report.

        Args:
            shown: whose attention is drawn, by name; None: the run goes on.
        """
        official = None if shown is None else self.folder / "official"
        scores = score(self.cfg, self.training.model, self.test, self._predictions, official)
        if not distributed.is_main():
            return {}
        scores |= {
            "stage": self._stage,
            "dataset": self.test.name,
            "images": len(self.test.records),
        }
        log.write("eval", self.training.iteration, scores)
        log.say(f"iteration {self.training.iteration}: {headline(scores)}")
        if shown is not None:
            self._finish(log, shown)
        return scores

    def _training_pair(self) -> dict[str, Sample]:
        """A first image of either domain, as training sees them."""
        if not self.cfg.SAP.ENABLED:
            return {}
        [source, *_], [target, *_] = next(
            iter(paired_loader(changed(self.cfg, "DATALOADER.NUM_WORKERS", 0)))
        )
        return {"attention_source": source, "attention_target": target}

    @property
    def _predictions(self) -> Path:
        return self.folder / "predictions"

    @property
    def _stage(self) -> str:
        return "adaptation" if self.cfg.SAP.ENABLED else "source"

    def _after_step(self, logs: dict[str, float], log: RunLog, progress: Progress) -> None:
        cfg, iteration = self.cfg, self.training.iteration
        last = iteration == cfg.SOLVER.MAX_ITER
        means = progress.add(logs, iteration, last=last)
        if means is None:
            log.advance()
        else:
            means |= {"peak_memory_mb": peak_memory(self.training.device)}
            log.write("train", iteration, {"stage": self._stage, **means})
            log.advance({k: v for k, v in means.items() if k.startswith("loss/")})
        period = cfg.TEST.EVAL_PERIOD if self.test is not None else 0
        if period and iteration % period == 0 and not last:
            self._evaluate(log)
        progress.resume_clock()

    def _finish(self, log: RunLog, shown: dict[str, Sample]) -> None:
        """Pictures and report."""
        if not distributed.is_main():
            return
        with evaluating(self.training.model):
            pictures = attention_pictures(self.training.model, shown)
        for name, picture in pictures.items():
            write_png(self.folder / "pictures" / f"{name}.png", picture)
        if self.test is not None:
            pictures |= self._panels()
        for name, picture in pictures.items():
            log.image(name, picture, self.training.iteration)
        write_report(self.folder, baseline=self.baseline)

    def _panels(self) -> dict[str, np.ndarray]:
        """Of the test images, before and after."""
        columns = {}
        if self.baseline is not None and (self.baseline / "predictions").is_dir():
            columns[f"before ({self.baseline.name})"] = self.baseline / "predictions"
        columns[self.folder.name] = self._predictions
        panels = detection_panels(self.test, columns)
        for name, picture in panels.items():
            write_png(self.folder / "panels" / f"{name}.png", picture)
        return panels

    def _describe(self) -> None:
        if not distributed.is_main():
            return
        write_config(self.folder, self.cfg)
        environment = describe_environment(self.cfg.MODEL.DEVICE, seed(self.cfg))
        environment["engine"] = self.engine
        (self.folder / "environment.json").write_text(json.dumps(environment, indent=1))


def headline(scores: dict) -> str:
    """`AP50 61.2 (boxes), 55.0 (masks)`."""

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    text = f"AP50 {shown(scores['map50'])} (boxes)"
    if "mask" in scores["coco"]:
        text += f", {shown(scores['coco']['mask']['map50'])} (masks)"
    if scores["cityscapes"] is not None:
        text += f", Cityscapes' script {shown(scores['cityscapes']['map50'])} (masks)"
    return text


def _classes(cfg: CfgNode, run: Path | None) -> list[str]:
    """DATASETS.CLASSES; where that is empty, those of a run or of the source data set."""
    stored = settings_of(run).get("DATASETS.CLASSES") if run is not None else None
    return list(cfg.DATASETS.CLASSES or stored or source_dataset(cfg).classes)


def _test_dataset(cfg: CfgNode) -> DetectionDataset | None:
    names = list(cfg.DATASETS.TEST)
    if not names:
        return None
    if len(names) > 1:
        raise UserError(f"DATASETS.TEST names {', '.join(names)}, expected one data set to score")
    root, classes = dataset_root(cfg), list(cfg.DATASETS.CLASSES)
    return resolve_detection(names[0], root, labelled=True, classes=classes)
