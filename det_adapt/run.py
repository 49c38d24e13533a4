"""One run from config to report: where data, detector and evaluation meet."""

import json
import logging
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode

from det_adapt import toy
from det_adapt.config import seed
from det_adapt.data.build import paired_loader, source_dataset
from det_adapt.pictures import attention_pictures, draw_detections, draw_truth
from det_adapt.predictions import read_detections
from det_adapt.run_folder import check_same_run, resolve_weights, write_config
from det_adapt.scoring import evaluating, prediction_path, score
from det_adapt.training import build_training, load_detector
from shared import distributed
from shared.catalog import DetectionDataset
from shared.config import changed
from shared.errors import UserError
from shared.events import METRICS_FILE, RunLog, describe_environment
from shared.images import read_image, write_png
from shared.own_data import resolve_detection
from shared.progress import Progress, peak_memory
from shared.report import write_report
from shared.visualize import panel

logger = logging.getLogger(__name__)

LOG_PERIOD = 20
PANELS = 6
PANEL_HEIGHT = 256


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
        if torch.cuda.is_available() or cfg.MODEL.DEVICE == "cpu":
            distributed.initialise(torch.device(cfg.MODEL.DEVICE))
        if distributed.is_main():
            toy.ensure_data(cfg)
        distributed.barrier()
        # Data before weights: a missing folder is found in a second.
        classes = list(cfg.DATASETS.CLASSES) or list(source_dataset(cfg).classes)
        self.cfg = changed(cfg, "DATASETS.CLASSES", classes)
        if resumed:
            check_same_run(self.folder, self.cfg)
        self.test = _test_dataset(self.cfg)
        weights = "" if resumed else resolve_weights(cfg.MODEL.WEIGHTS)
        resolved = changed(self.cfg, "MODEL.WEIGHTS", weights)
        self.training = build_training(engine, resolved)
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
                return self.evaluate(log)
            log.say("DATASETS.TEST is empty: trained to the end, nothing was scored")
            self._finish(log)
            return {}
        finally:
            log.close()

    def check(self) -> None:
        """Loads the weights and a first pair of samples; UserError where training would stop."""
        self.training.initialise()
        next(iter(paired_loader(changed(self.cfg, "DATALOADER.NUM_WORKERS", 0))))

    def evaluate_weights(self) -> dict:
        """Scores what MODEL.WEIGHTS names; the folder then tells the result as a run's does."""
        (self.folder / METRICS_FILE).unlink(missing_ok=True)
        log = RunLog(self.folder, total=0, active=distributed.is_main())
        self._describe()
        try:
            return self.evaluate(log)
        finally:
            log.close()

    def evaluate(self, log: RunLog | None = None, *, last: bool = True) -> dict:
        """Scores the detector as it is; the last time with the official script and a report."""
        if self.test is None:
            raise UserError("DATASETS.TEST is empty: name a labelled data set to score")
        official = self.folder / "official" if last else None
        scores = score(self.cfg, self.training.model, self.test, self._predictions, official)
        if not distributed.is_main():
            return {}
        scores |= {
            "stage": self._stage,
            "dataset": self.test.name,
            "images": len(self.test.records),
        }
        if log is not None:
            log.write("eval", self.training.iteration, scores)
            log.say(f"iteration {self.training.iteration}: {headline(scores)}")
        if last:
            self._finish(log)
        return scores

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
            self.evaluate(log, last=False)
        progress.resume_clock()

    def _finish(self, log: RunLog | None) -> None:
        if not distributed.is_main():
            return
        for name, picture in self._pictures().items():
            if log is not None:
                log.image(name, picture, self.training.iteration)
        write_report(self.folder, baseline=self.baseline)

    def _pictures(self) -> dict[str, np.ndarray]:
        """Writes and returns them: attention of a training pair, panels of the test images."""
        pictures = {}
        if self.cfg.SAP.ENABLED:
            cfg = changed(self.cfg, "DATALOADER.NUM_WORKERS", 0)
            source, target = next(iter(paired_loader(cfg)))
            samples = {"attention_source": source[0], "attention_target": target[0]}
            with evaluating(self.training.model):
                pictures = attention_pictures(self.training.model, samples)
            for name, picture in pictures.items():
                write_png(self.folder / "pictures" / f"{name}.png", picture)
        return pictures | (self._panels() if self.test is not None else {})

    def _panels(self) -> dict[str, np.ndarray]:
        """Panels input | ground truth | before | after, over the test images."""
        test, columns = self.test, {}
        if self.baseline is not None and (self.baseline / "predictions").is_dir():
            columns[f"before ({self.baseline.name})"] = self.baseline / "predictions"
        columns[self.folder.name] = self._predictions
        panels = {}
        for place in np.linspace(0, len(test.records) - 1, min(PANELS, len(test.records))):
            record = test.records[round(place)]
            image = np.ascontiguousarray(read_image(record.image).permute(1, 2, 0).numpy())
            tiles = {"input": image, "ground truth": draw_truth(image, record, test.classes)}
            for title, folder in columns.items():
                path = prediction_path(folder, record.name)
                if path.is_file():
                    found = read_detections(path, test.classes)
                    tiles[title] = draw_detections(image, found, test.classes)
            panels[record.name] = panel(list(tiles.values()), list(tiles), height=PANEL_HEIGHT)
            write_png(self.folder / "panels" / f"{record.name}.png", panels[record.name])
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


def _test_dataset(cfg: CfgNode) -> DetectionDataset | None:
    names = list(cfg.DATASETS.TEST)
    if not names:
        return None
    if len(names) > 1:
        raise UserError(f"DATASETS.TEST names {', '.join(names)}, expected one data set to score")
    root, classes = toy.dataset_root(cfg), list(cfg.DATASETS.CLASSES)
    return resolve_detection(names[0], root, labelled=True, classes=classes)
