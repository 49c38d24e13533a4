"""What an architecture consists of, and what one pass of it gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from seg_adapt.models.preprocessing import Convention

AUXILIARY = "auxiliary"  # the stage that is a second head, beside the chain


class Outputs(NamedTuple):
    """One forward pass."""

    features: Tensor  # (N, C, h, w) at the cut asked for
    logits: Tensor  # (N, K, h, w) at the output stride
    auxiliary: Tensor | None = None  # (N, K, h, w) of the auxiliary head, in training only


@dataclass(frozen=True)
class Parts:
    """What an architecture is built of.

    Args:
        stages: name to module, in the order they run; one named `auxiliary` is not of the chain.
            The last one ends with the logits.
        channels: output channels per stage, and per cut inside it where they differ from those.
        feature_stage: the deepest stage that ImageNet weights fill.
        head_stages: stages of new layers; the others are the backbone.
        head_inputs: cuts whose maps the first head stage gets, as a list; empty: it gets the map
            before it, as every other stage does.
        blocks: stages, each an `nn.Sequential`, that can be cut inside: after which children, the
            last one among them.
        aligned: cell i is centered on input pixel `stride * i`; otherwise on
            `stride * (i + 1/2) - 1/2`.
        output_stride: input pixels per cell of the logits.
        strides: input pixels per cell at a stage, where that is not `output_stride`.
        preprocessing: what the network's weights are made for; None: `MODEL.PREPROCESSING`.
        auxiliary_from: the cut whose feature the stage `auxiliary`, a second head that only
            training uses, turns into logits; None without one.
        auxiliary_weight: of that head's loss.
    """

    stages: Mapping[str, nn.Module]
    channels: Mapping[str, int]
    feature_stage: str
    head_stages: tuple[str, ...] = ("head",)
    head_inputs: tuple[str, ...] = ()
    blocks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    aligned: bool = True
    output_stride: int = 8
    strides: Mapping[str, int] = field(default_factory=dict)
    preprocessing: Convention | None = None
    auxiliary_from: str | None = None
    auxiliary_weight: float = 0.0
