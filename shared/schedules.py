"""Pure functions of the step. No state: resuming needs nothing but the step."""

import math


def poly(step: int, total: int, power: float = 0.9) -> float:
    """(1 − step/total)^power, clamped to [0, 1] (DeepLab, Chen et al. 2017, §4.1)."""
    return max(0.0, 1.0 - step / max(total, 1)) ** power


def warm_up(step: int, length: int, start: float = 0.0) -> float:
    """Linear from `start` to 1 over `length` steps; 1 afterwards and where `length` is 0."""
    if length <= 0 or step >= length:
        return 1.0
    return start + (1.0 - start) * step / length


def multi_step(step: int, milestones: tuple[int, ...], gamma: float = 0.1) -> float:
    """gamma^(milestones passed)."""
    return gamma ** sum(step >= milestone for milestone in milestones)


def cosine(step: int, total: int, end: float) -> float:
    """From 1 to `end` over `total` steps by half a cosine; 1 throughout where `end` is 1."""
    progress = min(max(step / max(total, 1), 0.0), 1.0)
    return end + (1.0 - end) * (1.0 + math.cos(math.pi * progress)) / 2


def grl_ramp(step: int, total: int, steepness: float = 10.0) -> float:
    """2 / (1 + exp(−steepness·p)) − 1, p = step/total in [0, 1] (Ganin & Lempitsky 2015, §5)."""
    progress = min(max(step / max(total, 1), 0.0), 1.0)
    return 2.0 / (1.0 + math.exp(-steepness * progress)) - 1.0
