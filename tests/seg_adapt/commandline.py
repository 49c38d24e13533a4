"""The training command on the toy pair."""

import contextlib
from functools import partial
from pathlib import Path

import commands

from seg_adapt import train
from seg_adapt.engine.trainer import Trainer
from shared.events import read_metrics

REPOSITORY = Path(__file__).parents[2]
TOY = REPOSITORY / "configs" / "toy.yaml"
run = partial(commands.run, train.main)


def fails(capsys, *arguments):
    return commands.fails(capsys, train.main, *arguments)


@contextlib.contextmanager
def interruption(monkeypatch, done=3):
    """Ctrl-C after that many iterations."""
    step = Trainer.step

    def interrupted(self, micro_batches):
        if self.iteration == done:
            raise KeyboardInterrupt
        return step(self, micro_batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        yield


def comparable(folder):
    """The events of a run without what the clock says."""
    clock = ("seconds_per_iteration", "peak_memory_mb")
    return [{k: v for k, v in event.items() if k not in clock} for event in read_metrics(folder)]
