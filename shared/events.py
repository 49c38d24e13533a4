"""What a run tells: progress bar with ETA, log lines, JSON lines, TensorBoard, environment."""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from shared.files import write_atomically

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """Writes the events of a run into its folder; silent on every process but the first.

    Args:
        folder: the run's folder.
        total: iterations of the whole run, for the ETA.
        start: iterations already done; events after it that an interrupted run left are dropped.
        active: whether this process writes.
    """

    def __init__(self, folder: Path, *, total: int, start: int = 0, active: bool = True) -> None:
        self.folder = folder
        self.active = active
        if not active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._metrics = folder / METRICS_FILE
        _drop_after(self._metrics, start)
        self._written = {(event["kind"], event["iteration"]) for event in read_metrics(folder)}
        self._board = SummaryWriter(folder / "tensorboard", purge_step=start + 1)
        # A bar that is not on a terminal would fill a log file with its redrawing.
        self._bar = tqdm(
            total=total,
            initial=start,
            unit="it",
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 15.0,
        )

    def advance(self, losses: Mapping[str, float] | None = None) -> None:
        """One iteration is done."""
        if not self.active:
            return
        if losses:
            values = {k.removeprefix("loss/"): f"{v:.3f}" for k, v in losses.items()}
            self._bar.set_postfix(values, refresh=False)
        self._bar.update()

    def has(self, kind: str, iteration: int) -> bool:
        """Whether that line is written, or this process writes none."""
        return not self.active or (kind, iteration) in self._written

    def write(self, kind: str, iteration: int, values: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl; its numbers also go to TensorBoard, under `kind`.

        A line that is there already, from before the run was resumed, stays as it is.
        """
        if not self.active or (kind, iteration) in self._written:
            return
        self._written.add((kind, iteration))
        line = {"kind": kind, "iteration": iteration, **_finite(dict(values))}
        with self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in _numbers(values):
            self._board.add_scalar(f"{kind}/{name}", value, iteration)

    def image(self, name: str, picture: np.ndarray, iteration: int) -> None:
        """A picture (H, W, 3) uint8 RGB, to TensorBoard."""
        if self.active:
            self._board.add_image(name, picture, iteration, dataformats="HWC")

    def announce(self, message: str) -> None:
        """A line above the progress bar."""
        if self.active:
            self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        if self.active:
            self._bar.close()
            self._board.close()


def describe_environment(device: str, seed: int) -> dict[str, Any]:
    """What the result of a run depends on beside its config."""
    revision, dirty = git_revision()
    return {
        "command": " ".join(sys.argv),
        "revision": revision,
        "dirty": dirty,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "seed": seed,
    }


def git_revision() -> tuple[str, bool]:
    """(commit, whether the tree differs from it) of this code; ('unknown', False) outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The events of a run; a last line that a crash cut short is left out."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    events = []
    for line in path.read_text().splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def _drop_after(path: Path, iteration: int) -> None:
    if not path.is_file():
        return
    kept = [event for event in read_metrics(path.parent) if event["iteration"] <= iteration]
    write_atomically(path, "".join(json.dumps(event) + "\n" for event in kept).encode())


def _finite(value: Any) -> Any:
    """NaN and infinity are no JSON: null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _numbers(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    numbers = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            numbers += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and math.isfinite(value):
            numbers.append((prefix + name, float(value)))
    return numbers
