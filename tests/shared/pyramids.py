"""Small pyramids and random maps for them."""

import math

import torch
import torch.nn.functional as F

from shared.sap import (
    SapOptions,
    SpatialAttentionPyramid,
    sap_losses,
)

DETECTION_LEVELS = (3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 35, 37)
SMALL = {"levels": (1, 3, 4), "embed_channels": 8, "guide_channels": 6}


def pyramid(*, synchronized=False, **options):
    torch.manual_seed(1)
    return SpatialAttentionPyramid(10, 4, SapOptions(**SMALL | options), synchronized=synchronized)


def maps(count=2, size=(9, 12), in_channels=10, guide_channels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(count, channels, *size, generator=generator)
        for channels in (in_channels, guide_channels)
    )


def vectors_by_loops(features, masks, levels, reduce):
    """Eq. 2, window by window."""
    count, channels, height, width = features.shape
    vectors = torch.zeros(count, len(levels), channels, dtype=features.dtype)
    for level, (kernel, mask) in enumerate(zip(levels, masks, strict=True)):
        rows, columns = min(kernel, height), min(kernel, width)
        for i, top in enumerate(range(0, height - rows + 1, 2)):
            for j, left in enumerate(range(0, width - columns + 1, 2)):
                window = features[:, :, top : top + rows, left : left + columns].flatten(2)
                vectors[:, level] += reduce(window) * mask[:, :, i, j]
    return vectors


def softmax_by_loops(values):
    exponentials = [math.exp(v) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def gradients(weight, grl_scale, reverse=True):
    module = pyramid().double()
    batches = [[t.double().requires_grad_() for t in maps(seed=seed)] for seed in range(2)]
    if reverse:
        loss = sap_losses(module, *batches, weight=weight, grl_scale=grl_scale)[0]["sap"]
    else:
        loss = sum(
            F.cross_entropy(module(*batch).logits, torch.full((2,), label))
            for label, batch in enumerate(batches)
        )
    inputs = [tensor for batch in batches for tensor in batch]
    parameters = list(module.parameters())
    found = torch.autograd.grad(loss, inputs + parameters)
    return found[: len(inputs)], found[len(inputs) :]
