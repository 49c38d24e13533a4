from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from det_adapt.sap_loss import SapLoss, valid_areas
from det_adapt.sap_plan import SapPlan
from det_adapt.structures import Maps
from shared.errors import UserError
from shared.sap import SapOptions

OPTIONS = SapOptions(levels=(1, 3, 4), embed_channels=8, guide_channels=0, loss_weight=0.3)
LOWER = SapOptions(levels=(2, 5), embed_channels=8, guide_channels=0, loss_weight=0.05)


def adversary(lower=None, options=OPTIONS):
    torch.manual_seed(1)
    return SapLoss(SapPlan(options, lower), ["c4"], 6, 3, ("c2", 4)).double()


def on_levels(**plan):
    torch.manual_seed(1)
    plan = SapPlan(OPTIONS, features=("p3", "p5"), **plan)
    return SapLoss(plan, ["p2", "p3", "p5"], 6, 3).double()


def maps(seed, sizes=((5, 7), (6, 3)), grad=False):
    """Of a detector of one map, `c4`, with `c2` below it; and of one with `p3` and `p5`."""
    generator = torch.Generator().manual_seed(seed)

    def draw(channels, scale=1):
        return [
            torch.randn(1, channels, scale * h, scale * w, generator=generator)
            .double()
            .requires_grad_(grad)
            for h, w in sizes
        ]

    features, logits, lower = draw(6), draw(3), draw(4, scale=2)
    return Maps(
        {"c4": features, "c2": lower, "p3": draw(6, 2), "p5": draw(6)},
        {"c4": logits, "p3": draw(3, 2), "p5": draw(3)},
    )


def cross_entropy(pyramid, features, logits, domain):
    """The mean over the images of −log p(domain), one image after the other."""
    told = [
        pyramid(f, g).logits[0].softmax(0)[domain].log()
        for f, g in zip(features, logits, strict=True)
    ]
    return -sum(told) / len(told)


def both_cross_entropies(pyramid, source, target, features, guide):
    return sum(
        cross_entropy(pyramid, maps.features[features], maps.logits[guide], domain)
        for domain, maps in enumerate((source, target))
    )


@torch.no_grad()
def test_loss_is_lambda_times_the_sum_of_both_domains_cross_entropies():
    module, source, target = adversary(LOWER), maps(0), maps(1)
    losses, told = module(source, target)
    upper = both_cross_entropies(module.upper, source, target, "c4", "c4")
    lower = both_cross_entropies(module.lower, source, target, "c2", "c4")
    torch.testing.assert_close(losses["loss_sap"], 0.3 * upper)
    torch.testing.assert_close(losses["loss_sap_lower"], 0.05 * lower)
    assert set(losses) == {"loss_sap", "loss_sap_lower"}
    assert set(told) == {"accuracy/domain", "accuracy/domain_lower"}


@torch.no_grad()
def test_both_lambdas_follow_the_schedule():
    torch.manual_seed(1)
    plan = SapPlan(OPTIONS, LOWER, loss_end=0.1, iterations=10)
    module = SapLoss(plan, ["c4"], 6, 3, ("c2", 4)).double()
    source, target = maps(0), maps(1)
    constant, _ = adversary(LOWER)(source, target)
    for iteration, share in ((4, 0.55), (9, 0.1)):
        losses, _ = module(source, target, iteration)
        for name, loss in losses.items():
            torch.testing.assert_close(loss, share * constant[name])


def test_images_share_the_statistics_of_batch_norm():
    options = replace(OPTIONS, embed_norm="bn", z_norm="bn")
    module, source, target = adversary(options=options), maps(0), maps(1)
    losses, _ = module(source, target)
    expected = 0
    for domain, batch in enumerate((source, target)):
        logits = module.upper.joint_logits(batch.features["c4"], batch.logits["c4"])
        expected -= 0.3 * logits.log_softmax(dim=1)[:, domain].mean()
    torch.testing.assert_close(losses["loss_sap"], expected)
    module.eval()(source, target)  # by running statistics, image by image


@torch.no_grad()
def test_accuracy_is_the_share_of_images_whose_domain_is_told():
    module, source, target = adversary(), maps(0), maps(1)
    told = []
    for domain, images in enumerate((source, target)):
        guesses = [
            module.upper(*m).logits.argmax().item()
            for m in zip(images.features["c4"], images.logits["c4"], strict=True)
        ]
        told.append(sum(guess == domain for guess in guesses) / len(guesses))
    _, accuracies = module(source, target)
    assert accuracies["accuracy/domain"].item() == pytest.approx(sum(told) / 2)
    assert set(accuracies) == {"accuracy/domain"}


