"""One run from config to report: what it writes, in which order; a half supplies the rest."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from shared import distributed
from shared.checkpoint import check_finite
from shared.data.images import write_png
from shared.errors import UserError
from shared.events import METRICS_FILE, RunLog, describe_environment, read_metrics
from shared.progress import LogWindow, Progress, peak_memory
from shared.report import write_report
from shared.run.folder import Changes, write_config
from shared.run.lock import locked
from shared.run.signals import held_back, resume_command


class Run(ABC):
    """A run and its folder, OUTPUT_DIR.

    The folder explains itself: config.yaml, environment.json, metrics.jsonl, tensorboard/,
    checkpoints/last.pt, predictions/, official/, panels/, pictures/ and report.html.

    Args:
        baseline: folder of the run to compare with; its predictions are the "before" pictures.
        compared: folders of other runs whose predictions the panels show.

    Attributes:
        test: the labeled data set that is scored; None: nothing is.
        device: where the model is.
        scored: which checkpoint the scores are of.
        defaults: of the keys; those that have them are left out of config.yaml. None: none are.
    """

    test: object | None
    device: torch.device
    scored = "last checkpoint"
    defaults: CfgNode | None = None

    def __init__(
        self, cfg: CfgNode, *, baseline: Path | None = None, compared: Sequence[Path] = ()
    ) -> None:
        self.cfg = cfg
        self.folder = Path(cfg.OUTPUT_DIR)
        self.baseline = baseline
        self.compared = tuple(compared)
        self.log: RunLog | None = None
        self.progress = Progress(cfg.LOG_PERIOD)
        self._signal = 0  # the number of the one that asks for an end
        self._changes: Changes = {}

    @property
    @abstractmethod
    def iteration(self) -> int:
        """How many are done."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Iterations of the whole run."""

    @property
    @abstractmethod
    def stage(self) -> str:
        """Name of what is trained now."""

    @property
    def at_stage_end(self) -> bool:
        """Whether a stage has just ended, and with it what is logged and scored on the way."""
        return self.iteration == self.total

    @property
    def name(self) -> str:
        """What the run is called beside its baseline."""
        return self.folder.name

    @property
    def test_name(self) -> str:
        """What the scored data set is called in the log."""
        return self.test.name

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """Of the model, by name."""

    @abstractmethod
    def save(self) -> None:
        """Writes a checkpoint of the iteration it is at, with `progress.values`; every process
        calls it."""

    @abstractmethod
    def fit(self) -> None:
        """Trains to the end and leaves a checkpoint; calls `after_step` after each iteration."""

    @abstractmethod
    def score(self, predictions: Path, official: Path | None) -> dict:
        """Scores the model as it is, in percent; processes share the images.

        Args:
            predictions: folder for them.
            official: folder for the files of Cityscapes' own script; None: it is not run.
        """

    @abstractmethod
    def pictures(self) -> dict[str, np.ndarray]:
        """What the method shows, by name, (H, W, 3) uint8 RGB; drawn at the end."""

    def panels(self) -> dict[str, np.ndarray]:
        """Test images with the predictions of this run and of others, by name."""
        return {}

    @staticmethod
    @abstractmethod
    def headline(scores: Mapping) -> str:
        """The scores in a few words."""

    def details(self, scores: Mapping) -> list[str]:
        """Lines below the headline, where a few words are not enough."""
        return []

    def environment(self) -> dict:
        """What the result depends on beside the config."""
        return describe_environment(self.cfg.MODEL.DEVICE, self.cfg.SEED)

    def go_on(self, log_window: LogWindow, changes: Changes) -> None:
        """What a resumed run's log begins with.

        Args:
            log_window: of the checkpoint.
            changes: settings that are not those of before.
        """
        self.progress.start(log_window)
        self._changes = changes

    def compared_predictions(self) -> dict[str, Path]:
        """Title to folder of the predictions of the baseline and the compared runs."""
        columns = {}
        if self.baseline is not None and (self.baseline / "predictions").is_dir():
            columns[f"before ({self.baseline.name})"] = self.baseline / "predictions"
        return columns | {run.name: run / "predictions" for run in self.compared}

    @property
    def predictions(self) -> Path:
        """Folder of the final predictions."""
        return self.folder / "predictions"

    def train(self) -> dict:
        """Trains to the end, scores the last checkpoint and writes the report.

        Returns:
            the scores; empty where there is no test data (DATASETS.TEST is empty).
        """
        # What is there at iteration 0 is of another model that was scored in this folder.
        with self._logging(self.total, fresh=self.iteration == 0):
            self._describe()
            if self._changes:
                self.log.write("changed", self.iteration, self._changes)
            with held_back(self._stop_after_iteration):
                if not self.at_stage_end:
                    self._score_if_due()  # a run that was killed while it scored
                self.fit()
                self._end_if_asked()
            return self._finish()

    def evaluate(self, *, describe: bool = False) -> dict:
        """Scores the model as it is, with the official script and a report; trains nothing.

        Args:
            describe: the folder is that of this scoring, not of a training.
        """
        if self.test is None:
            raise UserError("DATASETS.TEST is empty: name a labeled data set to score")
        with self._logging(self.iteration, fresh=describe):
            if describe:
                self._describe()
            return self._finish()

    def after_step(self, logs: dict[str, float]) -> None:
        """Logs an iteration that is done, then saves and scores where that is due.

        In this order no line is lost where a killed run goes on from the checkpoint.
        """
        means = self.progress.add(logs, self.iteration, last=self.at_stage_end)
        if means is None:
            self.log.advance()
        else:
            means = means | {"peak_memory_mb": peak_memory(self.device)}
            self.log.write("train", self.iteration, {"stage": self.stage, **means})
            self.log.advance({k: v for k, v in means.items() if k.startswith("loss/")})
        self.on_step()
        # `fit` saves the end.
        if self.iteration % self.cfg.SOLVER.CHECKPOINT_PERIOD == 0 and self.iteration < self.total:
            self.save()
        if not self.at_stage_end:
            self._end_if_asked()
            self._score_if_due()
        self.progress.resume_clock()

    def _score_if_due(self) -> None:
        period = self.cfg.TEST.EVAL_PERIOD if self.test is not None else 0
        due = period and self.iteration and self.iteration % period == 0
        if due and distributed.largest(not self.log.has("eval", self.iteration)):
            self.record_scores(self.predictions)

    def _end_if_asked(self) -> None:
        number = distributed.largest(self._signal)
        if number:
            self.save()
            distributed.barrier()  # whoever ended first would end the one that writes
            self.log.announce(
                f"stopped after iteration {self.iteration}, which is saved; to go on: "
                f"{resume_command()}"
            )
            sys.exit(128 + number)  # as shells say it of a process that a signal ended

    def _stop_after_iteration(self, number: int) -> None:
        self._signal = number
        self.log.announce(
            "finishing this iteration, then saving; another signal ends at once, without saving"
        )

    def on_step(self) -> None:
        """What a half does after an iteration is logged and before it is saved: nothing."""
        return

    def record_scores(self, predictions: Path, official: Path | None = None) -> dict:
        """Scores, and writes that down; see `score`. UserError for weights that are not finite."""
        check_finite(self.weights, self.iteration)
        scores = self.score(predictions, official)
        if distributed.is_main():
            scores = scores | {
                "stage": self.stage,
                "dataset": self.test_name,
                "images": len(self.test.records),
            }
            self.log.write("eval", self.iteration, scores)
            lines = [f"iteration {self.iteration}: {self.headline(scores)}", *self.details(scores)]
            self.log.announce("\n".join(lines))
        return scores

    def summary(self, scores: Mapping) -> str:
        """One line a result, the baseline's first, and where the report is."""
        lines = []
        if self.baseline is not None:
            before = [event for event in read_metrics(self.baseline) if event["kind"] == "eval"]
            lines += [self._line(self.baseline.name, event) for event in before[-1:]]
        if scores:
            lines += [self._line(self.name, scores), *self.details(scores)]
        return "\n".join([*lines, f"report: {self.folder / 'report.html'}"])

    def _line(self, name: str, scores: Mapping) -> str:
        return f"{name}: {self.headline(scores)} ({scores['dataset']}, {self.scored})"

    def _finish(self) -> dict:
        scores = {}
        if self.test is not None:
            scores = self.record_scores(self.predictions, self.folder / "official")
        else:
            self.log.announce("DATASETS.TEST is empty: trained to the end, nothing was scored")
        if distributed.is_main():
            for kind, drawn in (("pictures", self.pictures()), ("panels", self.panels())):
                for name, picture in drawn.items():
                    write_png(self.folder / kind / f"{name}.png", picture)
                    self.log.image(name, picture, self.iteration)
            write_report(self.folder, baseline=self.baseline)
        return scores

    @contextmanager
    def _logging(self, total: int, *, fresh: bool) -> Iterator[None]:
        active = distributed.is_main()
        with locked(self.folder) if active else nullcontext():
            if active and fresh:
                (self.folder / METRICS_FILE).unlink(missing_ok=True)
            self.log = RunLog(self.folder, total=total, start=self.iteration, active=active)
            self.progress.resume_clock()
            try:
                yield
            finally:
                self.log.close()

    def _describe(self) -> None:
        if distributed.is_main():
            write_config(self.folder, self.cfg, self.defaults)
            text = json.dumps(self.environment(), indent=1)
            (self.folder / "environment.json").write_text(text)
