"""PLCA: Kang et al., "Pixel-Level Cycle Association: A New Perspective for Domain Adaptive Semantic
Segmentation", NeurIPS 2020. Equation and section numbers are the paper's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_adapt.losses.association import (
    Cycles,
    Pixels,
    association_loss,
    cosine_pixels,
    kl_pixels,
)
from seg_adapt.losses.pairwise_softmax import aggregate_features, aggregate_probabilities
from seg_adapt.methods.base import METHODS, Method, labels_at
from seg_adapt.models.parts import Outputs
from seg_adapt.pictures import draw_cycles
from seg_adapt.structures import Phase, Records, SourceBatch, TargetBatch
from shared.options import NonNegativeFloat, Options, PositiveFloat, PositiveInt, Rule

LEVELS = {
    "both": ("features", "predictions"),
    "features": ("features",),
    "predictions": ("predictions",),
    "none": (),
}


Alpha = Annotated[
    float,
    Rule(
        lambda alpha: 0 < alpha <= 1,
        "a number above 0, at most 1; PLCA.AGGREGATION False goes without aggregation",
    ),
]


@dataclass(frozen=True)
class PlcaOptions(Options, node="PLCA"):
    association: Literal[*LEVELS] = "both"  # levels of Eq. 12
    association_weight: NonNegativeFloat = 0.1  # beta 2; beta 1 is LOSS.LOVASZ_WEIGHT
    similarity: Literal["association", "direct"] = "association"  # Eq. 4; direct: Sim-PLCA
    aggregation: bool = True  # spatial aggregation of the target in training, Eq. 7
    aggregation_at_test: bool = True  # and in inference
    alpha: Alpha = 0.5  # share of the other pixels in Eq. 7
    smoothing_weight: NonNegativeFloat = 0.01  # beta 3, of adaptive label smoothing; 0: none
    gamma: PositiveFloat = 10.0  # smoothness that predictions are drawn to, Eq. 13
    epsilon: PositiveFloat = 1e-10  # added to deviations (Eq. 5) and to logarithms (Eq. 9)
    block: PositiveInt = 512  # rows of similarities in memory at a time; changes no result


@METHODS.register("plca")
class Plca(Method):
    """Multi-level pixel-level cycle association: Eq. 14, whose L_ce and L_lov are `supervised`."""

    options_type = PlcaOptions

    def phase(self, source: SourceBatch, target: TargetBatch) -> Phase:
        outputs = self.segmentor.outputs(source.images)
        losses = self.supervised(outputs, source.labels)
        smoothing = self.options.smoothing_weight > 0
        levels = LEVELS[self.options.association]
        # Otherwise unused, and BatchNorm in training mode would adapt to the target all the same.
        if not levels and not smoothing and target.pseudo_labels is None:
            return Phase("model", losses)
        target_outputs, records = self.segmentor.outputs(target.images), {}
        for level in levels:
            loss, cycles = self.associate(level, outputs, target_outputs, source.labels)
            losses[f"association_{level}"] = self.options.association_weight * loss
            records |= count_cycles(level, cycles, target_outputs)
        if smoothing:
            losses["smoothing"] = self.options.smoothing_weight * sum(
                adaptive_label_smoothing(logits.float(), self.options.gamma)
                for logits in (outputs.logits, target_outputs.logits)
            )
        return Phase("model", losses, target_outputs.logits, records)

    def associate(
        self, level: str, source: Outputs, target: Outputs, labels: Tensor
    ) -> tuple[Tensor, list[Cycles]]:
        """Eq. 4 on 'features' or Eq. 10 on 'predictions' of image pairs, and their cycles.

        Args:
            labels: (N, H, W) train ids of the source, 255 = ignore.
        """
        # Which pixel is the most similar one must not hang on bfloat16's three digits.
        with torch.autocast(labels.device.type, enabled=False):
            labels = labels_at(labels, tuple(_map_of(level, source).shape[-2:]))
            pairs = zip(
                self._pixels(level, source),
                self._pixels(level, target, aggregate=self.options.aggregation),
                labels.flatten(1),
                strict=True,
            )
            return association_loss(
                list(pairs),
                direct=self.options.similarity == "direct",
                epsilon=self.options.epsilon,
                block=self.options.block,
            )

    def _pixels(self, level: str, outputs: Outputs, aggregate: bool = False) -> list[Pixels]:
        """Per image, what is compared at a level."""
        maps = _map_of(level, outputs).float()
        if level == "features":
            images = _rows(maps)
            if aggregate:
                images = map(self._aggregate_features, images)
            return [cosine_pixels(image) for image in images]
        images = _rows(maps.softmax(dim=1))
        if aggregate:
            images = map(self._aggregate_probabilities, images)
        return [kl_pixels(image, self.options.epsilon) for image in images]

    def _aggregate_features(self, pixels: Tensor) -> Tensor:
        plca = self.options
        return aggregate_features(pixels, alpha=plca.alpha, epsilon=plca.epsilon, block=plca.block)

    def _aggregate_probabilities(self, pixels: Tensor) -> Tensor:
        plca = self.options
        return aggregate_probabilities(pixels, alpha=plca.alpha, epsilon=plca.epsilon)

    def predict(self, images: Tensor) -> Tensor:
        """Log-probabilities with the target's aggregation of features, then of predictions (§3.5);
        logits where that is off."""
        if not self.options.aggregation_at_test:
            return self.segmentor(images)
        features, predict = self.segmentor.split(images, self.segmentor.feature_stage)
        with torch.autocast(images.device.type, enabled=False):
            aggregated = _per_image(self._aggregate_features, features.float())
        logits = predict(aggregated.to(features.dtype))
        with torch.autocast(images.device.type, enabled=False):
            probabilities = logits.float().softmax(dim=1)
            probabilities = _per_image(self._aggregate_probabilities, probabilities)
            return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()

    def pictures(self, source: SourceBatch, target: TargetBatch) -> dict[str, np.ndarray]:
        """Which target pixel a source pixel found, and where cycles are closed, as in Fig. 1."""
        outputs = self.segmentor.outputs(source.images)
        target_outputs = self.segmentor.outputs(target.images)
        images = [b.images.permute(0, 2, 3, 1).cpu().numpy() for b in (source, target)]
        pictures = {}
        for level in LEVELS[self.options.association]:
            grids = [self._grid(level, o) for o in (outputs, target_outputs)]
            _, cycles = self.associate(level, outputs, target_outputs, source.labels)
            pictures[f"association_{level}"] = np.vstack(
                [draw_cycles(s, t, c, *grids) for s, t, c in zip(*images, cycles, strict=True)]
            )
        return pictures

    def _grid(self, level: str, outputs: Outputs) -> tuple[np.ndarray, np.ndarray]:
        """Image rows and columns of a level's cells."""
        rows, columns = _map_of(level, outputs).shape[-2:]
        cut = self.segmentor.feature_stage if level == "features" else None
        positions = partial(self.segmentor.input_positions, cut=cut)
        return positions(rows).numpy(), positions(columns).numpy()


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """l = −1/C Σ_c log P(c): how far each prediction is from the uniform one.

    Args:
        logits: (N, C, h, w).

    Returns:
        (N, h, w), at least log C.
    """
    return -F.log_softmax(logits, dim=1).mean(dim=1)


