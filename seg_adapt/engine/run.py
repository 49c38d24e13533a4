"""One run from config to report: where data, model, method and engine meet."""

import json
import logging
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from tqdm import tqdm

from seg_adapt.config import check
from seg_adapt.data.dataset import check_sizes
from seg_adapt.engine import toy
from seg_adapt.engine.build import (
    dataset_root,
    device_of,
    loader_from_config,
    method_from_config,
    segmentor_from_config,
    test_size,
    training_datasets,
)
from seg_adapt.engine.checkpoint import resume_run, save_run
from seg_adapt.engine.evaluate import evaluate, write_panels
from seg_adapt.engine.trainer import Trainer
from seg_adapt.evaluation.cityscapes import run_official
from seg_adapt.methods.base import Method
from seg_adapt.models.weights import initialise
from shared import distributed
from shared.errors import UserError
from shared.events import RunLog, describe_environment
from shared.images import image_size
from shared.own_data import resolve_label_space, resolve_segmentation
from shared.report import write_report

logger = logging.getLogger(__name__)


class Run:
    """A training run and its folder.

    The folder explains itself: config.yaml, environment.json, metrics.jsonl, tensorboard/,
    checkpoints/last.pt, predictions/, official/, panels/ and report.html.

    Args:
        baseline: folder of the run to compare with; its predictions are the "before" pictures.
    """

    def __init__(self, cfg: CfgNode, folder: Path, *, baseline: Path | None = None) -> None:
        check(cfg)
        test_size(cfg)
        self.cfg = cfg
        self.folder = folder
        self.baseline = baseline
        self.device = device_of(cfg)
        distributed.initialise(self.device)
        self.space = resolve_label_space(cfg.DATA.LABEL_SPACE)
        root = dataset_root(cfg)
        if distributed.is_main():
            toy.ensure_data(cfg, root)
        distributed.barrier()
        # Data before weights: a missing folder is found in a second, pre-training takes minutes.
        self.test = None
        if cfg.DATA.TEST:
            self.test = resolve_segmentation(cfg.DATA.TEST, root, space=self.space, labelled=True)
        self.method = self._build_method()
        self.source, self.target = training_datasets(cfg, self.space, self.method.needs_target)
        self._load_weights(root)
        self.method.to(self.device).prepare()
        self.trainer = Trainer(self.method, cfg.SOLVER, seed=cfg.SEED, device=self.device)

    def _build_method(self) -> Method:
        # The segmentor draws first: every method of one seed starts from the same head.
        torch.manual_seed(self.cfg.SEED)
        segmentor = segmentor_from_config(self.cfg, self.space.num_classes)
        return method_from_config(self.cfg, segmentor)

    def _load_weights(self, root: Path) -> None:
        if distributed.is_main():
            toy.resolve_weights(self.cfg, root, make=True)
        distributed.barrier()
        weights = toy.resolve_weights(self.cfg, root, make=False)
        report = initialise(self.method.segmentor, weights)
        if report is not None:
            logger.info("%s: %s", weights, report)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    def resume(self, *, required: bool = False) -> None:
        """Continues from the folder's last checkpoint; from the start where there is none.

        Args:
            required: a missing checkpoint is a MissingFileError.
        """
        if required or self.checkpoint.is_file():
            resume_run(self.checkpoint, self.trainer, self.cfg, self.space)
            logger.info("%s: at iteration %d", self.checkpoint, self.trainer.iteration)

    def check(self) -> None:
        """Reads the sizes of all labelled pairs and one batch of each domain; trains nothing."""
        for dataset in filter(None, (self.source.dataset, self.test)):
            for record in tqdm(dataset.records, desc=f"checking {dataset.name}", leave=False):
                check_sizes(record, image_size(record.image), image_size(record.label))
        next(iter(loader_from_config(self.cfg, self.source, self.target, 0, 1)))

    def train(self) -> dict:
        """Trains to the end, evaluates the last checkpoint and writes the report.

        Returns:
            the scores; an empty dictionary where there is no test data (`DATA.TEST` is empty).
        """
        trainer, cfg = self.trainer, self.cfg
        loader = loader_from_config(cfg, self.source, self.target, trainer.iteration, trainer.total)
        log = RunLog(
            self.folder,
            total=trainer.total,
            start=trainer.iteration,
            active=distributed.is_main(),
        )
        self._describe()
        progress = _Progress(cfg.LOG_INTERVAL)
        try:
            trainer.train(loader, lambda logs: self._after_step(logs, log, progress))
            if trainer.iteration % cfg.CHECKPOINT_INTERVAL:
                self._save()
            if self.test is not None:
                return self.evaluate(log, last=True)
            log.say("DATA.TEST is empty: trained to the end, nothing was scored")
            if distributed.is_main():
                write_report(self.folder, baseline=self.baseline)
            return {}
        finally:
            log.close()

    def _after_step(self, logs: dict[str, float], log: RunLog, progress: "_Progress") -> None:
        cfg, iteration = self.cfg, self.trainer.iteration
        means = progress.add(logs, iteration, last=iteration == self.trainer.total)
        if means is None:
            log.advance()
        else:
            means = distributed.mean_scalars(means) | {"peak_memory_mb": _peak_memory(self.device)}
            stage = self.trainer.stages[self.trainer.stage_index].name
            log.write("train", iteration, {"stage": stage, **means})
            log.advance({k: v for k, v in means.items() if k.startswith("loss/")})
        if iteration % cfg.CHECKPOINT_INTERVAL == 0:
            self._save()
        interval = cfg.TEST.INTERVAL if self.test is not None else 0
        if interval and iteration % interval == 0 and iteration < self.trainer.total:
            self.evaluate(log, last=False)
        progress.resume_clock()

    def evaluate(self, log: RunLog | None = None, *, last: bool = True) -> dict:
        """Scores the method as it is; the last time with the official script and a report."""
        cfg = self.cfg
        if self.test is None:
            raise UserError("DATA.TEST is empty: name a labelled dataset to score")
        matrix = evaluate(
            self.method,
            self.test,
            self.space,
            resize=test_size(cfg),
            interpolation=cfg.INPUT.INTERPOLATION,
            device=self.device,
            predictions=self.predictions,
        )
        scores = _percent(matrix.scores(self.space))
        if not distributed.is_main():
            return scores
        official = None
        if last and cfg.TEST.OFFICIAL and self.test.official_root and self.space.label_ids:
            official = _percent(
                run_official(
                    self.test.official_root, self.predictions, self.folder / "official", self.space
                )
            )
        scores |= {
            "dataset": cfg.DATA.TEST,
            "images": len(self.test.records),
            "official": official,
        }
        if log is not None:
            log.write("eval", self.trainer.iteration, scores)
            log.say(f"iteration {self.trainer.iteration}: mIoU {scores['miou']:.2f}")
        if last:
            self._illustrate(log)
            write_report(self.folder, baseline=self.baseline)
        return scores

    def _illustrate(self, log: RunLog | None) -> None:
        columns = {}
        if self.baseline is not None and (self.baseline / "predictions").is_dir():
            columns[f"before ({self.baseline.name})"] = self.baseline / "predictions"
        columns[self.cfg.METHOD] = self.predictions
        panels = write_panels(
            self.folder / "panels", self.test, self.space, columns, self.cfg.TEST.PICTURES
        )
        for name, picture in panels.items():
            if log is not None:
                log.image(name, picture, self.trainer.iteration)

    def _save(self) -> None:
        if distributed.is_main():
            save_run(self.checkpoint, self.trainer, self.cfg, self.space)

    def _describe(self) -> None:
        if not distributed.is_main():
            return
        (self.folder / "config.yaml").write_text(self.cfg.dump())
        environment = describe_environment(self.cfg.DEVICE, self.cfg.SEED)
        (self.folder / "environment.json").write_text(json.dumps(environment, indent=1))


class _Progress:
    """Means of the logs between two log lines."""

    def __init__(self, interval: int) -> None:
        self.interval = max(interval, 1)
        self._start()

    def _start(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)
        self.resume_clock()

    def resume_clock(self) -> None:
        """Leaves out what was done between two steps: checkpoints, evaluation."""
        self.began = time.perf_counter()

    def add(self, logs: dict[str, float], iteration: int, *, last: bool) -> dict | None:
        """The means since the last line at every `interval`th iteration, otherwise None.

        A value that only some of the iterations have is averaged over those.
        """
        logs = logs | {"seconds_per_iteration": time.perf_counter() - self.began}
        for name, value in logs.items():
            self.values[name].append(value)
        if iteration % self.interval and not last:
            return None
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        self._start()
        return means


def _peak_memory(device: torch.device) -> float:
    """MB: the GPU's peak where there is one, otherwise this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _percent(scores: dict) -> dict:
    """Shares to percent, through nested dictionaries; None stays None."""
    return {
        key: _percent(value)
        if isinstance(value, dict)
        else (None if value is None else 100.0 * value)
        for key, value in scores.items()
    }
