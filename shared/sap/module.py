"""The spatial attention pyramid: (features, guide) → domain logits. Equations are the paper's."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared import distributed
from shared.attention import level_attention, spatial_mask
from shared.errors import UserError
from shared.sap.batch_norm import JointBatchNorm
from shared.sap.options import SapOptions
from shared.sap.pooling import average_vectors, maximum_vectors, pooled_size

GROUP = 16  # channels that GroupNorm normalizes together: one channel of one cell would vanish


class SapOutputs(NamedTuple):
    """What the pyramid says about N images, and why."""

    logits: Tensor  # (N, 2), in the order of `Domain`
    vector: Tensor  # the fused semantic vector 𝒱, (N, C)
    masks: list[Tensor]  # ωⁿ per level, (N, 1, H_n, W_n); [] without the pyramid
    level_weights: Tensor | None  # φ, (N, L, C); None without channel attention


class SpatialAttentionPyramid(nn.Module):
    """Embeds a feature map, pools it by L window sizes, each under its own attention mask, weighs
    the L vectors channel by channel and tells the domain from their sum.

    Gradient reversal is the caller's (`sap_losses`). Computes in the type of its parameters, under
    autocast too.

    Args:
        in_channels: Ĉ of the features.
        guide_channels: A of the guide: anchors or classes; unused without guide or pyramid.
        synchronized: BatchNorm's statistics are those of all processes, which go through together.

    Example:
        >>> pyramid = SpatialAttentionPyramid(in_channels=64, guide_channels=15)
        >>> pyramid(torch.randn(2, 64, 38, 75), torch.randn(2, 15, 38, 75)).logits.shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        in_channels: int,
        guide_channels: int,
        options: SapOptions | None = None,
        *,
        synchronized: bool = False,
    ) -> None:
        super().__init__()
        self.options = options = options or SapOptions()
        self.synchronized = synchronized
        channels = options.embed_channels
        self.embedding = _embedding(in_channels, options, synchronized)
        self.classifier = nn.Linear(channels, 2)
        if not options.pyramid:
            return
        self.guide_net = _convolutions(
            in_channels + (guide_channels if options.guide else 0),
            (options.guide_channels or in_channels, channels, channels),
            kernel=options.guide_kernel,
        )
        self.mask_nets = nn.ModuleList(_mask_net(channels) for _ in options.levels)
        if options.channel_attention:
            compact = channels // 2
            norm = (
                nn.LayerNorm(compact)
                if options.z_norm == "ln"
                else JointBatchNorm(compact, synchronized=synchronized)
            )
            self.compact = nn.Sequential(
                nn.Linear(channels, compact, bias=False), norm, nn.ReLU(inplace=True)
            )
            self.level_scores = nn.Linear(compact, len(options.levels) * channels, bias=False)

    def forward(self, features: Tensor, guide: Tensor | None = None) -> SapOutputs:
        """
        Args:
            features: f̂ (N, Ĉ, H, W); the valid area only, since padding tells the domain.
            guide: P̂ (N, A, h, w), resized where its size differs; unused without guide or pyramid.
        """
        with torch.autocast(features.device.type, enabled=False):
            vectors, [masks] = self._pooled([features], [guide])
            return self._classified(vectors, masks)

    @property
    def joins_images(self) -> bool:
        """Whether what is said of an image depends on the others: BatchNorm, in training."""
        return self.training and "bn" in (self.options.embed_norm, self.options.z_norm)

    def joint_logits(self, features: Sequence[Tensor], guides: Sequence[Tensor | None]) -> Tensor:
        """Domain logits (N, 2) of N images as one batch, of which BatchNorm has its statistics.

        Args:
            features, guides: of each image, (1, Ĉ, H, W) and (1, A, h, w) or None; those of one
                size go through together.
        """
        by_sizes: dict[tuple, list[int]] = {}
        for place, pair in enumerate(zip(features, guides, strict=True)):
            sizes = tuple(maps.shape for maps in pair if maps is not None)
            by_sizes.setdefault(sizes, []).append(place)
        groups = list(by_sizes.values())

        def stacked(maps: Sequence[Tensor | None]) -> list[Tensor | None]:
            return [
                None if maps[group[0]] is None else torch.cat([maps[place] for place in group])
                for group in groups
            ]

        with torch.autocast(features[0].device.type, enabled=False):
            vectors, _ = self._pooled(stacked(features), stacked(guides))
            logits = self._classified(vectors, []).logits
        order = torch.tensor([place for group in groups for place in group], device=logits.device)
        return logits[order.argsort()]

    def _pooled(
        self, batches: Sequence[Tensor], guides: Sequence[Tensor | None]
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """The vectors Vⁿ (N, L, C) of all images, and per batch the masks ωⁿ; without the pyramid
        the mean (N, C) of the embedding, and none."""
        self._check_images(batches)
        dtype, options = self.classifier.weight.dtype, self.options
        batches = embedded = [features.to(dtype) for features in batches]
        for layer in self.embedding:
            embedded = (
                layer.joint(embedded)
                if isinstance(layer, JointBatchNorm)
                else [layer(each) for each in embedded]
            )
        if not options.pyramid:
            return torch.cat([each.mean(dim=(2, 3)) for each in embedded]), [[] for _ in batches]
        if options.guide:
            batches = [
                torch.cat([features, self._guide(guide.to(dtype), features)], dim=1)
                for features, guide in zip(batches, guides, strict=True)
            ]
        masks = [self._masks(self.guide_net(features)) for features in batches]
        pool = average_vectors if options.pooling == "avg" else maximum_vectors
        vectors = [pool(e, m, options.levels) for e, m in zip(embedded, masks, strict=True)]
        return torch.cat(vectors), masks

    def _classified(self, vectors: Tensor, masks: list[Tensor]) -> SapOutputs:
        vector, weights = self._fuse(vectors) if self.options.pyramid else (vectors, None)
        return SapOutputs(self.classifier(vector), vector, masks, weights)

    def _guide(self, guide: Tensor, features: Tensor) -> Tensor:
        if self.options.guide_detach:
            guide = guide.detach()
        if self.options.guide_sigmoid:
            guide = guide.sigmoid()
        return self._resize(guide, features.shape[-2:])

    def _masks(self, guide: Tensor) -> list[Tensor]:
        """Eq. 1, per level: ωⁿ from the guided map P̄ (N, C, H, W), resized to the level."""
        masks = []
        for kernel, mask_net in zip(self.options.levels, self.mask_nets, strict=True):
            size = pooled_size(kernel, *guide.shape[-2:])
            masks.append(spatial_mask(mask_net(self._resize(guide, size))))
        return masks

    def _fuse(self, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
        """Eq. 3: 𝒱 (N, C) and φ (N, L, C) of the vectors Vⁿ (N, L, C)."""
        if not self.options.channel_attention:
            return vectors.mean(dim=1), None
        compact = self.compact(vectors.sum(dim=1))
        return level_attention(vectors, self.level_scores(compact).view_as(vectors))

    def _resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        if maps.shape[-2:] == size:
            return maps
        align_corners = self.options.align_corners
        return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=align_corners)

    def _check_images(self, batches: Sequence[Tensor]) -> None:
        processes = distributed.world_size() if self.synchronized else 1
        images = processes * sum(len(features) for features in batches)
        cells = processes * sum(features[:, 0].numel() for features in batches)
        fuses = self.options.pyramid and self.options.channel_attention
        if self.training and fuses and self.options.z_norm == "bn" and images < 2:
            raise UserError(
                "SAP.Z_NORM bn needs at least 2 images per domain and forward, got 1: raise "
                "SOLVER.IMS_PER_BATCH, or use ln"
            )
        if self.training and self.options.embed_norm == "bn" and cells < 2:
            raise UserError(
                "SAP.EMBED_NORM bn needs more than one cell, got one image with a map of 1x1: "
                "use gn, or larger images"
            )


def _embedding(in_channels: int, options: SapOptions, synchronized: bool) -> nn.Sequential:
    """f̃: three convolutions Ĉ → Ĉ → C → C, each normalized."""
    channels, kernel = options.embed_channels, options.embed_kernel
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise((in_channels, in_channels, channels, channels)):
        groups = math.gcd(width_out, max(1, width_out // GROUP))
        norm = (
            nn.GroupNorm(groups, width_out)
            if options.embed_norm == "gn"
            else JointBatchNorm(width_out, synchronized=synchronized)
        )
        convolution = nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2, bias=False)
        layers += [convolution, norm, nn.ReLU(inplace=True)]
        if options.embed_dropout:
            layers.append(nn.Dropout(options.embed_dropout))
    return nn.Sequential(*layers)


def _mask_net(channels: int) -> nn.Sequential:
    half = channels // 2
    # Without the last bias: adding a constant to a softmax's logits changes nothing.
    last = nn.Conv2d(half, 1, 1, bias=False)
    return _convolutions(channels, (half, half), kernel=1).append(last)


def _convolutions(in_channels: int, channels: tuple[int, ...], *, kernel: int) -> nn.Sequential:
    """Convolutions that keep the map's size, each followed by a ReLU."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise((in_channels, *channels)):
        convolution = nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2)
        layers += [convolution, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
