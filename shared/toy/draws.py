"""Cheap scalar random numbers for code that needs thousands of them per scene."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """A pool of uniform numbers drawn in blocks: one NumPy call per 1024 scalars."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._pool: list[float] = []

    def unit(self) -> float:
        if not self._pool:
            self._pool = self._generator.random(1024).tolist()
        return self._pool.pop()

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def within(self, bounds: tuple[float, float]) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * self.unit()

    def count(self, mean: float) -> int:
        """An integer with this mean: uniform on 0..2·mean, the fraction rounded at random."""
        return int(self.between(0.0, 2.0 * mean) + self.unit())

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.unit() * len(items))]
