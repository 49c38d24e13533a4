"""What a method is: one paper, one file, one module that owns what the paper trains or reads."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from seg_adapt.losses.lovasz import lovasz_softmax
from seg_adapt.models.parts import Outputs
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.options import LayerRates, LossOptions
from seg_adapt.structures import Losses, Phase, SourceBatch, TargetBatch
from shared.data.label_maps import IGNORE
from shared.options import Options
from shared.registry import Registry

METHODS: Registry[type["Method"]] = Registry("method")


@dataclass(frozen=True)
class Stage:
    """A part of the training with its own optimizers and schedule.

    Args:
        name: what the log calls it, and what `Method.enter` gets.
        iterations: optimizer steps.
    """

    name: str
    iterations: int


class Method(nn.Module):
    """The interface between a paper and the engine.

    The engine back-propagates each phase that `steps` yields into the parameters of that phase's
    group only, and steps every optimizer once per iteration, after the last phase. A method
    therefore never calls `backward`, `zero_grad` or `step`, toggles no `requires_grad`, and never
    yields inside `no_grad`. Terms that share a graph are yielded together.

    Args:
        options: the method's own keys, of type `options_type`; None: their defaults.
        loss: the supervised loss, which all methods share.
    """

    needs_target = True
    options_type: type[Options] = Options

    def __init__(
        self,
        segmentor: Segmentor,
        options: Options | None = None,
        loss: LossOptions | None = None,
    ) -> None:
        super().__init__()
        self.segmentor = segmentor
        self.options = options or self.options_type()
        self.loss = loss or LossOptions()
        self.build(segmentor)

    def build(self, segmentor: Segmentor) -> None:
        """Adds the method's own parts, as `__init__` would."""

    @classmethod
    def from_config(cls, cfg: CfgNode, segmentor: Segmentor) -> "Method":
        return cls(segmentor, cls.options_type.from_config(cfg), LossOptions.from_config(cfg))

    def prepare(self) -> None:
        """Called once before training, resumed or not, when the pre-trained weights are loaded."""

    def observe_source(self, labels: Iterable[np.ndarray]) -> None:
        """Called before the first step of a run that is not resumed; what it learns is buffers.

        Args:
            labels: train ids (H, W) uint8 of an epoch of source samples, cropped as in training,
                255 = ignore; read lazily.
        """

    def stages(self, iterations: int) -> list[Stage]:
        """What is trained in which order; `iterations` is the experiment's length."""
        return [Stage("train", iterations)]

    def enter(self, stage: str) -> None:
        """Called when a stage begins, and again when a run is resumed inside it."""

    def groups(self, rates: LayerRates) -> dict[str, list[dict]]:
        """Optimizer name to parameter groups `{params, lr_mult, weight_decay_mult}`.

        Every trainable parameter stands in exactly one of them. The optimizer `model` is
        configured by `SOLVER.MODEL`, and so on.

        Args:
            rates: of the stage that begins.
        """
        return {"model": self.segmentor.parameter_groups(rates)}

    def steps(self, source: SourceBatch, target: TargetBatch | None) -> Iterator[Phase]:
        """The paper's algorithm, top-down, phase by phase.

        A phase's graph is freed when the next one is asked for: delete what refers to it.
        """
        yield self.phase(source, target)

    def phase(self, source: SourceBatch, target: TargetBatch | None) -> Phase:
        """All of an iteration; enough for a method with one phase."""
        raise TypeError(f"{type(self).__name__} defines neither phase nor steps")

    def after_step(self, iteration: int) -> None:
        """Called once per iteration, after the optimizers' steps; `iteration` counts from 1."""

    def predict(self, images: Tensor) -> Tensor:
        """Logits (N, C, h, w) of uint8 RGB images (N, 3, H, W)."""
        return self.segmentor(images)

    def pictures(self, source: SourceBatch, target: TargetBatch) -> dict[str, np.ndarray]:
        """What the paper shows beside predictions, by name; RGB uint8 (H, W, 3).

        Called after training, in evaluation mode and without gradients.
        """
        return {}

    def columns(self, images: Tensor) -> dict[str, list[np.ndarray]]:
        """What the paper's figures show of every test image beside predictions, by title.

        Args:
            images: (N, 3, H, W) uint8 RGB.

        Returns:
            N RGB uint8 (h, w, 3) pictures per title; in evaluation mode and without gradients.
        """
        return {}

    def supervised(self, outputs: Outputs, labels: Tensor) -> Losses:
        """The supervised losses of the source images, those of `LOSS`; every method's first term.

        Args:
            labels: (N, H, W) train ids, 255 = ignore.
        """
        losses = {"seg": self.segmentation_loss(outputs.logits, labels)}
        if self.loss.lovasz_weight:
            logits, matched = self._matched(outputs.logits, labels)
            lovasz = lovasz_softmax(logits.softmax(dim=1), matched, ignore=IGNORE)
            losses["lovasz"] = self.loss.lovasz_weight * lovasz
        if outputs.auxiliary is not None:
            auxiliary = self.segmentation_loss(outputs.auxiliary, labels)
            losses["auxiliary"] = self.segmentor.auxiliary_weight * auxiliary
        return losses

    def segmentation_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over labeled pixels; 0 where every pixel is ignored.

        Args:
            logits: (N, C, h, w) at the network's output stride.
            labels: (N, H, W) train ids, 255 = ignore.
        """
        logits, labels = self._matched(logits, labels)
        total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
        return total / (labels != IGNORE).sum().clamp(min=1)

    def output_map(self, logits: Tensor, batch: SourceBatch | TargetBatch) -> Tensor:
        """Class probabilities (N, C, H, W) at the images' size: what output-space adversaries see.

        Args:
            logits: (N, C, h, w) of the batch.
        """
        return self.segmentor.upsample(logits, tuple(batch.images.shape[-2:])).softmax(dim=1)

    def _matched(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """fp32 logits and labels of one size, that of `LOSS.RESOLUTION`."""
        if self.loss.resolution == "output":
            return logits.float(), labels_at(labels, tuple(logits.shape[-2:]))
        return self.segmentor.upsample(logits, tuple(labels.shape[-2:])).float(), labels


def parameter_group(*modules: nn.Module, lr_mult: float = 1.0) -> dict:
    """What `Method.groups` returns of modules beside the segmentor."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return {"params": parameters, "lr_mult": lr_mult, "weight_decay_mult": 1.0}


def labels_at(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (N, H, W) at the nearest pixel of each cell's center: (N, *size)."""
    return F.interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0].long()
