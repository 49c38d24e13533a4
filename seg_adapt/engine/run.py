"""One run from config to report: where data, model, method and engine meet."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch.utils.data import DataLoader
from tqdm import tqdm

from seg_adapt.config import check
from seg_adapt.data.dataset import SlotLabels, check_sizes
from seg_adapt.engine import toy
from seg_adapt.engine.build import (
    dataset_root,
    device_of,
    loader_from_config,
    method_from_config,
    network_size,
    segmentor_from_config,
    selection_from_config,
    source_dataset,
    target_dataset,
)
from seg_adapt.engine.checkpoint import resume_run, save_run
from seg_adapt.engine.illustrate import Album
from seg_adapt.engine.pseudo_labels import is_complete, make_pseudo_labels
from seg_adapt.engine.scoring import score, score_officially
from seg_adapt.engine.stages import Kind, StagePlan
from seg_adapt.engine.trainer import MicroBatch, Trainer
from seg_adapt.evaluation.inference import Windows
from seg_adapt.methods.base import Method
from seg_adapt.models.weights import initialise
from shared import distributed
from shared.data.images import image_size
from shared.data.own import resolve_label_space, resolve_segmentation
from shared.errors import UserError
from shared.events import RunLog, describe_environment
from shared.progress import Progress, peak_memory
from shared.report import write_report

logger = logging.getLogger(__name__)


class Run:
    """A training run and its folder.

    The folder explains itself: config.yaml, environment.json, metrics.jsonl, tensorboard/,
    checkpoints/last.pt, predictions/, official/, panels/ and report.html.

    Args:
        baseline: folder of the run to compare with; its predictions are the "before" pictures.
        compared: folders of other runs whose predictions the panels show.
    """

    def __init__(
        self,
        cfg: CfgNode,
        folder: Path,
        *,
        baseline: Path | None = None,
        compared: Sequence[Path] = (),
    ) -> None:
        check(cfg)
        network_size(cfg, "TEST")
        self.windows = Windows.from_config(cfg)
        self.cfg = cfg
        self.folder = folder
        self.baseline = baseline
        self.device = device_of(cfg)
        distributed.initialise(self.device)
        self.space = resolve_label_space(cfg.DATASETS.LABEL_SPACE)
        root = dataset_root(cfg)
        if distributed.is_main():
            toy.ensure_data(cfg, root)
        distributed.barrier()
        # Data before weights: a missing folder is found in a second, pre-training takes minutes.
        self.test = None
        if cfg.DATASETS.TEST:
            self.test = resolve_segmentation(
                cfg.DATASETS.TEST, root, space=self.space, labelled=True
            )
        self.album = Album(
            folder, cfg, self.space, self.test, self.device, baseline=baseline, compared=compared
        )
        self.method = self._build_method()
        self.source = source_dataset(cfg, self.space)
        choosing = cfg.SELECTION.METHOD != "none"
        needs_target = self.method.needs_target or cfg.SELF_TRAINING.ROUNDS or choosing
        self.target = target_dataset(cfg) if needs_target else None
        selected = folder / "checkpoints" / "selected.pt"
        self.selection = selection_from_config(cfg, self.space, self.target, selected, self.device)
        self._load_weights(root)
        self.method.to(self.device).prepare()
        self.trainer = Trainer(self.method, cfg, device=self.device)

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
            the scores; an empty dictionary where there is no test data (`DATASETS.TEST` is empty).
        """
        trainer, cfg = self.trainer, self.cfg
        log = RunLog(
            self.folder,
            total=trainer.total,
            start=trainer.iteration,
            active=distributed.is_main(),
        )
        self._describe()
        if trainer.iteration == 0:
            self.method.observe_source(self._source_labels())
        progress = Progress(cfg.LOG_PERIOD)
        try:
            trainer.train(
                self._batches,
                lambda logs: self._after_step(logs, log, progress),
                lambda stage: self._after_stage(stage, log),
            )
            self._choose(trainer.stage, log)
            self._save()
            if self.test is not None:
                return self.evaluate(log, last=True)
            log.say("DATASETS.TEST is empty: trained to the end, nothing was scored")
            if distributed.is_main():
                self._illustrate(log)
                write_report(self.folder, baseline=self.baseline)
            return {}
        finally:
            log.close()

    def _source_labels(self) -> Iterator[np.ndarray]:
        """Labels of an epoch of source samples; a generator, so that nothing is read unasked."""
        loader = DataLoader(
            SlotLabels(self.source), batch_size=None, num_workers=self.cfg.DATALOADER.NUM_WORKERS
        )
        for labels in tqdm(
            loader,
            desc="statistics of the source",
            leave=False,
            disable=not distributed.is_main(),
        ):
            if isinstance(labels, UserError):
                raise labels
            yield labels

    def _batches(self, stage: StagePlan, iteration: int) -> Iterable[list[MicroBatch]]:
        if iteration == stage.stop:
            return []
        if self.selection is not None and 0 < iteration == stage.start:
            # The file of selected weights is this stage's from here on.
            self._save()
        target = self.target
        if stage.kind is Kind.SOURCE_STAGE or (
            stage.kind is Kind.METHOD and not self.method.needs_target
        ):
            target = None
        if stage.kind is Kind.SELF_TRAINING:
            target = target_dataset(self.cfg, self._pseudo_labels(stage, iteration))
        return loader_from_config(self.cfg, self.source, target, iteration, stage.stop)

    def _pseudo_labels(self, stage: StagePlan, iteration: int) -> Path:
        """The folder of a round's pseudo-labels, made by the weights that the round begins with."""
        folder = self.folder / "pseudo_labels" / stage.name
        if iteration > stage.start:
            if not is_complete(folder):
                raise UserError(
                    f"cannot resume: the pseudo-labels of this round are gone from {folder}: "
                    "restore them, or start a new run with --output"
                )
            return folder
        summary = make_pseudo_labels(
            self.method,
            self.target.dataset,
            folder,
            resize=network_size(self.cfg, "TARGET"),
            interpolation=self.cfg.INPUT.INTERPOLATION,
            device=self.device,
            quantile=stage.quantile,
            cap=self.cfg.SELF_TRAINING.CAP,
            windows=self.windows,
        )
        logger.info("%s: %.1f %% of all pixels are labelled", folder, 100 * summary["kept"])
        return folder

    def _after_step(self, logs: dict[str, float], log: RunLog, progress: Progress) -> None:
        cfg, iteration, stage = self.cfg, self.trainer.iteration, self.trainer.stage
        means = progress.add(logs, iteration, last=iteration == stage.stop)
        if means is None:
            log.advance()
        else:
            means = distributed.mean_scalars(means) | {"peak_memory_mb": peak_memory(self.device)}
            log.write("train", iteration, {"stage": stage.name, **means})
            log.advance({k: v for k, v in means.items() if k.startswith("loss/")})
        if self.selection and (
            (iteration - stage.start) % cfg.SELECTION.INTERVAL == 0 or iteration == stage.stop
        ):
            score = self.selection.update(stage.name, iteration, self.method)
            log.write("selection", iteration, {"stage": stage.name, "miou": 100 * score})
        if iteration % cfg.SOLVER.CHECKPOINT_PERIOD == 0:
            self._save()
        interval = cfg.TEST.EVAL_PERIOD if self.test is not None else 0
        if interval and iteration % interval == 0 and iteration < stage.stop:
            self.evaluate(log, last=False)
        progress.resume_clock()

    def _choose(self, stage: StagePlan, log: RunLog) -> None:
        """Goes back to the stage's best snapshot where `SELECTION` asks for it."""
        if self.selection is None:
            return
        iteration, score = self.selection.load_best(stage.name, self.method)
        log.say(f"{stage.name}: goes on from iteration {iteration}, scored {100 * score:.2f}")

    def _after_stage(self, stage: StagePlan, log: RunLog) -> None:
        self._choose(stage, log)
        if self.cfg.TEST.STAGES and self.test is not None:
            self.evaluate(log, last=False, predictions=self.album.stage_predictions(stage))

    def _illustrate(self, log: RunLog | None) -> None:
        pictures = self.album.write(self.method, self.source, self.target, self.trainer.stages)
        for name, picture in pictures.items():
            if log is not None:
                log.image(name, picture, self.trainer.iteration)

    def evaluate(
        self, log: RunLog | None = None, *, last: bool = True, predictions: Path | None = None
    ) -> dict:
        """Scores the method as it is; the last time with the official script and a report.

        Args:
            predictions: folder for the predictions; None: that of the run's end.
        """
        if self.test is None:
            raise UserError("DATASETS.TEST is empty: name a labelled dataset to score")
        folder = predictions or self.album.predictions
        scores = score(
            self.cfg, self.method, self.test, self.space, folder, self.device, self.windows
        )
        if not distributed.is_main():
            return scores
        official = None
        if last and self.cfg.TEST.OFFICIAL:
            official = score_officially(self.test, self.space, folder, self.folder / "official")
        scores |= {
            "stage": self.trainer.stage.name,
            "dataset": self.cfg.DATASETS.TEST,
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

    def _save(self) -> None:
        if distributed.is_main():
            save_run(self.checkpoint, self.trainer, self.cfg, self.space)

    def _describe(self) -> None:
        if not distributed.is_main():
            return
        (self.folder / "config.yaml").write_text(self.cfg.dump())
        environment = describe_environment(self.cfg.MODEL.DEVICE, self.cfg.SEED)
        (self.folder / "environment.json").write_text(json.dumps(environment, indent=1))
