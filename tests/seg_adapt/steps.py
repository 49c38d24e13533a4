"""Batches and settings of a short training."""

import torch
from conftest import random_batches

from seg_adapt.config import defaults
from shared.config import load_config

CPU = torch.device("cpu")


def config(*overrides):
    return load_config(defaults(), None, ["SOLVER.MAX_ITER", "6", *overrides])


def micro_batches(iteration, count=1):
    return [(i, *random_batches(seed=100 * iteration + i)) for i in range(count)]


def batches(stop=99, count=1):
    """What `Trainer.train` asks for, up to iteration `stop`."""
    return lambda stage, start: (
        micro_batches(i, count) for i in range(start, min(stop, stage.stop))
    )
