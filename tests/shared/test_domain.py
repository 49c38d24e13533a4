import math

import pytest
import torch

from shared.discriminators import ConvDiscriminator, RegionDiscriminators, region_index
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


def test_conv_discriminator_has_adaptsegnets_shape():
    discriminator = ConvDiscriminator(19)
    convolutions = [m for m in discriminator if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 128, 256, 512, 1]
    assert {(c.kernel_size, c.stride, c.padding) for c in convolutions} == {
        ((4, 4), (2, 2), (1, 1))
    }
    with torch.device("meta"):
        assert ConvDiscriminator(19)(torch.empty(1, 19, 512, 1024)).shape == (1, 1, 16, 32)
    assert isinstance(discriminator[-1], torch.nn.Conv2d)


def test_region_classifiers_equal_a_loop_over_positions():
    torch.manual_seed(0)
    heads = RegionDiscriminators(4, 3, hidden=5)
    features, regions = torch.randn(2, 4, 3, 5), torch.randint(-1, 3, (2, 3, 5))
    outputs = heads(features, regions)
    for region, output in enumerate(outputs):
        expected = [
            heads.heads[region](features[n, :, y, x])
            for n in range(2)
            for y in range(3)
            for x in range(5)
            if regions[n, y, x] == region
        ]
        torch.testing.assert_close(output, torch.cat(expected))
    assert sum(len(o) for o in outputs) == (regions >= 0).sum()


def test_region_without_positions_is_empty():
    outputs = RegionDiscriminators(4, 2)(torch.randn(1, 4, 2, 2), torch.zeros(1, 2, 2).long())
    assert [len(o) for o in outputs] == [4, 0]


def test_region_index_borders_and_padding():
    rows = torch.tensor([[-0.1, 0.0, 0.99, 1.0, 2.0, 2.99, 3.0]])
    columns = torch.tensor([[0.5]])
    regions = region_index(rows, columns, torch.tensor([3.0]), torch.tensor([1.0]), (3, 1))
    assert regions[0, :, 0].tolist() == [-1, 0, 0, 1, 2, 2, -1]


def test_region_index_uses_each_images_own_size_and_counts_row_by_row():
    rows = torch.tensor([[50.0], [50.0]])
    columns = torch.tensor([[50.0], [50.0]])
    regions = region_index(
        rows, columns, torch.tensor([60.0, 200.0]), torch.tensor([200.0, 60.0]), (3, 3)
    )
    assert regions.flatten().tolist() == [2 * 3 + 0, 0 * 3 + 2]