def test_gradient_of_features_and_logits_is_minus_the_plain_one():
    module, source, target = adversary(), maps(0, grad=True), maps(1, grad=True)
    reversed_inputs = [
        tensor for maps in (source, target) for tensor in (*maps.features["c4"], *maps.logits["c4"])
    ]
    reversed_ = torch.autograd.grad(module(source, target)[0]["loss_sap"], reversed_inputs)
    plain_loss = 0.3 * both_cross_entropies(module.upper, source, target, "c4", "c4")
    plain = torch.autograd.grad(plain_loss, reversed_inputs)
    for ours, theirs in zip(reversed_, plain, strict=True):
        torch.testing.assert_close(ours, -theirs)
        assert theirs.abs().max() > 0


def test_every_parameter_of_both_pyramids_gets_a_gradient():
    module = adversary(LOWER)
    losses, _ = module(maps(0), maps(1))
    sum(losses.values()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("weights", [(), (0.2, 3.0)])
def test_levels_have_a_pyramid_each_and_a_share_of_the_loss(weights):
    module, source, target = on_levels(weights=weights), maps(0), maps(1)
    losses, told = module(source, target)
    shares = dict(zip(("p3", "p5"), weights or (0.5, 0.5), strict=True))
    assert losses.keys() == {"loss_sap_p3", "loss_sap_p5"}
    assert told.keys() == {"accuracy/domain_p3", "accuracy/domain_p5"}
    for level, share in shares.items():
        expected = both_cross_entropies(getattr(module, level), source, target, level, level)
        torch.testing.assert_close(losses[f"loss_sap_{level}"], 0.3 * share * expected)
    assert module.p3.classifier.weight.ne(module.p5.classifier.weight).all()


def test_of_several_maps_one_must_be_chosen():
    for plan, message in (
        (SapPlan(OPTIONS), r"the RPN reads p2, p3, p4: choose .* SAP.FEATURES .* \[p3, p4\]"),
        (SapPlan(OPTIONS, features=("p3", "p6")), r"\['p3', 'p6'\], expected different ones of p2"),
        (SapPlan(OPTIONS, features=("p3", "p3")), "expected different ones"),
        (SapPlan(OPTIONS, features=("p3",), weights=(1.0, 2.0)), "FEATURE_WEIGHTS .* each of p3"),
        (SapPlan(OPTIONS, features=("p3",), weights=(0.0,)), "a number above 0"),
        (SapPlan(OPTIONS, LOWER, features=("p3",)), "SAP.LOWER.FEATURE is for .* one map"),
    ):
        with pytest.raises(UserError, match=message):
            SapLoss(plan, ["p2", "p3", "p4"], 6, 3)
    one = SapLoss(SapPlan(OPTIONS, features=("p3",)), ["p2", "p3"], 6, 3)
    assert one.pooled.keys() == {"upper"} and one.features == one.guides == ["p3"]


@pytest.mark.parametrize(("rounds_down", "expected"), [(True, (2, 4)), (False, (3, 5))])
def test_valid_area_is_the_map_of_the_image_alone(rounds_down, expected):
    """40x70 pixels in a batch of 48x80, at stride 16."""
    crops = valid_areas(torch.randn(2, 3, 3, 5), [(40, 70), (48, 80)], 16, rounds_down=rounds_down)
    assert [tuple(crop.shape) for crop in crops] == [(1, 3, *expected), (1, 3, 3, 5)]


@torch.no_grad()
@pytest.mark.parametrize("rounds_down", [True, False])
@pytest.mark.parametrize("size", [(33, 47), (64, 17), (16, 31)])
def test_valid_area_is_as_large_as_four_halvings(size, rounds_down):
    halve = torch.nn.MaxPool2d(2, ceil_mode=not rounds_down)
    expected = torch.zeros(1, 1, *size)
    for _ in range(4):
        expected = halve(expected)
    padded = F.pad(expected, (0, 3, 0, 2))
    (crop,) = valid_areas(padded, [size], 16, rounds_down=rounds_down)
    assert crop.shape == expected.shape


@torch.no_grad()
def test_garbage_in_the_padding_changes_nothing():
    module, target = adversary(), maps(1)
    sizes = [(80, 112), (40, 60)]

    def losses(garbage):
        features, logits = torch.full((2, 6, 5, 7), garbage), torch.full((2, 3, 5, 7), garbage)
        clean = maps(0, sizes=((5, 7), (3, 4)))
        pairs = zip(clean.features["c4"], clean.logits["c4"], strict=True)
        for index, (f, g) in enumerate(pairs):
            features[index, :, : f.shape[2], : f.shape[3]] = f
            logits[index, :, : g.shape[2], : g.shape[3]] = g
        areas = [valid_areas(m, sizes, 16, rounds_down=False) for m in (features, logits)]
        crops = [{"c4": [each.double() for each in area]} for area in areas]
        return module(Maps(*crops), target)[0]

    assert losses(0.0)["loss_sap"] == losses(1e6)["loss_sap"]


def test_an_image_smaller_than_a_cell_is_refused():
    with pytest.raises(UserError, match="smaller than a cell of 16"):
        valid_areas(torch.randn(1, 3, 1, 1), [(10, 40)], 16, rounds_down=True)
