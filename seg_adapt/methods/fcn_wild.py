"""FCNs in the Wild: Hoffman, Wang, Yu & Darrell, "FCNs in the Wild: Pixel-level Adversarial and
Constraint-based Adaptation", arXiv 1612.02649, 2016. Equation and section numbers are the
paper's."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from seg_adapt.losses.constrained import project, projection_loss, raise_to_feasible
from seg_adapt.methods.base import METHODS, Method, Stage, parameter_group
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.options import LayerRates
from seg_adapt.pictures import draw_constraints
from seg_adapt.structures import Phase, Records, SourceBatch, TargetBatch
from shared.data.label_maps import IGNORE
from shared.domain_losses import Domain, domain_accuracy, domain_bce
from shared.options import (
    NonNegativeFloat,
    Options,
    PositiveFloat,
    PositiveInt,
    PositiveInts,
    Share,
)

GLOBAL_ALIGNMENT = "global_alignment"
CONSTRAINED = "constrained"


@dataclass(frozen=True)
class FCNWildOptions(Options, node="FCN_WILD"):
    feature_stage: str = ""  # what is aligned; empty: that of the last stage but one
    hidden: PositiveInts = (1024, 1024)  # channels of the domain classifier's hidden layers
    adversarial_weight: NonNegativeFloat = 1.0  # of Eq. 7
    gate: Share = 0.0  # align only after steps in which D was right this often; 0: always
    constrained_share: Share = 0.5  # last part of MAX_ITER, with Eq. 8; 0: GA only
    constrained_weight: NonNegativeFloat = 1.0  # of L_mi in Eq. 1
    slack_price: PositiveFloat = 2.0  # beta: the largest logit offset towards a lower bound
    presence_share: Share = 0.1  # a class is in an image that shows more than this share of alpha …
    presence_cells: PositiveInt = 1  # … in so many cells of the map
    large_class: Share = 0.1  # classes whose alpha exceeds this …
    large_class_weight: NonNegativeFloat = 0.1  # … have their gradients scaled by this


class Bounds(NamedTuple):
    """What Eq. 8 asks of each of N images."""

    lower: Tensor  # (N, C) δ
    upper: Tensor  # (N, C) γ, raised where those of the present classes do not reach 1 together
    present: Tensor  # (N, C) bool
    raised: Tensor  # (N,) bool


@METHODS.register("fcn_wild")
class FCNWild(Method):
    """Global alignment (§3.1), then category specific adaptation beside it (§3.2): Eq. 1."""

    options_type = FCNWildOptions

    def build(self, segmentor: Segmentor) -> None:
        self.feature_stage = self.options.feature_stage or segmentor.before_last
        channels = segmentor.channels_at(self.feature_stage)
        self.discriminator = unit_discriminator(channels, self.options.hidden)
        self.constrained = False
        # The source's statistics; a class it never shows has 0 in all of them.
        for name in ("low_share", "mean_share", "high_share"):
            self.register_buffer(name, torch.zeros(segmentor.num_classes))
        self.register_buffer("accuracy", torch.zeros(()))

    def observe_source(self, labels: Iterable[np.ndarray]) -> None:
        statistics = source_statistics(labels, self.segmentor.num_classes)
        buffers = (self.low_share, self.mean_share, self.high_share)
        for buffer, values in zip(buffers, statistics, strict=True):
            buffer.copy_(torch.from_numpy(values))

    def stages(self, iterations: int) -> list[Stage]:
        constrained = round(iterations * self.options.constrained_share)
        stages = (
            Stage(GLOBAL_ALIGNMENT, iterations - constrained),
            Stage(CONSTRAINED, constrained),
        )
        return [stage for stage in stages if stage.iterations]

    def enter(self, stage: str) -> None:
        self.constrained = stage == CONSTRAINED

    def groups(self, rates: LayerRates) -> dict[str, list[dict]]:
        return super().groups(rates) | {"discriminator": [parameter_group(self.discriminator)]}

    def steps(self, source: SourceBatch, target: TargetBatch) -> Iterator[Phase]:
        # ½(L_D + L_Dinv) of Eq. 7 is a sum over domains: one graph at a time.
        weight = self.options.adversarial_weight * (self.accuracy >= self.options.gate)

        outputs = self.segmentor.outputs(source.images, self.feature_stage)
        losses = self.supervised(outputs, source.labels)
        losses["confusion_source"] = weight * confusion(self.discriminator(outputs.features))
        yield Phase("model", losses)
        source_features = outputs.features.detach()
        del outputs, losses

        features, predict = self.segmentor.split(target.images, self.feature_stage)
        losses = {"confusion_target": weight * confusion(self.discriminator(features))}
        logits, records = None, {}
        if self.constrained or target.pseudo_labels is not None:
            logits = predict(features)
        if self.constrained:
            losses["constrained"], records = self.constrained_loss(logits)
        yield Phase("model", losses, logits, records)
        target_features = features.detach()
        del features, logits, losses, predict

        source_logits = self.discriminator(source_features)
        target_logits = self.discriminator(target_features)
        domain_loss = domain_bce(source_logits, Domain.SOURCE) + domain_bce(
            target_logits, Domain.TARGET
        )
        accuracy = domain_accuracy(source_logits, target_logits)
        self.accuracy.copy_(accuracy)
        losses = {"discriminator": domain_loss}
        yield Phase("discriminator", losses, records={"accuracy/domain": accuracy})

    def constrained_loss(self, logits: Tensor) -> tuple[Tensor, Records]:
        """L_mi of Eq. 1, at the network's own resolution, weighted; and what is logged of it."""
        bounds = self.bounds(logits)
        projection = project(logits, *bounds[:3], beta=self.options.slack_price)
        weights = torch.where(
            self.low_share > self.options.large_class, self.options.large_class_weight, 1.0
        )
        loss = self.options.constrained_weight * projection_loss(logits, projection, weights)
        return loss, {
            "projection/raised": bounds.raised.float().mean(),
            "projection/unconverged": (~projection.converged).float().mean(),
            "projection/iterations": projection.iterations.float().mean(),
        }

    def bounds(self, logits: Tensor) -> Bounds:
        """Eq. 8 for target images with these logits (N, C, h, w)."""
        options = self.options
        present = image_labels(
            logits, self.low_share, options.presence_share, options.presence_cells
        )
        upper, raised = raise_to_feasible(self.high_share, present)
        lower = self.mean_share.expand_as(upper)
        return Bounds(lower, upper, present, raised & (present.sum(dim=1) >= 2))

    def pictures(self, source: SourceBatch, target: TargetBatch) -> dict[str, np.ndarray]:
        """What Eq. 8 makes of target predictions; see `draw_constraints`."""
        if not self.options.constrained_share:
            return {}
        logits = self.segmentor(target.images)
        bounds = self.bounds(logits)
        projection = project(logits, *bounds[:3], beta=self.options.slack_price)
        before = logits.float().softmax(dim=1)
        after = projection.probabilities.view_as(logits)
        limits = (bounds.lower, bounds.upper)
        return {
            f"constraints_{n + 1}": draw_constraints(
                target.images[n], before[n], after[n], [limit[n] for limit in limits], present
            )
            for n, present in enumerate(bounds.present)
        }


