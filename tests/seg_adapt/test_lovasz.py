from pathlib import Path

import numpy as np
import pytest
import torch

from seg_adapt.losses.lovasz import lovasz_softmax

# Numbers of the released code on seeded noise, 2 x 5 x 8 x 8, some labels ignored.
REFERENCE = np.load(Path(__file__).parents[1] / "data" / "plca_reference.npz")


def reference_inputs(dtype):
    logits = torch.tensor(REFERENCE["logit_s"]).to(dtype).requires_grad_()
    return logits, torch.tensor(REFERENCE["labels"]).long()


def written_out(probabilities, labels):
    """Eqs. 8, 9 and 11 by loops: the Jaccard loss of ever larger sets of wrong pixels."""
    pixels = [
        (probabilities[n, :, y, x].tolist(), int(labels[n, y, x]))
        for n in range(labels.shape[0])
        for y in range(labels.shape[1])
        for x in range(labels.shape[2])
        if labels[n, y, x] != 255
    ]
    losses = []
    for c in sorted({label for _, label in pixels}):
        errors = sorted(((abs((y == c) - p[c]), y == c) for p, y in pixels), reverse=True)
        foreground = sum(is_c for _, is_c in errors)
        total, before = 0.0, 0.0
        for k, (error, _) in enumerate(errors, start=1):
            hits = sum(is_c for _, is_c in errors[:k])
            jaccard = 1 - (foreground - hits) / (foreground + k - hits)
            total += error * (jaccard - before)
            before = jaccard
        losses.append(total)
    return sum(losses) / len(losses)


def test_released_numbers():
    logits, labels = reference_inputs(torch.float32)
    loss = lovasz_softmax(logits.softmax(1), labels)
    loss.backward()
    assert loss.item() == pytest.approx(float(REFERENCE["lovasz_loss"]), abs=1e-6)
    np.testing.assert_allclose(logits.grad, REFERENCE["lovasz_grad_logits"], rtol=0, atol=1e-7)


def test_a_missing_class_does_not_count():
    logits, labels = reference_inputs(torch.float64)
    without = torch.where(labels == 3, 255, labels)
    assert lovasz_softmax(logits.softmax(1), labels).item() == pytest.approx(
        0.46122567026947214, abs=1e-12
    )
    assert lovasz_softmax(logits.softmax(1), without).item() == pytest.approx(
        0.44108750419192677, abs=1e-12
    )


def test_the_equations():
    torch.manual_seed(0)
    probabilities = torch.randn(2, 3, 3, 4).double().softmax(1)
    labels = torch.randint(0, 3, (2, 3, 4))
    labels[0, 0] = 255
    expected = written_out(probabilities, labels)
    assert lovasz_softmax(probabilities, labels).item() == pytest.approx(expected, abs=1e-12)


def test_hard_predictions_give_the_mean_of_one_minus_iou():
    labels = torch.tensor([[[0, 0, 1, 1, 255]]])
    predicted = torch.tensor([[[0, 1, 1, 1, 0]]])
    probabilities = torch.nn.functional.one_hot(predicted, 2).permute(0, 3, 1, 2).double()
    assert lovasz_softmax(probabilities, labels).item() == pytest.approx(1 - (1 / 2 + 2 / 3) / 2)


def test_all_ignored_is_zero_and_has_a_gradient():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = lovasz_softmax(logits.softmax(1), torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_one_labeled_pixel():
    probabilities = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    labels = torch.tensor([[[1, 255]]])
    assert lovasz_softmax(probabilities, labels).item() == pytest.approx(0.25)


def test_another_ignored_label():
    probabilities = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    labels = torch.tensor([[[1, 0]]])
    assert lovasz_softmax(probabilities, labels, ignore=0).item() == pytest.approx(0.25)
