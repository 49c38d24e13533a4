import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import backward, random_batches, tiny_segmentor
from torch import nn

from seg_adapt.methods.base import Stage
from seg_adapt.methods.fcn_wild import (
    FCNWild,
    FCNWildOptions,
    confusion,
    image_labels,
    source_statistics,
    unit_discriminator,
)
from shared.errors import UserError


def wild(architecture="resnet18", **options):
    torch.manual_seed(1)
    segmentor = tiny_segmentor(architecture=architecture, align_corners=True)
    return FCNWild(segmentor, FCNWildOptions(**({"hidden": (16,)} | options)))


def with_statistics(method, low=0.05, mean=0.1, high=0.25):
    for buffer, value in zip(
        (method.low_share, method.mean_share, method.high_share), (low, mean, high), strict=True
    ):
        buffer.fill_(value)
    method.enter("constrained")
    return method


def phases(method, source, target):
    """Every phase; each is back-propagated into its own group."""
    phases = []
    for phase in method.steps(source, target):
        phases.append(phase)
        backward(method, phase)
    return phases


# Statistics, section 3.2


def test_statistics_by_hand():
    def image(*counts, ignored=0):
        ids = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
        return np.concatenate([ids, np.full(ignored, 255, np.uint8)])[None]

    # Shares of class 0: 1/4, 2/4, 3/4 of labeled pixels; of class 1: 3/4, 2/4, 1/4 and 1;
    # class 2 is in no image; the last image has no label at all.
    images = [
        image(1, 3),
        image(2, 2, ignored=4),
        image(6, 2, ignored=92),
        image(0, 5),
        image(ignored=7),
    ]
    low, mean, high = source_statistics(iter(images), 3)
    # Percentiles between sorted values: 0.25 + 0.1·2·0.25, 0.25 + 0.9·2·0.25.
    np.testing.assert_allclose(low, [0.30, 0.25 + 0.3 * 0.25, 0], atol=1e-7)
    np.testing.assert_allclose(mean, [0.5, 2.5 / 4, 0], atol=1e-7)
    np.testing.assert_allclose(high, [0.70, 1 - 0.3 * 0.25, 0], atol=1e-7)


def test_a_mean_above_the_percentile_is_brought_down():
    images = [np.array([[0] * 1 + [1] * 99])] * 19 + [np.array([[0] * 100])]
    low, mean, high = source_statistics(images, 2)
    assert low[0] == high[0] == mean[0] == np.float32(0.01)  # the plain mean is 0.0595


@pytest.mark.parametrize("images", [[], [np.full((4, 4), 255, np.uint8)]])
def test_statistics_of_nothing_are_zero(images):
    assert not np.any(source_statistics(images, 3))


def test_statistics_are_buffers_and_survive_a_checkpoint():
    method, other = wild(), wild()
    rng = np.random.default_rng(0)
    method.observe_source(rng.integers(0, 3, (8, 9), dtype=np.uint8) for _ in range(5))
    assert (method.mean_share[:3] > 0).all() and not method.mean_share[3:].any()
    assert (method.low_share <= method.mean_share).all()
    assert (method.mean_share <= method.high_share).all()
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.high_share, method.high_share)


def test_image_labels_by_hand():
    # Of 100 pixels: class 0 has 92, 1 has 5, 2 has 3, 3 none.
    ids = torch.tensor([0] * 92 + [1] * 5 + [2] * 3).view(1, 10, 10)
    logits = F.one_hot(ids, 4).permute(0, 3, 1, 2).float()
    alpha = torch.tensor([0.0, 0.4, 0.31, 0.1])
    # 0: never in the source; 1: 0.05 > 0.04; 2: 0.03 < 0.031; 3: 0 < 0.01.
    assert image_labels(logits, alpha).tolist() == [[False, True, False, False]]
    # At 0.05 α_c class 2 is there, too; and not where four cells are asked for.
    assert image_labels(logits, alpha, 0.05).tolist() == [[False, True, True, False]]
    assert image_labels(logits, alpha, 0.05, 4).tolist() == [[False, True, False, False]]
    assert image_labels(logits, alpha, 0.05, 5).tolist() == [[False, True, False, False]]
    assert not image_labels(logits, alpha, 0.05, 6).any()


# Global alignment, section 3.1


