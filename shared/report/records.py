"""What a run folder holds, read without trusting that the run ended well."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shared.errors import MissingFileError

Record = dict[str, Any]


@dataclass
class Run:
    """One run folder. A missing or broken file leaves its field empty and says so in `warnings`."""

    folder: Path
    config_text: str = ""
    config: Record = field(default_factory=dict)
    environment: Record = field(default_factory=dict)
    train: list[Record] = field(default_factory=list)
    evaluations: list[Record] = field(default_factory=list)
    selections: list[Record] = field(default_factory=list)
    oracles: list[Record] = field(default_factory=list)
    panels: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def setting(self, *keys: str) -> str:
        """The configuration's value at `keys` as text, or an empty string; lists are joined."""
        node: Any = self.config
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, list | tuple):
            return ", ".join(str(value) for value in node)
        return "" if node is None or isinstance(node, dict) else str(node)

    @property
    def method(self) -> str:
        return (self.setting("METHOD") or self.folder.name).replace("_", " ")

    @property
    def source(self) -> str:
        return self.setting("DATA", "SOURCE") or self.setting("DATASETS", "TRAIN")

    @property
    def target(self) -> str:
        return self.setting("DATA", "TARGET") or self.setting("DATASETS", "TARGET")

    @property
    def last_evaluation(self) -> Record | None:
        """The last checkpoint's result on the first data set that was evaluated there."""
        if not self.evaluations:
            return None
        last = max(record["iteration"] for record in self.evaluations)
        return next(record for record in self.evaluations if record["iteration"] == last)

    def last_evaluation_on(self, dataset: str) -> Record | None:
        found = [record for record in self.evaluations if record.get("dataset") == dataset]
        return found[-1] if found else None

    @property
    def iterations(self) -> int | None:
        return self.train[-1]["iteration"] if self.train else None

    @property
    def training_seconds(self) -> float | None:
        """Logged seconds per iteration times the iterations each record stands for."""
        total, previous, known = 0.0, 0, False
        for record in self.train:
            seconds = number(record.get("seconds_per_iteration"))
            if seconds is not None:
                total, known = total + seconds * (record["iteration"] - previous), True
            previous = record["iteration"]
        return total if known else None

    @property
    def peak_memory_mb(self) -> float | None:
        values = [number(record.get("peak_memory_mb")) for record in self.train]
        return max((value for value in values if value is not None), default=None)

    def stages(self) -> list[tuple[int, str]]:
        """(first logged iteration, name) of each stage, in the order they were trained."""
        found: list[tuple[int, str]] = []
        for record in self.train:
            name = str(record.get("stage", ""))
            if not found or found[-1][1] != name:
                found.append((record["iteration"], name))
        return found


def number(value: object) -> float | None:
    """`value` as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def class_scores(record: Record | None) -> dict[str, float | None]:
    """Per-class IoU or AP50 in percent, in the data set's order; None where a class is absent."""
    scores = (record or {}).get("iou", (record or {}).get("ap50"))
    return {str(k): number(v) for k, v in scores.items()} if isinstance(scores, dict) else {}


def mean_score(record: Record | None) -> float | None:
    return number((record or {}).get("miou", (record or {}).get("map50")))


def measure_of(record: Record | None) -> tuple[str, str]:
    """What `class_scores` and `mean_score` are called: IoU and mIoU, or AP50 of detectors."""
    return ("AP50", "AP50") if "map50" in (record or {}) else ("IoU", "mIoU")


def read_run(folder: Path) -> Run:
    """Raises MissingFileError where there is no such folder; everything inside is optional."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(
            f"no run folder at {folder}: expected the output folder of a training run, which holds "
            "metrics.jsonl"
        )
    run = Run(folder)
    _read_config(run)
    _read_environment(run)
    _read_metrics(run)
    run.panels = [
        path for kind in ("panels", "pictures") for path in sorted((folder / kind).rglob("*.png"))
    ]
    return run


def _text(run: Run, name: str) -> str | None:
    path = run.folder / name
    if not path.is_file():
        run.warnings.append(f"{name} is missing")
        return None
    return path.read_text(encoding="utf-8", errors="replace")


def _read_config(run: Run) -> None:
    run.config_text = _text(run, "config.yaml") or ""
    try:
        parsed = yaml.safe_load(run.config_text)
    except yaml.YAMLError:
        run.warnings.append("config.yaml is not valid YAML; it is shown as it is")
        return
    run.config = parsed if isinstance(parsed, dict) else {}


def _read_environment(run: Run) -> None:
    text = _text(run, "environment.json")
    if text is None:
        return
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        run.warnings.append("environment.json is not a JSON object")
        return
    run.environment = parsed


def _read_metrics(run: Run) -> None:
    text = _text(run, "metrics.jsonl") or ""
    for record in _lines(run, text):
        if record.get("kind") == "train":
            _append(run.train, record)
        elif record.get("kind") == "eval":
            oracle = record.get("selection") == "oracle"
            _append(run.oracles if oracle else run.evaluations, record, "dataset")
        elif record.get("kind") == "selection":
            _append(run.selections, record)
    if not run.evaluations:
        run.warnings.append("no evaluation yet")
    if not run.train:
        run.warnings.append("no training record yet")


def _lines(run: Run, text: str) -> Iterator[Record]:
    lines = text.splitlines()
    for position, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            fault = "is half-written" if position == len(lines) else "is not JSON"
        else:
            if isinstance(record, dict) and number(record.get("iteration")) is not None:
                record["iteration"] = int(record["iteration"])
                yield record
                continue
            fault = "has no iteration"
        run.warnings.append(f"line {position} of metrics.jsonl {fault} and is left out")


def _append(records: list[Record], record: Record, *same: str) -> None:
    """What is written again, by a resumed run or a second evaluation, replaces what was there.

    Args:
        same: keys that must agree for one record to replace another.
    """
    records[:] = [
        old
        for old in records
        if old["iteration"] < record["iteration"] or any(old.get(k) != record.get(k) for k in same)
    ]
    records.append(record)