def adaptive_label_smoothing(logits: Tensor, gamma: float = 10.0) -> Tensor:
    """Eq. 13 as the mean of (l − γ)² / 2γ.

    Its gradient is that of the released code's (l/γ − 1) · l with the factor held constant, whose
    value may fall while l moves away from γ and says nothing in a log.

    Args:
        logits: (N, C, h, w); every position counts, labeled or not.
        gamma: the l that predictions are drawn to.
    """
    return (uniform_cross_entropy(logits) - gamma).square().mean() / (2 * gamma)


def count_cycles(level: str, cycles: list[Cycles], target: Outputs) -> Records:
    """Closed cycles per start, and the share of target pixels that they reach."""
    starts = sum(len(c.starts) for c in cycles)
    closed = sum(c.closed.sum() for c in cycles)
    reached = sum(len(c.middles[c.closed].unique()) for c in cycles)
    maps = _map_of(level, target)
    positions = len(maps) * maps.shape[-2] * maps.shape[-1]
    return {
        f"cycles/closed_{level}": closed / max(starts, 1),
        f"cycles/reached_{level}": reached / positions,
    }


def _map_of(level: str, outputs: Outputs) -> Tensor:
    return outputs.features if level == "features" else outputs.logits


def _rows(maps: Tensor) -> list[Tensor]:
    """The pixels (h·w, C) of each map of (N, C, h, w), as views."""
    return [image.flatten(1).t() for image in maps]


def _per_image(mix: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """`mix` of the pixels (h·w, C) of each map of (N, C, h, w)."""
    return torch.stack([mix(image).t() for image in _rows(maps)]).view_as(maps)
