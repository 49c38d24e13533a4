"""The adversaries of a run: spatial attention pyramids, DA-Faster's heads, or both.

Each is a module called with `Maps` of source and target and the iteration, and gives its weighted
losses and what is logged beside them. Its `features`, `guides` and `regions` say what of `Maps` it
reads: names of maps, names of maps whose objectness it reads, and how many proposals of an image.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from det_adapt.structures import Losses, Maps


class Adversary(Protocol):
    features: list[str]
    guides: list[str]
    regions: int  # 0: none

    def __call__(
        self, source: Maps, target: Maps, iteration: int
    ) -> tuple[Losses, dict[str, Tensor]]: ...


class Needs(NamedTuple):
    """What all adversaries of a run read together."""

    features: list[str]
    guides: list[str]
    regions: int


def needs(adversaries: Sequence[Adversary]) -> Needs:
    return Needs(
        list(dict.fromkeys(name for each in adversaries for name in each.features)),
        list(dict.fromkeys(name for each in adversaries for name in each.guides)),
        max((each.regions for each in adversaries), default=0),
    )


def adversarial_losses(
    adversaries: Sequence[Adversary], source: Maps, target: Maps, iteration: int
) -> tuple[Losses, dict[str, Tensor]]:
    """Of all of them."""
    losses, logs = {}, {}
    for adversary in adversaries:
        own_losses, own_logs = adversary(source, target, iteration)
        losses |= own_losses
        logs |= own_logs
    return losses, logs


@contextmanager
def as_in_tests(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, with gradients: a target's proposals, for which there are no labels."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
