"""What a training run logs between two lines."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Mapping

import torch

LogWindow = Mapping[str, list[float]]
"""What the next log line averages, by name."""


class Progress:
    """Means of the logs between two log lines.

    Attributes:
        values: of the line that has begun; a run keeps them in its checkpoints, so that its lines
            are the same where it was interrupted.
    """

    def __init__(self, interval: int) -> None:
        self.interval = max(interval, 1)
        self.start()

    def start(self, values: LogWindow | None = None) -> None:
        """Begins a line, with what it averages already."""
        self.values: dict[str, list[float]] = defaultdict(list, values or {})
        self.resume_clock()

    def resume_clock(self) -> None:
        """Leaves out what was done between two steps: checkpoints, evaluation."""
        self.began = time.perf_counter()

    def add(self, logs: dict[str, float], iteration: int, *, last: bool) -> dict | None:
        """The means since the last line at every `interval`th iteration, otherwise None.

        A value that only some of the iterations have is averaged over those.

        Args:
            last: a stage ends here, and with it the line.
        """
        logs = logs | {"seconds_per_iteration": time.perf_counter() - self.began}
        for name, value in logs.items():
            self.values[name].append(value)
        if iteration % self.interval and not last:
            return None
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        self.start()
        return means


def peak_memory(device: torch.device) -> float:
    """MB: the GPU's peak where there is one, otherwise this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
