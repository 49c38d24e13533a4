"""ROAD: Chen, Li & Van Gool, "ROAD: Reality Oriented Adaptation for Semantic Segmentation of Urban
Scenes", CVPR 2018. Equation and section numbers are the paper's."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from seg_adapt.methods.base import METHODS, Method, parameter_group
from seg_adapt.models.region_discriminators import RegionDiscriminators, region_index
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.options import LayerRates
from seg_adapt.pictures import draw_regions
from seg_adapt.structures import Geometry, Phase, Records, SourceBatch, TargetBatch
from shared.domain_losses import Domain, domain_accuracy, domain_bce
from shared.errors import UserError
from shared.grad_reverse import grad_reverse
from shared.options import NonNegativeFloat, Options, PositiveInt, Rule
from shared.pictures import panel

Grid = Annotated[
    tuple[int, int],
    Rule(
        lambda grid: len(grid) == 2 and all(type(n) is int and n >= 1 for n in grid),
        "[rows, columns] >= 1",
    ),
]


@dataclass(frozen=True)
class RoadOptions(Options, node="ROAD"):
    distillation: Literal["target", "source", "none"] = "target"  # images of Eq. 1
    distillation_weight: NonNegativeFloat = 0.1  # lambda 1
    spatial: bool = True  # spatial-aware adaptation, Eq. 2
    spatial_weight: NonNegativeFloat = 0.01  # lambda 2
    lambda_on: Literal["grl", "loss"] = "grl"  # grl: scales the reversed gradient; loss: Eq. 5
    regions: Grid = (3, 3)  # rows, columns
    # per_domain: the mean of the domains' means; pooled: Eq. 3's letter
    reduction: Literal["per_domain", "pooled"] = "per_domain"
    hidden: PositiveInt = 512  # hidden channels of a region's classifier
    feature_stage: str = ""  # empty: the deepest pre-trained map


@METHODS.register("road")
class Road(Method):
    """Target guided distillation (§3.1) and spatial-aware adaptation (§3.2): Eq. 5."""

    options_type = RoadOptions
    pretrained = True

    def build(self, segmentor: Segmentor) -> None:
        self.feature_stage = self.options.feature_stage or segmentor.feature_stage
        if self.feature_stage in segmentor.head_stages and self.options.distillation != "none":
            raise UserError(
                f"ROAD.FEATURE_STAGE {self.feature_stage} is a new layer, which has nothing to "
                f"teach yet: name a pre-trained one, at the deepest {segmentor.feature_stage}"
            )
        self.teacher: nn.Module | None = None
        self.classifiers: RegionDiscriminators | None = None
        if self.options.spatial:
            rows, columns = self.options.regions
            channels = segmentor.channels_at(self.feature_stage)
            self.classifiers = RegionDiscriminators(channels, rows * columns, self.options.hidden)

    @classmethod
    def from_config(cls, cfg: CfgNode, segmentor: Segmentor) -> "Road":
        road = super().from_config(cfg, segmentor)
        road.pretrained = bool(cfg.MODEL.WEIGHTS)
        return road

    def prepare(self) -> None:
        """The teacher is the network as it was before training on the source (§3.1)."""
        if self.options.distillation == "none":
            return
        if not self.pretrained:
            raise UserError(
                "ROAD distills from a network pre-trained on real images, but MODEL.WEIGHTS "
                "is empty: name a weight file, or set ROAD.DISTILLATION none"
            )
        self.teacher = self.segmentor.frozen_copy(self.feature_stage)

    def groups(self, rates: LayerRates) -> dict[str, list[dict]]:
        groups = super().groups(rates)
        if self.classifiers is not None:
            groups["model"].append(parameter_group(self.classifiers, lr_mult=rates.head_lr_mult))
        return groups

    def phase(self, source: SourceBatch, target: TargetBatch) -> Phase:
        outputs = self.segmentor.outputs(source.images, self.feature_stage)
        target_features, predict = None, None
        # Otherwise unused, and BatchNorm in training mode would adapt to the target all the same.
        if self.options.spatial or self.options.distillation == "target":
            target_features, predict = self.segmentor.split(target.images, self.feature_stage)
        losses, target_logits, records = self.supervised(outputs, source.labels), None, {}
        if target_features is not None and target.pseudo_labels is not None:
            target_logits = predict(target_features)
        if self.options.distillation != "none":
            imitate = {
                "target": (target_features, target.images),
                "source": (outputs.features, source.images),
            }
            features, images = imitate[self.options.distillation]
            with torch.no_grad():
                taught = self.teacher(images)
            losses["distillation"] = self.options.distillation_weight * distillation_loss(
                features, taught
            )
        if self.options.spatial:
            losses["spatial"], records = self._spatial_loss(
                (outputs.features, source.geometry), (target_features, target.geometry)
            )
        return Phase("model", losses, target_logits, records)

    def _spatial_loss(
        self, source: tuple[Tensor, Geometry], target: tuple[Tensor, Geometry]
    ) -> tuple[Tensor, Records]:
        """Eq. 2 on the features of both domains, weighted; and what is logged of it."""
        on_gradient = self.options.lambda_on == "grl"
        coefficient = self.options.spatial_weight if on_gradient else 1.0
        source_logits, target_logits = (
            self.classifiers(grad_reverse(features, coefficient), self.regions(features, geometry))
            for features, geometry in (source, target)
        )
        loss, shared = spatial_loss(source_logits, target_logits, self.options.reduction)
        return loss if on_gradient else self.options.spatial_weight * loss, {
            "accuracy/domain": domain_accuracy(torch.cat(source_logits), torch.cat(target_logits)),
            "regions/shared": shared / len(source_logits),
        }

    def pictures(self, source: SourceBatch, target: TargetBatch) -> dict[str, np.ndarray]:
        """The regions of both domains, and the accuracy of each region's classifier (Fig. 3)."""
        if self.classifiers is None:
            return {}
        tiles, occupied = {}, []
        for name, batch in (("source", source), ("target", target)):
            features = self.segmentor.run(batch.images, until=self.feature_stage)
            regions = self.regions(features, batch.geometry)
            occupied.append(set(regions.unique().tolist()) - {-1})
            probabilities = torch.zeros(regions.shape, device=regions.device)
            for index, logits in enumerate(self.classifiers(features, regions)):
                probabilities[regions == index] = logits.sigmoid().float()
            for n, image in enumerate(batch.images):
                tiles[f"{name} {n + 1}"] = draw_regions(image, regions[n], probabilities[n])
        title = (
            f"; {len(occupied[0] & occupied[1])} of {len(self.classifiers.heads)} regions shared"
        )
        names = list(tiles)
        names[0] += title
        return {"regions": panel(list(tiles.values()), names, height=256)}

    def regions(self, features: Tensor, geometry: Geometry) -> Tensor:
        """The paper's spatial-aware splitting layer (§3.3): region (N, h, w) of each activation."""
        height, width = features.shape[-2:]
        device = features.device
        return region_index(
            geometry.rows(self._positions(height).to(device)),
            geometry.columns(self._positions(width).to(device)),
            geometry.height,
            geometry.width,
            self.options.regions,
        )

    def _positions(self, count: int) -> Tensor:
        return self.segmentor.input_positions(count, self.feature_stage)


