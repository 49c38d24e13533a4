"""DA-Faster: domain classifiers of images and of instances, and their consistency.

Chen, Li, Sakaridis, Dai & Van Gool, "Domain Adaptive Faster R-CNN for Object Detection in the
Wild", CVPR 2018. Knows no engine: an engine supplies `Maps`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from det_adapt.structures import Losses, Maps
from shared.domain_losses import Domain, domain_accuracy, domain_bce
from shared.grad_reverse import grad_reverse
from shared.options import Decay, NonNegativeFloat, Options, PositiveInt


@dataclass(frozen=True)
class DaFasterOptions(Options, node="DA_FASTER"):
    """The node `DA_FASTER`."""

    enabled: bool = False  # adapts by it; with SAP.ENABLED, by both
    loss_weight: NonNegativeFloat = 0.1  # lambda of all three losses
    image_weight: NonNegativeFloat = 1.0  # of each within lambda; 0: left out
    instance_weight: NonNegativeFloat = 1.0
    consistency_weight: NonNegativeFloat = 1.0
    grl_scale: NonNegativeFloat = 1.0  # of the reversed gradient alone; the heads' keeps lambda
    lr_mult: NonNegativeFloat = 1.0  # of the heads' learning rate
    regions: PositiveInt = 256  # of an image: its best proposals, of either domain
    image_channels: PositiveInt = 512  # hidden layer of the images' head
    instance_channels: PositiveInt = 1024  # both hidden layers of the instances' head
    dropout: Decay = 0.5  # after each hidden layer of the instances' head


class DaFasterLoss(nn.Module):
    """Two heads: a classifier of every cell of the maps that the RPN reads, and one of the vectors
    of regions, which the box head makes of the RPN's proposals.

    Args:
        read: the maps that the RPN reads; they share the head.
        feature_channels: of these.
        region_channels: D of a region's vector.
    """

    def __init__(
        self,
        options: DaFasterOptions,
        read: Sequence[str],
        feature_channels: int,
        region_channels: int,
    ) -> None:
        super().__init__()
        self.options = options
        self.features, self.guides = list(read), []
        by_regions = options.instance_weight or options.consistency_weight
        self.regions = options.regions if by_regions else 0
        if options.image_weight or options.consistency_weight:
            self.image = nn.Sequential(
                nn.Conv2d(feature_channels, options.image_channels, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(options.image_channels, 1, 1),
            )
        if by_regions:
            self.instance = nn.Sequential()
            width = options.instance_channels
            for inputs, outputs in pairwise((region_channels, width, width)):
                self.instance.extend(
                    [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(options.dropout)]
                )
            self.instance.append(nn.Linear(width, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(
        self, source: Maps, target: Maps, iteration: int = 0
    ) -> tuple[Losses, dict[str, Tensor]]:
        """λ times L_img, L_ins and L_cst as "loss_da_image", "loss_da_instance" and
        "loss_da_consistency", and the shares of cells and of regions whose domain is recognized,
        means over domains (0.5 where there is no region).

        Each loss is the mean over domains of the mean over images, in which an image without
        regions counts as 0.
        """
        options, losses, logs = self.options, {}, {}
        pair = {Domain.SOURCE: source, Domain.TARGET: target}
        for name, weight, classify in (
            ("image", options.image_weight, self._cells),
            ("instance", options.instance_weight, self._regions),
        ):
            if weight:
                logits = {domain: classify(self._reversed(maps)) for domain, maps in pair.items()}
                losses[name] = weight * _mean(_cross_entropies(logits))
                flat = (torch.cat([x.flatten() for x in each]) for each in logits.values())
                logs[f"accuracy/da_{name}"] = domain_accuracy(*flat).nan_to_num(0.5)
        if options.consistency_weight:
            gaps = [gap for maps in pair.values() for gap in self._gaps(maps)]
            losses["consistency"] = options.consistency_weight * _mean(gaps)
        return {f"loss_da_{n}": options.loss_weight * loss for n, loss in losses.items()}, logs

    def _cells(self, maps: Maps) -> list[Tensor]:
        """Logits (1, 1, h, w) of every map of every image, image after image for each map."""
        return [self.image(x) for name in self.features for x in maps.features[name]]

    def _regions(self, maps: Maps) -> list[Tensor]:
        """Logits (n, 1) of every image's regions."""
        logits = self.instance(torch.cat(maps.regions))
        return list(logits.split([len(own) for own in maps.regions]))

    def _gaps(self, maps: Maps) -> list[Tensor]:
        """Per image, the mean ‖p̄ − p‖₂ of its regions' probabilities p to the image's mean p̄.

        Of the plain features: backbone and heads all learn to agree.
        """
        regions = [_probabilities(logits) for logits in self._regions(maps)]
        cells = [_probabilities(logits).mean() for logits in self._cells(maps)]
        images = torch.stack(cells).view(len(self.features), -1).mean(dim=0)
        return [
            (mean - own).abs().sum() / max(len(own), 1)
            for mean, own in zip(images, regions, strict=True)
        ]

    def _reversed(self, maps: Maps) -> Maps:
        def turn(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [grad_reverse(tensor, self.options.grl_scale) for tensor in tensors]

        features = {name: turn(maps.features[name]) for name in self.features}
        return Maps(features, {}, turn(maps.regions))


def _cross_entropies(logits: dict[Domain, list[Tensor]]) -> list[Tensor]:
    return [domain_bce(own, domain) for domain, each in logits.items() for own in each]


def _probabilities(logits: Tensor) -> Tensor:
    """In fp32 at least, under autocast too, as cross-entropies are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean()
