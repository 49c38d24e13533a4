"""A segmentation run: where data, model, method and engine meet."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from tqdm import tqdm

from seg_adapt.config import check
from seg_adapt.data.reading import check_sizes
from seg_adapt.engine.build import (
    build_method,
    device_of,
    ensure_toys,
    loader_from_config,
    selection_from_config,
    source_dataset,
    target_dataset,
)
from seg_adapt.engine.checkpoint import resume_run, save_run
from seg_adapt.engine.evaluate import score, score_officially
from seg_adapt.engine.illustrate import method_pictures, prediction_panels
from seg_adapt.engine.pseudo_labels import is_complete, make_pseudo_labels
from seg_adapt.engine.stages import Kind, StagePlan
from seg_adapt.engine.trainer import MicroBatch, Trainer
from seg_adapt.evaluation.inference import Windows, network_size
from seg_adapt.models.weights import load_pretrained
from shared import distributed
from shared.data.folders import data_root
from shared.data.images import image_size
from shared.data.own import resolve_label_space, resolve_segmentation
from shared.errors import UserError
from shared.processes import prefetch
from shared.run import run
from shared.run.folder import last_checkpoint

logger = logging.getLogger(__name__)


class Run(run.Run):
    """A method on a pair of domains; see `shared.run.run.Run`."""

    def __init__(
        self, cfg: CfgNode, *, baseline: Path | None = None, compared: Sequence[Path] = ()
    ) -> None:
        super().__init__(cfg, baseline=baseline, compared=compared)
        check(cfg)
        self.windows = Windows.from_config(cfg)
        self.device = device_of(cfg)
        distributed.init_process_group(self.device)
        self.space = resolve_label_space(cfg.DATASETS.LABEL_SPACE)
        root = data_root(cfg.DATASETS.ROOT)
        if distributed.is_main():
            ensure_toys(cfg, root)
        distributed.barrier()
        # Data before weights: a missing folder is found in a second, a download takes minutes.
        self.test = None
        if cfg.DATASETS.TEST:
            self.test = resolve_segmentation(
                cfg.DATASETS.TEST, root, space=self.space, labeled=True
            )
        torch.manual_seed(cfg.SEED)
        self.method = build_method(cfg, self.space.num_classes)
        self.source = source_dataset(cfg, self.space)
        choosing = cfg.SELECTION.METHOD != "none"
        needs_target = self.method.needs_target or cfg.SELF_TRAINING.ROUNDS or choosing
        self.target = target_dataset(cfg) if needs_target else None
        selected = self.checkpoint.with_name("selected.pt")
        self.selection = selection_from_config(cfg, self.space, self.target, selected, self.device)
        self._load_weights()
        self.method.to(self.device).prepare()
        self.trainer = Trainer(self.method, cfg, device=self.device)

    def _load_weights(self) -> None:
        report = load_pretrained(self.method.segmentor, self.cfg.MODEL.WEIGHTS)
        if report is not None:
            logger.info("%s: %s", self.cfg.MODEL.WEIGHTS, report)

    @property
    def checkpoint(self) -> Path:
        return last_checkpoint(self.folder)

    @property
    def iteration(self) -> int:
        return self.trainer.iteration

    @property
    def total(self) -> int:
        return self.trainer.total

    @property
    def stage(self) -> str:
        return self.trainer.stage.name

    @property
    def at_stage_end(self) -> bool:
        stage = self.trainer.stage
        return self.iteration in (stage.start, stage.stop)  # the next one may have begun

    @property
    def name(self) -> str:
        return self.cfg.METHOD

    @property
    def test_name(self) -> str:
        return self.cfg.DATASETS.TEST

    @property
    def scored(self) -> str:
        """Which checkpoint the scores are of."""
        chosen = self.cfg.SELECTION.METHOD != "none"
        return "selected checkpoint" if chosen else "last checkpoint"

    @staticmethod
    def headline(scores: Mapping) -> str:
        official = scores.get("official")
        by_script = f", official script {official['miou']:.2f}" if official else ""
        return f"mIoU {scores['miou']:.2f}{by_script}"

    def resume(self, to_score: Path | None = None) -> None:
        """Continues from the folder's last checkpoint; from the start where there is none.

        Args:
            to_score: the run's folder whose model is to be scored, on whatever test data; without
                a checkpoint a MissingFileError.
        """
        checkpoint = self.checkpoint if to_score is None else last_checkpoint(to_score)
        if to_score or checkpoint.is_file():
            log = resume_run(
                checkpoint, self.trainer, self.cfg, self.space, to_score=to_score is not None
            )
            self.go_on(*log)
            logger.info("%s: at iteration %d", checkpoint, self.trainer.iteration)

    def check(self) -> None:
        """Reads the sizes of all labeled pairs and one batch of each domain; trains nothing."""
        for dataset in filter(None, (self.source.dataset, self.test)):
            for record in tqdm(dataset.records, desc=f"checking {dataset.name}", leave=False):
                check_sizes(record, image_size(record.image), image_size(record.label))
        next(iter(loader_from_config(self.cfg, self.source, self.target, 0, 1)))

    def fit(self) -> None:
        if self.iteration == 0:
            self.method.observe_source(self._source_labels())
        self.trainer.train(
            self._batches,
            self.after_step,
            self._after_stage,
        )
        self._choose(self.trainer.stage)
        self.save()

    def _source_labels(self) -> Iterator[np.ndarray]:
        """Labels of an epoch of source samples; a generator, so that nothing is read unasked."""
        slots, loader = range(len(self.source)), self.cfg.DATALOADER
        yield from tqdm(
            prefetch(self.source.labels, slots, loader.NUM_WORKERS, timeout=loader.TIMEOUT),
            total=len(slots),
            desc="statistics of the source",
            leave=False,
            disable=not distributed.is_main(),
        )

    def _batches(self, stage: StagePlan, iteration: int) -> Iterable[list[MicroBatch]]:
        if iteration == stage.stop:
            return []
        if self.selection is not None and 0 < iteration == stage.start:
            # The file of selected weights is this stage's from here on.
            self.save()
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
        logger.info("%s: %.1f %% of all pixels are labeled", folder, 100 * summary["kept"])
        return folder

    def on_step(self) -> None:
        cfg, iteration, stage = self.cfg, self.iteration, self.trainer.stage
        due = self.at_stage_end or (iteration - stage.start) % cfg.SELECTION.INTERVAL == 0
        if self.selection and due:
            score = self.selection.update(stage.name, iteration, self.method)
            self.log.write("selection", iteration, {"stage": stage.name, "miou": 100 * score})

    def _choose(self, stage: StagePlan) -> None:
        """Goes back to the stage's best snapshot where `SELECTION` asks for it."""
        if self.selection is None:
            return
        iteration, score = self.selection.load_best(stage.name, self.method)
        self.log.announce(
            f"{stage.name}: goes on from iteration {iteration}, scored {100 * score:.2f}"
        )

    def _after_stage(self, stage: StagePlan) -> None:
        self._choose(stage)
        if self.cfg.TEST.STAGES and self.test is not None:
            self.record_scores(self._stage_predictions(stage))

    def _stage_predictions(self, stage: StagePlan) -> Path:
        """Folder of the predictions at the end of a stage."""
        return self.folder / f"predictions_{stage.name}"

    def score(self, predictions: Path, official: Path | None) -> dict:
        scores = score(
            self.cfg, self.method, self.test, self.space, predictions, self.device, self.windows
        )
        by_script = None
        if official is not None and self.cfg.TEST.OFFICIAL and distributed.is_main():
            by_script = score_officially(self.test, self.space, predictions, official)
        return scores | {"official": by_script}

    def pictures(self) -> dict[str, np.ndarray]:
        if self.target is None:
            return {}
        count = min(2, self.cfg.SOLVER.IMS_PER_BATCH)
        return method_pictures(self.method, self.source, self.target, count, self.device)

    def panels(self) -> dict[str, np.ndarray]:
        if self.test is None:
            return {}
        columns = self.compared_predictions()
        for stage in self.trainer.stages[:-1]:
            folder = self._stage_predictions(stage)
            first = stage.kind is Kind.SOURCE_STAGE and not columns
            if (stage.kind is Kind.METHOD or first) and folder.is_dir():
                columns[f"{self.cfg.METHOD}: {stage.name}"] = folder
        columns[self.cfg.METHOD] = self.predictions
        return prediction_panels(self.cfg, self.method, self.test, self.space, columns, self.device)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        return self.method.state_dict()

    def save(self) -> None:
        if distributed.is_main():
            window = self.progress.values
            save_run(self.checkpoint, self.trainer, self.cfg, self.space, log_window=window)
