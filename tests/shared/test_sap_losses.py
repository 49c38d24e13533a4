"""The loss by gradient reversal, by hand."""

import math

import pytest
import torch
from pyramids import gradients, maps, pyramid, softmax_by_loops

from shared.errors import UserError
from shared.sap import (
    sap_losses,
)


def cross_entropy_by_hand(logits, label):
    rows = [softmax_by_loops(row) for row in logits.tolist()]
    return sum(-math.log(row[label]) for row in rows) / len(rows)


def test_loss_and_accuracy_of_both_domains():
    module = pyramid().double()
    source = [tensor.double() for tensor in maps(3)]
    target = [tensor.double() for tensor in maps(2, seed=1)]
    logits = [module(*batch).logits.detach() for batch in (source, target)]
    entropies = sum(cross_entropy_by_hand(logits[label], label) for label in (0, 1))
    losses, accuracy = sap_losses(module, source, target, weight=0.2)
    assert losses["sap"].item() == pytest.approx(0.2 * entropies)
    hits = [(domain.argmax(dim=1) == label).tolist() for label, domain in enumerate(logits)]
    assert accuracy.item() == pytest.approx((sum(hits[0]) / 3 + sum(hits[1]) / 2) / 2)
    mean, _ = sap_losses(module, source, target, weight=0.2, reduction="mean")
    assert mean["sap"].item() == pytest.approx(0.1 * entropies)
    with pytest.raises(UserError, match=r"SAP.LOSS_REDUCTION is 'max'"):
        sap_losses(module, source, target, weight=0.2, reduction="max")


def test_features_and_guide_get_the_reversed_gradient_and_the_module_the_plain_one():
    inputs, parameters = gradients(1.0, 1.0, reverse=False)
    reversed_inputs, learned = gradients(0.5, 0.1)
    assert len(inputs) == 4  # features and guide of both domains
    for gradient, plain in zip(reversed_inputs, inputs, strict=True):
        assert plain.any()
        torch.testing.assert_close(gradient, -0.05 * plain)
    for gradient, plain in zip(learned, parameters, strict=True):
        torch.testing.assert_close(gradient, 0.5 * plain)


@pytest.mark.parametrize("with_guide", [True, False])
def test_images_of_different_size_are_the_mean_over_images(with_guide):
    module = pyramid(guide=with_guide)
    images = [maps(1, size, seed=i) for i, size in enumerate([(9, 12), (6, 15), (2, 2)])]
    features, guides = zip(*images, strict=True)
    domain = (features, guides if with_guide else None)
    entropies = [cross_entropy_by_hand(module(*image).logits, label=1) for image in images]
    source = maps(2, seed=9) if with_guide else (maps(2, seed=9)[0], None)
    expected = cross_entropy_by_hand(module(*source).logits, label=0) + sum(entropies) / 3
    losses, _ = sap_losses(module, source, domain, weight=1.0)
    assert losses["sap"].item() == pytest.approx(expected, rel=1e-5)
    batch = maps(2)
    one_by_one = tuple([t[i : i + 1] for i in range(2)] for t in batch)
    together = sap_losses(module, batch, batch, weight=1.0)[0]["sap"]
    torch.testing.assert_close(
        sap_losses(module, one_by_one, one_by_one, weight=1.0)[0]["sap"], together
    )


def test_pyramid_learns_to_tell_domains_apart():
    torch.manual_seed(0)
    module = pyramid(levels=(1, 3, 5), embed_channels=32, guide_channels=16)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    shift = torch.arange(10).remainder(2)[:, None, None]  # of every other channel of the target

    def batch():
        source, target = torch.randn(2, 8, 10, 8, 12)
        target = target + shift
        return (source, source[:, :4]), (target, target[:, :4])

    for _ in range(30):
        losses, _ = sap_losses(module, *batch(), weight=1.0)
        optimizer.zero_grad()
        losses["sap"].backward()
        optimizer.step()
    losses, accuracy = sap_losses(module, *batch(), weight=1.0)
    assert accuracy == 1.0 and losses["sap"] < 0.5
