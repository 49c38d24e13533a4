from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg_adapt.losses.association import (
    association_loss,
    cosine_pixels,
    find_cycles,
    kl_pixels,
)
from seg_adapt.losses.pairwise_softmax import (
    aggregate_features,
    aggregate_probabilities,
    best_match,
    normalize,
)
from seg_adapt.pictures import CLOSED, OPEN, draw_cycles

# Float64 numbers of the released code's equations on seeded noise: two pairs, 16 channels or 5
# classes on 8 x 8, of whose positions some are unlabeled.
REFERENCE = np.load(Path(__file__).parents[1] / "data" / "plca_reference.npz")
CASES = ["cos_spagg", "cos_plain", "kl_spagg", "kl_plain"]


def rows(maps):
    return [image.flatten(1).t() for image in maps]


def reference_case(case, dtype=torch.float64, block=512):
    name = "feat" if case.startswith("cos") else "logit"
    source, target = (
        torch.tensor(REFERENCE[f"{name}_{d}"]).to(dtype).requires_grad_() for d in "st"
    )
    labels = torch.tensor(REFERENCE["labels"]).long().flatten(1)
    if name == "feat":
        s, t = rows(source), rows(target)
        if case.endswith("spagg"):
            t = [aggregate_features(x, block=block) for x in t]
        pixels = cosine_pixels
    else:
        s, t = rows(source.softmax(1)), rows(target.softmax(1))
        if case.endswith("spagg"):
            t = [aggregate_probabilities(x) for x in t]
        pixels = kl_pixels
    pairs = [(pixels(a), pixels(b), y) for a, b, y in zip(s, t, labels, strict=True)]
    loss, cycles = association_loss(pairs, block=block)
    loss.backward()
    return loss, source.grad, target.grad, cycles, t


