import math

import pytest
import torch

from shared.domain_losses import (
    DOMAIN_LOSSES,
    Domain,
    domain_accuracy,
    domain_bce,
    domain_least_squares,
)


def test_domain_labels_are_source_0_target_1():
    assert (Domain.SOURCE, Domain.TARGET) == (0, 1)


def test_losses_against_their_formulas():
    logits = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    p = 1 / (1 + torch.exp(-logits))
    assert domain_bce(logits, Domain.TARGET).item() == pytest.approx(-p.log().mean().item())
    assert domain_bce(logits, Domain.SOURCE).item() == pytest.approx(-(1 - p).log().mean().item())
    assert domain_least_squares(logits, Domain.SOURCE).item() == pytest.approx(13 / 3)
    assert domain_least_squares(logits, Domain.TARGET).item() == pytest.approx((9 + 1 + 4) / 3)


@pytest.mark.parametrize("name", list(DOMAIN_LOSSES))
def test_losses_of_nothing_are_zero_with_a_gradient(name):
    logits = torch.zeros(0, requires_grad=True)
    loss = DOMAIN_LOSSES.get(name)(logits, Domain.SOURCE)
    loss.backward()
    assert loss.item() == 0.0


def test_bce_stays_finite_for_a_certain_discriminator():
    logits = torch.tensor([200.0], requires_grad=True)
    loss = domain_bce(logits, Domain.SOURCE)
    loss.backward()
    assert loss.item() == 200.0
    assert logits.grad.item() == 1.0


def test_accuracy_weighs_domains_alike():
    source, target = torch.full((30,), -1.0), torch.tensor([1.0, -1.0])
    assert domain_accuracy(source, target).item() == 0.75
    assert domain_accuracy(torch.tensor([0.4]), torch.tensor([0.6]), 0.5).item() == 1.0
    assert math.isnan(domain_accuracy(torch.zeros(0), target).item())
