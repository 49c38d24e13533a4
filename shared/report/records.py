"""What a run folder holds, read without trusting that the run ended well."""

import json
import math
from collections.abc import Callable, Iterator
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
    pictures: list[Path] = field(default_factory=list)
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
        return self.setting("DATASETS", "TRAIN")

    @property
    def target(self) -> str:
        return self.setting("DATASETS", "TARGET")

    @property
    def last_evaluation(self) -> Record | None:
        """The last checkpoint's result on the first data set that was evaluated there."""
        if not self.evaluations:
            return None
        last = max(record["iteration"] for record in self.evaluations)
        return next(record for record in self.evaluations if record["iteration"] == last)

    def last_evaluation_on(self, dataset: str) -> Record | None:
        records = [record for record in self.evaluations if record.get("dataset") == dataset]
        return records[-1] if records else None

    @property
    def iterations(self) -> int | None:
        return self.train[-1]["iteration"] if self.train else None

    @property
    def training_seconds(self) -> float | None:
        """Logged seconds per iteration times the iterations each record stands for."""
        total, previous = None, 0
        for record in self.train:
            seconds = number(record.get("seconds_per_iteration"))
            if seconds is not None:
                total = (total or 0.0) + seconds * (record["iteration"] - previous)
            previous = record["iteration"]
        return total

    @property
    def peak_memory_mb(self) -> float | None:
        values = [number(record.get("peak_memory_mb")) for record in self.train]
        return max((value for value in values if value is not None), default=None)

    def stages(self) -> list[tuple[int, str]]:
        """(first logged iteration, name) of each stage, in the order they were trained."""
        stages: list[tuple[int, str]] = []
        for record in self.train:
            name = str(record.get("stage", ""))
            if not stages or stages[-1][1] != name:
                stages.append((record["iteration"], name))
        return stages


def number(value: object) -> float | None:
    """`value` as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def class_scores(record: Record | None) -> dict[str, float | None]:
    """Per-class IoU or AP50 in percent, in the data set's order; None where a class is absent."""
    return _scores((record or {}).get("iou", (record or {}).get("ap50")))


def mean_score(record: Record | None) -> float | None:
    return number((record or {}).get("miou", (record or {}).get("map50")))


def protocol_scores(record: Record | None) -> dict[str, float | None]:
    """Means over the classes of published protocols, in percent."""
    return _scores((record or {}).get("protocols"))


def _scores(scores: object) -> dict[str, float | None]:
    return {str(k): number(v) for k, v in scores.items()} if isinstance(scores, dict) else {}


def read_run(folder: Path) -> Run:
    """Raises MissingFileError where there is no such folder; everything inside is optional."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(
            f"no run folder at {folder}: expected the output folder of a training run, which holds "
            "metrics.jsonl"
        )
    run = Run(folder)
    run.config_text = _text(run, "config.yaml") or ""
    fault = "config.yaml is not valid YAML; it is shown as it is"
    run.config = _mapping(run, run.config_text or None, yaml.safe_load, fault)
    fault = "environment.json is not a JSON object"
    run.environment = _mapping(run, _text(run, "environment.json"), json.loads, fault)
    _read_metrics(run)
    run.pictures = [
        path for kind in ("panels", "pictures") for path in sorted((folder / kind).rglob("*.png"))
    ]
    return run


def _text(run: Run, name: str) -> str | None:
    path = run.folder / name
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    run.warnings.append(f"{name} is missing")
    return None


def _mapping(run: Run, text: str | None, load: Callable[[str], Any], fault: str) -> Record:
    """What `load` makes of the text; empty, with a warning, where that is no mapping."""
    try:
        parsed = {} if text is None else load(text)
    except (ValueError, yaml.YAMLError):
        parsed = None
    if not isinstance(parsed, dict):
        run.warnings.append(fault)
    return parsed if isinstance(parsed, dict) else {}


def _read_metrics(run: Run) -> None:
    lists = {"train": run.train, "eval": run.evaluations, "selection": run.selections}
    for record in _lines(run, _text(run, "metrics.jsonl") or ""):
        if record.get("kind") in lists:
            _append(lists[record["kind"]], record)
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


def _append(records: list[Record], record: Record) -> None:
    """Later records, of a resumed run or a second evaluation, replace earlier ones of the same or
    a later iteration on the same data set."""
    records[:] = [
        old
        for old in records
        if old["iteration"] < record["iteration"] or old.get("dataset") != record.get("dataset")
    ]
    records.append(record)