def distillation_loss(features: Tensor, taught: Tensor) -> Tensor:
    """Eq. 1: mean over positions of ‖x_ij − z_ij‖₂ over channels; not squared.

    In fp32 and by `vector_norm`: every position's gradient has unit norm however small its
    distance is, so rounding would be amplified, and at x = z it is 0 where √Σd² gives NaN.

    Args:
        features, taught: (N, C, h, w) of the student and of its pre-trained teacher.
    """
    return torch.linalg.vector_norm(features.float() - taught.float(), dim=1).mean()


def spatial_loss(
    source_logits: list[Tensor], target_logits: list[Tensor], reduction: str = "per_domain"
) -> tuple[Tensor, int]:
    """Eqs. 2 and 3: the sum over regions of the domain classifiers' cross-entropies.

    A region that holds one domain only is left out: its classifier could only learn a constant.

    Args:
        source_logits, target_logits: per region the logits (positions,), empty where none.
        reduction: 'per_domain' weighs both domains alike; 'pooled' averages over all positions.

    Returns:
        the loss, and how many regions hold both domains.
    """
    total = sum(logits.sum() for logits in (*source_logits, *target_logits)) * 0.0
    shared = 0
    for source, target in zip(source_logits, target_logits, strict=True):
        if source.numel() == 0 or target.numel() == 0:
            continue
        shared += 1
        share = 0.5
        if reduction == "pooled":
            share = source.numel() / (source.numel() + target.numel())
        total = total + share * domain_bce(source, Domain.SOURCE)
        total = total + (1 - share) * domain_bce(target, Domain.TARGET)
    return total, shared
