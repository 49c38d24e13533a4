"""The training command on the toy pair."""

import contextlib
from functools import partial
from pathlib import Path

import commands

from seg_adapt import train
from seg_adapt.engine.trainer import Trainer

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
