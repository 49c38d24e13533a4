"""The pyramid against numbers of SAPNet's released module (`tests/data/sapnet_reference.json`)."""

import json
import math
from pathlib import Path

import pytest
import torch

from shared.sap import SapOptions, SpatialAttentionPyramid, sap_losses

# Float64, in training, of the discriminator of isrc-cas/domain-adaption at 0c91dd6: 6 channels and
# 4 anchors on 9 x 13 cells, windows 3, 5 and 9, BatchNorm in the embedding and for z, no dropout,
# loss weight 0.1; four source and three target images, each domain one batch. "kernel" is that of
# its embedding and its guide net. Of a tensor three sums are kept; see `summary`.
REFERENCE = json.loads((Path(__file__).parents[1] / "data/sapnet_reference.json").read_text())
PLACES = {
    "embedding.4": "embedding.3",  # without dropout, ours has no place for it
    "embedding.5": "embedding.4",
    "embedding.8": "embedding.6",
    "embedding.9": "embedding.7",
    "shared_semantic": "guide_net",
    "semantic_list": "mask_nets",
    "fc": "compact",
    "split_fc.0": "level_scores",
    "predictor": "classifier",
}


def values(number, shape, scale):
    """What the numbered tensor was filled with."""
    places = torch.arange(math.prod(shape), dtype=torch.float64)
    return scale * torch.sin(1 + number + places * (0.7 + 0.1 * math.sin(number))).view(shape)


def summary(tensor):
    flat = tensor.detach().flatten()
    weighted = flat * torch.cos(1.3 * torch.arange(len(flat), dtype=flat.dtype))
    return [flat.sum().item(), flat.abs().sum().item(), weighted.sum().item()]


def ours(name):
    """Our name of a tensor of theirs; None for the mask nets' last bias, which we have not."""
    if name.startswith("semantic_list.") and name.endswith(".4.bias"):
        return None
    for theirs in sorted(PLACES, key=len, reverse=True):
        if name.startswith(f"{theirs}."):
            return PLACES[theirs] + name.removeprefix(theirs)
    return name


def filled(kernel, parameters):
    module = SpatialAttentionPyramid(
        6,
        4,
        SapOptions(
            levels=(3, 5, 9),
            embed_kernel=kernel,
            embed_norm="bn",
            guide_channels=0,
            guide_kernel=kernel,
            align_corners=True,
            z_norm="bn",
        ),
    ).double()
    own = dict(module.named_parameters())
    for number, name in enumerate(parameters):
        if ours(name) is None:
            continue
        parameter = own.pop(ours(name))
        fan = parameter[0].numel() if parameter.dim() > 1 else 0
        with torch.no_grad():
            parameter.copy_(values(number, parameter.shape, 2.5 / math.sqrt(fan) if fan else 0.1))
            if not fan and name.endswith("weight"):
                parameter.add_(1)
    assert not own
    return module.train()


@pytest.mark.parametrize("singly", [False, True], ids=["batch", "image by image"])
@pytest.mark.parametrize("kernel", [3, 1])
def test_loss_and_gradients_are_the_released_modules(kernel, singly):
    expected = REFERENCE[f"kernel {kernel}"]
    module = filled(kernel, expected["parameters"])
    sizes = [((4, 6), 1.0), ((4, 4), 3.0), ((3, 6), 1.5), ((3, 4), 2.0)]
    maps = [
        values(100 + number, (*size, 9, 13), scale).requires_grad_()
        for number, (size, scale) in enumerate(sizes)
    ]
    seen = [each.split(1) if singly else each for each in maps]
    losses, _ = sap_losses(module, seen[:2], seen[2:], weight=0.1)
    losses["sap"].backward()
    assert losses["sap"].item() == pytest.approx(expected["loss"], rel=1e-12)
    for map_, sums in zip(maps, expected["inputs"], strict=True):
        assert summary(map_.grad) == pytest.approx(sums, abs=1e-9 * sums[1])
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    for name, sums in expected["parameters"].items():
        if ours(name) is None:
            assert sums[1] < 1e-16  # nothing is lost with it
        else:
            found = summary(gradients[ours(name)])
            assert found == pytest.approx(sums, abs=1e-9 * sums[1]), name
    buffers = dict(module.named_buffers())
    for name, sums in expected["statistics"].items():
        assert summary(buffers[ours(name)]) == pytest.approx(sums, abs=1e-12 * sums[1]), name


@pytest.mark.parametrize("kernel", [3, 1])
def test_logits_are_the_released_modules(kernel):
    expected = REFERENCE[f"kernel {kernel}"]
    module = filled(kernel, expected["parameters"])
    for number, count, scales in ((100, 4, (1.0, 3.0)), (102, 3, (1.5, 2.0))):
        features, guide = (
            values(number + i, (count, channels, 9, 13), scale)
            for i, (channels, scale) in enumerate(zip((6, 4), scales, strict=True))
        )
        logits = torch.tensor(expected["logits"][number // 102], dtype=torch.float64)
        torch.testing.assert_close(module(features, guide).logits, logits, rtol=1e-12, atol=1e-12)
