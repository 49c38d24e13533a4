"""PLCA: Kang et al., "Pixel-Level Cycle Association: A New Perspective for Domain Adaptive Semantic
Segmentation", NeurIPS 2020. Equation and section numbers are the paper's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from seg_adapt.losses.association import (
    Cycles,
    Pixels,
    aggregate_features,
    aggregate_probabilities,
    association_loss,
    cosine_pixels,
    kl_pixels,
)
from seg_adapt.losses.smoothing import adaptive_label_smoothing
from seg_adapt.methods.base import METHODS, Method, ModelOptions, labels_at
from seg_adapt.models.segmentor import Outputs, Segmentor
from seg_adapt.pictures import draw_cycles
from seg_adapt.structures import Phase, Records, SourceBatch, TargetBatch
from shared.config import options_from
from shared.errors import UserError

LEVELS = {
    "both": ("features", "predictions"),
    "features": ("features",),
    "predictions": ("predictions",),
    "none": (),
}


@dataclass(frozen=True)
class PlcaOptions:
    """PLCA's own keys; `Plca.add_keys` says what they mean."""

    association: str = "both"
    association_weight: float = 0.1
    similarity: str = "association"
    aggregation: bool = True
    aggregation_at_test: bool = True
    alpha: float = 0.5
    smoothing_weight: float = 0.01
    gamma: float = 10.0
    epsilon: float = 1e-10
    block: int = 512

    def __post_init__(self) -> None:
        choices = {
            "ASSOCIATION": (self.association, tuple(LEVELS)),
            "SIMILARITY": (self.similarity, ("association", "direct")),
        }
        for key, (value, known) in choices.items():
            if value not in known:
                raise UserError(f"PLCA.{key} is '{value}', expected one of {', '.join(known)}")
        for name in ("association_weight", "smoothing_weight"):
            if getattr(self, name) < 0:
                raise UserError(f"PLCA.{name.upper()} is {getattr(self, name)}, expected >= 0")
        for name in ("gamma", "epsilon"):
            if getattr(self, name) <= 0:
                raise UserError(f"PLCA.{name.upper()} is {getattr(self, name)}, expected > 0")
        if not 0 < self.alpha <= 1:
            raise UserError(
                f"PLCA.ALPHA is {self.alpha}, expected a number above 0, at most 1; "
                "PLCA.AGGREGATION False goes without aggregation"
            )
        if self.block < 1:
            raise UserError(f"PLCA.BLOCK is {self.block}, expected at least 1")


@METHODS.register("plca")
class Plca(Method):
    """Multi-level pixel-level cycle association: Eq. 14, whose L_ce and L_lov are `supervised`."""

    def __init__(
        self,
        segmentor: Segmentor,
        options: ModelOptions | None = None,
        plca: PlcaOptions | None = None,
    ) -> None:
        super().__init__(segmentor, options)
        self.plca = plca or PlcaOptions()

    @classmethod
    def add_keys(cls, cfg: CfgNode) -> None:
        cfg.PLCA = CfgNode()
        cfg.PLCA.ASSOCIATION = "both"  # levels of Eq. 12: both | features | predictions | none
        cfg.PLCA.ASSOCIATION_WEIGHT = 0.1  # beta 2; beta 1 is LOSS.LOVASZ_WEIGHT
        cfg.PLCA.SIMILARITY = "association"  # association: Eq. 4; direct: Sim-PLCA
        cfg.PLCA.AGGREGATION = True  # spatial aggregation of the target in training, Eq. 7
        cfg.PLCA.AGGREGATION_AT_TEST = True  # and in inference
        cfg.PLCA.ALPHA = 0.5  # share of the other pixels in Eq. 7
        cfg.PLCA.SMOOTHING_WEIGHT = 0.01  # beta 3, of adaptive label smoothing, Eq. 13; 0: none
        cfg.PLCA.GAMMA = 10.0  # smoothness that predictions are drawn to
        cfg.PLCA.EPSILON = 1.0e-10  # added to deviations (Eq. 5) and to logarithms (Eq. 9)
        cfg.PLCA.BLOCK = 512  # rows of similarities in memory at a time; changes no result

    @classmethod
    def from_config(cls, cfg: CfgNode, segmentor: Segmentor) -> "Plca":
        plca = options_from(PlcaOptions, cfg.PLCA)
        return cls(segmentor, ModelOptions.from_config(cfg), plca)

    def phase(self, source: SourceBatch, target: TargetBatch) -> Phase:
        outputs = self.segmentor.outputs(source.images)
        losses = self.supervised(outputs, source.labels)
        smoothing = self.plca.smoothing_weight > 0
        levels = LEVELS[self.plca.association]
        # Otherwise unused, and BatchNorm in training mode would adapt to the target all the same.
        if not levels and not smoothing and target.pseudo_labels is None:
            return Phase("model", losses)
        target_outputs, records = self.segmentor.outputs(target.images), {}
        for level in levels:
            loss, cycles = self.associate(level, outputs, target_outputs, source.labels)
            losses[f"association_{level}"] = self.plca.association_weight * loss
            records |= count_cycles(level, cycles, target_outputs)
        if smoothing:
            losses["smoothing"] = self.plca.smoothing_weight * sum(
                adaptive_label_smoothing(logits.float(), self.plca.gamma)
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
                self._pixels(level, target, aggregate=self.plca.aggregation),
                labels.flatten(1),
                strict=True,
            )
            return association_loss(
                list(pairs),
                direct=self.plca.similarity == "direct",
                epsilon=self.plca.epsilon,
                block=self.plca.block,
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
        return [kl_pixels(image, self.plca.epsilon) for image in images]

    def _aggregate_features(self, pixels: Tensor) -> Tensor:
        plca = self.plca
        return aggregate_features(pixels, alpha=plca.alpha, epsilon=plca.epsilon, block=plca.block)

    def _aggregate_probabilities(self, pixels: Tensor) -> Tensor:
        return aggregate_probabilities(pixels, alpha=self.plca.alpha, epsilon=self.plca.epsilon)

    def predict(self, images: Tensor) -> Tensor:
        """Log-probabilities with the target's aggregation of features, then of predictions (§3.5);
        logits where that is off."""
        if not self.plca.aggregation_at_test:
            return self.segmentor(images)
        stage = self.segmentor.feature_stage
        features = self.segmentor.run(images, until=stage)
        with torch.autocast(images.device.type, enabled=False):
            aggregated = _per_image(self._aggregate_features, features.float())
        logits = self.segmentor.run(aggregated.to(features.dtype), after=stage)
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
        for level in LEVELS[self.plca.association]:
            grids = [self._grid(level, o) for o in (outputs, target_outputs)]
            _, cycles = self.associate(level, outputs, target_outputs, source.labels)
            pictures[f"association_{level}"] = np.vstack(
                [draw_cycles(s, t, c, *grids) for s, t, c in zip(*images, cycles, strict=True)]
            )
        return pictures

    def _grid(self, level: str, outputs: Outputs) -> tuple[np.ndarray, np.ndarray]:
        """Image rows and columns of a level's cells."""
        rows, columns = _map_of(level, outputs).shape[-2:]
        positions = self.segmentor.input_positions
        return positions(rows).numpy(), positions(columns).numpy()


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