def test_confusion_is_the_mean_of_both_cross_entropies_with_gradient_p_minus_half():
    logits = torch.tensor([-40.0, -1.0, 0.0, 2.0, 40.0]).double().requires_grad_()
    loss = confusion(logits)
    p = logits.detach().sigmoid()
    expected = (F.softplus(logits) + F.softplus(-logits)).detach() / 2
    assert loss.item() == pytest.approx(expected.mean().item())
    loss.backward()
    torch.testing.assert_close(5 * logits.grad, p - 0.5)


def test_a_logit_of_two_way_softmax_is_their_difference():
    two = torch.randn(7, 2).double()
    one = two[:, 1] - two[:, 0]
    for domain in (0, 1):
        expected = F.cross_entropy(two, torch.full((7,), domain))
        ours = F.binary_cross_entropy_with_logits(one, torch.full((7,), float(domain)).double())
        torch.testing.assert_close(ours, expected)


def test_discriminator_layers():
    layers = unit_discriminator(4096, (1024, 1024))
    convs = [m for m in layers if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [
        (4096, 1024),
        (1024, 1024),
        (1024, 1),
    ]
    assert all(c.kernel_size == (1, 1) for c in convs)
    assert [m.p for m in layers if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert [type(m) for m in unit_discriminator(8, ())] == [nn.Conv2d]


def test_losses_of_one_step_against_the_equations():
    method = wild().eval()
    source, target = random_batches()
    with torch.no_grad():
        source_logits = method.discriminator(method.segmentor.run(source.images, until="layer4"))
        target_logits = method.discriminator(method.segmentor.run(target.images, until="layer4"))
    # p of Eq. 2 is the probability of "source", whose label is 0 here.
    told_apart = F.softplus(source_logits).mean() + F.softplus(-target_logits).mean()
    inverse = F.softplus(-source_logits).mean() + F.softplus(target_logits).mean()
    first, second, third = phases(method, source, target)
    assert third.group == "discriminator" and set(first.losses) == {"seg", "confusion_source"}
    assert set(second.losses) == {"confusion_target"}
    torch.testing.assert_close(third.losses["discriminator"], told_apart)
    aligned = first.losses["confusion_source"] + second.losses["confusion_target"]
    torch.testing.assert_close(aligned, (told_apart + inverse) / 2)
    hits = ((source_logits <= 0).float().mean() + (target_logits > 0).float().mean()) / 2
    assert third.records["accuracy/domain"].item() == pytest.approx(hits.item())


def test_cut_is_the_last_stage_before_the_head():
    assert wild().feature_stage == "layer4"
    method = wild("vgg16_frontend")
    assert method.feature_stage == "fc7" and method.discriminator[0].in_channels == 512
    assert wild("pspnet_resnet18").feature_stage == "ppm"
    assert wild(feature_stage="layer3").discriminator[0].in_channels == 32


def test_front_end_learns_all_its_parts():
    method = with_statistics(wild("vgg16_frontend"))
    groups = [phase.group for phase in phases(method, *random_batches(1, (48, 64)))]
    assert groups == ["model", "model", "discriminator"]
    missing = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing


def test_gate_waits_for_a_discriminator_that_is_right():
    method = wild(gate=0.6)
    batches = random_batches()
    for accuracy, closed in ((0.5, True), (0.7, False)):
        method.accuracy.fill_(accuracy)
        first, second, third = phases(method, *batches)
        assert (first.losses["confusion_source"].item() == 0) == closed
        assert (second.losses["confusion_target"].item() == 0) == closed
        assert method.accuracy == third.records["accuracy/domain"]


# Category specific adaptation, section 3.2


def test_stages():
    assert wild().stages(7) == [Stage("global_alignment", 3), Stage("constrained", 4)]
    assert wild(constrained_share=0.0).stages(7) == [Stage("global_alignment", 7)]
    assert wild(constrained_share=1.0).stages(7) == [Stage("constrained", 7)]


def test_constraints_are_those_of_their_stage():
    method = with_statistics(wild())
    batches = random_batches()
    second = phases(method, *batches)[1]
    assert "constrained" in second.losses
    assert {"projection/raised", "projection/unconverged"} <= set(second.records)
    method.enter("global_alignment")
    assert set(phases(method, *batches)[1].losses) == {"confusion_target"}


def test_bounds_are_raised_and_counted_where_the_present_classes_cannot_fill_the_image():
    method = with_statistics(wild(), low=0.05, mean=0.1, high=0.25)
    ids = torch.tensor([[0] * 50 + [1] * 50, [0, 1, 2, 3, 4] * 20, [2] * 100]).view(3, 10, 10)
    logits = F.one_hot(ids, 5).permute(0, 3, 1, 2).float()
    bounds = method.bounds(logits)
    # Two quarters do not fill an image, five do; a single class is not constrained at all.
    assert bounds.raised.tolist() == [True, False, False]
    assert bounds.present.sum(dim=1).tolist() == [2, 5, 1]
    torch.testing.assert_close(bounds.upper[0, :2], torch.full((2,), 1.001 / 2))
    assert torch.equal(bounds.upper[1], method.high_share)
    assert torch.equal(bounds.lower[0], method.mean_share)
    _, records = method.constrained_loss(logits)
    assert records["projection/raised"].item() == pytest.approx(1 / 3)


def test_large_classes_pull_with_a_tenth_of_their_gradient():
    logits = torch.randn(1, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    gradients = []
    for low in (0.09, 0.11):
        method = with_statistics(wild(constrained_weight=2.0), low, mean=0.15, high=0.22)
        method.low_share[1:] = 0.05
        given = logits.clone().requires_grad_()
        method.constrained_loss(given)[0].backward()
        gradients.append(given.grad)
    assert gradients[0][:, 0].any()
    torch.testing.assert_close(gradients[1][:, 0], 0.1 * gradients[0][:, 0])
    torch.testing.assert_close(gradients[1][:, 1:], gradients[0][:, 1:])


def test_a_step_along_the_gradient_brings_the_shares_nearer_to_their_bounds():
    method = with_statistics(wild(), low=0.01, mean=0.2, high=0.2)
    # Class 0 has nearly half, and the bounds want a fifth each.
    logits = torch.randn(1, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    logits[:, 0] += 1.5
    logits.requires_grad_()
    before, _ = method.constrained_loss(logits)
    before.backward()
    moved = (logits - 20 * logits.grad).detach()
    assert method.constrained_loss(moved)[0] < before
    distances = [(m.softmax(dim=1).mean(dim=(2, 3)) - 0.2).abs().sum() for m in (logits, moved)]
    assert distances[1] < distances[0]


def test_constrained_loss_in_bf16_is_near_fp32():
    losses = []
    for enabled in (False, True):
        method = with_statistics(wild()).eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(phases(method, *random_batches())[1].losses["constrained"])
    assert losses[1].dtype == torch.float32 and losses[0] > 0.1
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0)


def test_without_a_seen_class_nothing_is_constrained():
    method = wild()
    method.enter("constrained")
    second = phases(method, *random_batches())[1]
    assert second.losses["constrained"].item() == pytest.approx(0.0, abs=1e-6)
    assert second.records["projection/raised"] == 0


def test_target_logits_are_offered_in_self_training():
    method = wild()
    source, target = random_batches()
    labels = torch.zeros(2, 33, 49, dtype=torch.int64)
    assert not any(p.target_logits is not None for p in method.steps(source, target))
    target = dataclasses.replace(target, pseudo_labels=labels)
    shapes = [getattr(p.target_logits, "shape", None) for p in method.steps(source, target)]
    assert shapes == [None, (2, 5, 5, 7), None]


def test_pictures_show_target_images_within_their_bounds():
    method = with_statistics(wild(), low=1e-4).eval()
    source, target = random_batches()
    with torch.no_grad():
        pictures = method.pictures(source, target)
        shuffled = with_statistics(wild(), low=1e-4, mean=0.2, high=0.2).eval()
        others = shuffled.pictures(source, target)
    assert list(pictures) == ["constraints_1", "constraints_2"]
    for name, picture in pictures.items():
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        assert not np.array_equal(picture, others[name])
    assert wild(constrained_share=0.0).pictures(source, target) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constrained_share": 1.5}, r"FCN_WILD.CONSTRAINED_SHARE is 1.5, .* from 0 to 1"),
        ({"gate": -0.1}, r"FCN_WILD.GATE is -0.1"),
        ({"large_class": 2.0}, r"FCN_WILD.LARGE_CLASS is 2.0"),
        ({"slack_price": 0.0}, r"FCN_WILD.SLACK_PRICE is 0.0"),
        ({"hidden": (8, 0)}, r"FCN_WILD.HIDDEN is \[8, 0\]"),
    ],
)
def test_wrong_options_name_the_key(options, message):
    with pytest.raises(UserError, match=message):
        FCNWildOptions(**options)
