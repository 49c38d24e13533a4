"""The spatial attention pyramid: (features, guide) → domain logits. Equations are the paper's."""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.attention import level_attention, spatial_mask
from shared.errors import UserError
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

    Example:
        >>> pyramid = SpatialAttentionPyramid(in_channels=64, guide_channels=15)
        >>> pyramid(torch.randn(2, 64, 38, 75), torch.randn(2, 15, 38, 75)).logits.shape
        torch.Size([2, 2])
    """

    def __init__(
        self, in_channels: int, guide_channels: int, options: SapOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options = options or SapOptions()
        channels = options.embed_channels
        self.embedding = _embedding(in_channels, options)
        self.classifier = nn.Linear(channels, 2)
        if not options.pyramid:
            return
        self.guide_net = _convolutions(
            in_channels + (guide_channels if options.guide else 0),
            (options.guide_channels or in_channels, channels, channels),
            kernel=3,
        )
        self.mask_nets = nn.ModuleList(_mask_net(channels) for _ in options.levels)
        if options.channel_attention:
            compact = channels // 2
            norm = nn.LayerNorm if options.z_norm == "ln" else nn.BatchNorm1d
            self.compact = nn.Sequential(
                nn.Linear(channels, compact, bias=False), norm(compact), nn.ReLU(inplace=True)
            )
            self.level_scores = nn.Linear(compact, len(options.levels) * channels, bias=False)

    def forward(self, features: Tensor, guide: Tensor | None = None) -> SapOutputs:
        """
        Args:
            features: f̂ (N, Ĉ, H, W); the valid area only, since padding tells the domain.
            guide: P̂ (N, A, h, w), resized where its size differs; unused without guide or pyramid.
        """
        self._check_batch(features)
        dtype = self.classifier.weight.dtype
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(dtype)
            embedded = self.embedding(features)
            if not self.options.pyramid:
                vector = embedded.mean(dim=(2, 3))
                return SapOutputs(self.classifier(vector), vector, [], None)
            if self.options.guide:
                features = torch.cat([features, self._guide(guide.to(dtype), features)], dim=1)
            masks = self._masks(self.guide_net(features))
            pool = average_vectors if self.options.pooling == "avg" else maximum_vectors
            vectors = pool(embedded, masks, self.options.levels)
            vector, weights = self._fuse(vectors)
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

    def _check_batch(self, features: Tensor) -> None:
        count, _, height, width = features.shape
        fuses = self.options.pyramid and self.options.channel_attention
        if self.training and fuses and self.options.z_norm == "bn" and count < 2:
            raise UserError(
                "SAP.Z_NORM bn needs at least 2 images per domain and forward, got 1: use ln"
            )
        if self.training and self.options.embed_norm == "bn" and count * height * width < 2:
            raise UserError(
                "SAP.EMBED_NORM bn needs more than one cell, got one image with a map of 1x1: "
                "use gn, or larger images"
            )


def _embedding(in_channels: int, options: SapOptions) -> nn.Sequential:
    """f̃: three convolutions Ĉ → Ĉ → C → C, each normalized."""
    channels, kernel = options.embed_channels, options.embed_kernel
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise((in_channels, in_channels, channels, channels)):
        groups = math.gcd(width_out, max(1, width_out // GROUP))
        norm = (
            nn.GroupNorm(groups, width_out)
            if options.embed_norm == "gn"
            else nn.BatchNorm2d(width_out)
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