def unit_discriminator(in_channels: int, hidden: Sequence[int]) -> nn.Sequential:
    """The domain classifier of every spatial unit (§3.1): 1×1 convolutions, one logit.

    A two-way softmax is the same as the sigmoid of the difference of its logits.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise((in_channels, *hidden)):
        layers += [nn.Conv2d(width_in, width_out, 1), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Conv2d((in_channels, *hidden)[-1], 1, 1))


def confusion(logits: Tensor) -> Tensor:
    """One domain's part of ½(L_D + L_Dinv), Eqs. 2–5 and 7, as a mean over units.

    Its gradient at a logit is p − ½: it does not fade when the classifier wins.

    Args:
        logits: domain logits of any shape.
    """
    return (domain_bce(logits, Domain.SOURCE) + domain_bce(logits, Domain.TARGET)) / 2


def source_statistics(
    labels: Iterable[np.ndarray], num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """α, δ and γ of §3.2 (num_classes,): 10th percentile, mean and 90th percentile of each class's
    share of the labeled pixels, over the images that contain it; 0 for a class in none.

    A few images that a class fills can lift its mean above the percentile: δ is at most γ.

    Args:
        labels: train ids (H, W), 255 = ignore.
    """
    counts = [np.bincount(ids[ids != IGNORE].ravel(), minlength=num_classes) for ids in labels]
    counts = np.asarray(counts, dtype=np.float64).reshape(len(counts), num_classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    low, mean, high = np.zeros((3, num_classes), dtype=np.float32)
    for c, share in enumerate(shares.T):
        share = share[share > 0]
        if len(share):
            low[c], high[c] = np.percentile(share, [10, 90])
            mean[c] = min(share.mean(), high[c])
    return low, mean, high


def image_labels(
    logits: Tensor, low_share: Tensor, presence_share: float = 0.1, presence_cells: int = 1
) -> Tensor:
    """The classes (N, C) that seem present, §3.2: those with d_c > 0.1 α_c.

    On small maps 0.1 α_c is less than a cell, so that one wrong cell makes a class present;
    `presence_cells` asks for more of them.

    Args:
        logits: (N, C, h, w).
        low_share: α (C,); a class with 0 never shows in the source and is never present.
    """
    num_classes = logits.shape[1]
    predicted = logits.argmax(dim=1).flatten(1)
    shown = torch.stack([predicted == c for c in range(num_classes)], dim=1)
    enough = shown.sum(dim=2) >= presence_cells
    return (shown.float().mean(dim=2) > presence_share * low_share) & (low_share > 0) & enough