@pytest.mark.parametrize("block", [9, 512])
@pytest.mark.parametrize("case", CASES)
def test_reference_numbers(case, block):
    loss, grad_source, grad_target, cycles, mixed = reference_case(case, block=block)
    assert loss.item() == pytest.approx(float(REFERENCE[f"{case}_loss"]), abs=1e-11)
    np.testing.assert_allclose(grad_source, REFERENCE[f"{case}_grad_s"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(grad_target, REFERENCE[f"{case}_grad_t"], rtol=0, atol=1e-13)
    for n, c in enumerate(cycles):
        assert np.array_equal(c.middles, REFERENCE[f"{case}_mid"][n][c.starts])
        assert np.array_equal(c.ends, REFERENCE[f"{case}_end"][n][c.starts])
        assert np.array_equal(c.starts[c.closed], REFERENCE[f"{case}_selected"][n].nonzero()[0])
        if case.endswith("spagg"):
            expected = REFERENCE[f"{case}_mixed"][n].reshape(len(mixed[n].t()), -1)
            np.testing.assert_allclose(mixed[n].t().detach(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_float32_keeps_six_digits(case):
    loss, grad_source, grad_target, _, _ = reference_case(case, torch.float32, block=9)
    assert loss.item() == pytest.approx(float(REFERENCE[f"{case}_loss"]), rel=1e-6)
    np.testing.assert_allclose(grad_source, REFERENCE[f"{case}_grad_s"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(grad_target, REFERENCE[f"{case}_grad_t"], rtol=0, atol=1e-6)


def random_pair(count=(11, 13), channels=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    source, target = (torch.randn(n, channels, generator=generator).double() for n in count)
    labels = torch.randint(0, 3, (count[0],), generator=generator)
    labels[::5] = 255
    return source, target, labels


def written_out(source, target, labels, similarity):
    """Eqs. 2 to 6 by loops; returns the sum over closed cycles, their count and Sim-PLCA's sum."""

    def log_probability(values, chosen):
        mean = sum(values) / len(values)
        sigma = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 + 1e-10
        normalized = [(v - mean) / sigma for v in values]
        return normalized[chosen] - float(torch.tensor(normalized).double().logsumexp(0))

    total, direct, count = 0.0, 0.0, 0
    for i in range(len(source)):
        if labels[i] == 255:
            continue
        forth = [similarity(source[i], t) for t in target]
        middle = int(np.argmax(forth))
        back = [similarity(target[middle], s) for s in source]
        end = int(np.argmax(back))
        if labels[end] == labels[i]:
            total -= log_probability(forth, middle) + log_probability(back, end)
            direct -= forth[middle] + back[end]
            count += 1
    return total, count, direct


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def negative_kl(p, q):
    return -float(sum(a * (a.add(1e-10).log() - b.add(1e-10).log()) for a, b in zip(p, q)))  # noqa: B905


@pytest.mark.parametrize("measure", ["cosine", "kl"])
def test_the_equations_and_the_mean_over_all_pairs_together(measure):
    pairs, totals = [], np.zeros(3)
    for seed, count in enumerate([(11, 13), (23, 7)]):
        source, target, labels = random_pair(count, seed=seed)
        if measure == "cosine":
            pairs.append((cosine_pixels(source), cosine_pixels(target), labels))
            totals += written_out(source, target, labels, cosine)
        else:
            source, target = source.softmax(1), target.softmax(1)
            pairs.append((kl_pixels(source), kl_pixels(target), labels))
            totals += written_out(source, target, labels, negative_kl)
    total, count, direct = totals
    assert count > 2
    assert association_loss(pairs)[0].item() == pytest.approx(total / count, rel=1e-8)
    assert association_loss(pairs, direct=True)[0].item() == pytest.approx(direct / count)


def dense_match(queries, keys, chosen):
    """`best_match` with its matrix, by autograd; σ detached as Eq. 5 has it."""
    similarity = queries[chosen] @ keys.t()
    sigma = similarity.detach().std(1, keepdim=True) + 1e-10
    log_p, index = (similarity / sigma).log_softmax(1).max(1)
    return log_p, index


def test_best_match_equals_autograd_through_the_whole_matrix():
    torch.manual_seed(0)
    queries, keys = torch.randn(9, 4).double(), torch.randn(12, 4).double()
    chosen = torch.tensor([7, 0, 3, 8, 5])
    weights = torch.tensor([0.5, 0.0, -1.0, 2.0, 0.0]).double()
    results = []
    for match in (
        lambda q, k: dense_match(q, k, chosen),
        lambda q, k: best_match(q, k, chosen, epsilon=1e-10, block=2),
    ):
        q, k = queries.clone().requires_grad_(), keys.clone().requires_grad_()
        log_p, index = match(q, k)
        results.append((log_p, index, *torch.autograd.grad((weights * log_p).sum(), [q, k])))
    for ours, dense in zip(*results, strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("block", [1, 4, 100])
def test_aggregation_equals_autograd_through_the_whole_matrix(alpha, block):
    torch.manual_seed(0)
    features, weights = torch.randn(10, 4).double(), torch.randn(10, 4).double()
    dense, ours = features.clone().requires_grad_(), features.clone().requires_grad_()
    unit = F.normalize(dense, dim=1)
    similarity = unit @ unit.t()
    sigma = similarity.detach().std(1, keepdim=True) + 1e-10
    expected = (1 - alpha) * dense + alpha * (similarity / sigma).softmax(1) @ dense
    actual = aggregate_features(ours, alpha=alpha, block=block)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    (weights * actual).sum().backward()
    (weights * expected).sum().backward()
    torch.testing.assert_close(ours.grad, dense.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("classes", [5, 8, 19])
def test_aggregation_of_probabilities_is_a_plain_softmax_of_minus_kl(classes):
    torch.manual_seed(0)
    p = (3 * torch.randn(6, classes)).double().softmax(1)
    divergence = torch.tensor([[negative_kl(a, b) for b in p] for a in p], dtype=torch.float64)
    expected = 0.25 * p + 0.75 * divergence.softmax(1) @ p
    actual = aggregate_probabilities(p, alpha=0.75)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(actual.sum(1), torch.ones(6).double())


def test_nothing_of_the_size_of_all_pairs_is_kept_for_backward():
    count, channels = 400, 8
    torch.manual_seed(0)
    source, target = (torch.randn(count, channels, requires_grad=True) for _ in range(2))
    labels = torch.randint(0, 2, (count,))
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    ):
        mixed = aggregate_features(target, block=64)
        features = association_loss([(cosine_pixels(source), cosine_pixels(mixed), labels)])[0]
        mixed = aggregate_probabilities(target.softmax(1))
        predictions = association_loss(
            [(kl_pixels(source.softmax(1)), kl_pixels(mixed), labels)], block=64
        )[0]
    assert max(sizes) <= count * channels
    (features + predictions).backward()
    assert source.grad.any() and target.grad.any()


@pytest.mark.parametrize("pixels", [cosine_pixels, kl_pixels])
def test_without_a_closed_cycle_the_loss_is_zero_and_has_a_gradient(pixels):
    source, target, labels = random_pair()
    for y in (torch.full_like(labels, 255), torch.arange(len(labels))):
        # Every way back leads to pixel 0, which no other pixel shares its class with.
        s = source.softmax(1).clone()
        t = s[:1].expand_as(target).clone()
        y[0] = 255
        s.requires_grad_(), t.requires_grad_()
        for direct in (False, True):
            loss, (cycles,) = association_loss([(pixels(s), pixels(t), y)], direct=direct)
            assert not cycles.closed.any() and len(cycles.starts) == (y != 255).sum()
            gradients = torch.autograd.grad(loss, [s, t])
            assert loss.item() == 0.0
            assert not any(g.any() for g in gradients)


def test_an_unlabeled_pixel_can_be_found_but_closes_nothing():
    source = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    target = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    cycles = find_cycles(cosine_pixels(source), cosine_pixels(target), torch.tensor([255, 4, 4]))
    assert cycles.starts.tolist() == [1, 2]
    assert cycles.middles.tolist() == [1, 1]
    assert cycles.ends.tolist() == [2, 2] and cycles.closed.all()
    cycles = find_cycles(cosine_pixels(source), cosine_pixels(target), torch.tensor([4, 4, 255]))
    assert cycles.ends.tolist() == [0, 2] and cycles.closed.tolist() == [True, False]


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_rows_without_contrast_stay_finite(count, value):
    """Equal pixels (σ = 0), a map of one cell, features that a ReLU has set to zero."""
    source = torch.full((count, 4), value, requires_grad=True)
    target = torch.full((count, 4), value, requires_grad=True)
    labels = torch.zeros(count, dtype=torch.long)
    pairs = [
        (cosine_pixels(source), cosine_pixels(aggregate_features(target)), labels),
        (
            kl_pixels(source.softmax(1)),
            kl_pixels(aggregate_probabilities(target.softmax(1))),
            labels,
        ),
    ]
    for pair in pairs:
        loss, (cycles,) = association_loss([pair])
        assert cycles.closed.all()
        # Each of two choices is one among `count` equal ones.
        assert loss.item() == pytest.approx(2 * np.log(count), abs=1e-4)
        for gradient in torch.autograd.grad(loss, [source, target]):
            assert torch.isfinite(gradient).all()


def test_normalize_gives_a_zero_row_no_gradient():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    unit = normalize(x)
    assert unit.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
    unit.backward(torch.ones(2, 2))
    torch.testing.assert_close(x.grad, torch.tensor([[0.2 * 0.16, -0.2 * 0.12], [0.0, 0.0]]))


def test_autocast_around_backward_changes_nothing():
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        features = torch.randn(20, 8, requires_grad=True)
        labels = torch.zeros(20, dtype=torch.long)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            pixels = cosine_pixels(aggregate_features(features, block=8))
            loss, _ = association_loss([(pixels, pixels, labels)], block=8)
            loss.backward()
        gradients.append(features.grad)
    assert torch.equal(*gradients)


def test_picture_shows_closed_and_open_cycles():
    source = np.full((40, 60, 3), 90, np.uint8)
    features = torch.eye(6)
    labels = torch.tensor([0, 1, 2, 3, 4, 255])
    cycles = find_cycles(cosine_pixels(features), cosine_pixels(features), labels)
    cycles = cycles._replace(closed=torch.tensor([True, False, True, True, True]))
    grid = (np.array([10.0, 30.0]), np.array([10.0, 30.0, 50.0]))
    picture = draw_cycles(source, source, cycles, grid, grid, height=120)
    assert picture.dtype == np.uint8 and picture.shape[0] > 120
    for color in (CLOSED, OPEN):
        assert (picture == color).all(-1).any()
    nothing = cycles._replace(
        starts=cycles.starts[:0], middles=cycles.middles[:0], closed=cycles.closed[:0]
    )
    picture = draw_cycles(source, source, nothing, grid, grid, height=120)
    assert not any((picture == color).all(-1).any() for color in (CLOSED, OPEN))
