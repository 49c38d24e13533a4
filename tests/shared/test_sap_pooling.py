"""Windows pooled from running sums, against loops and PyTorch."""

import math

import pytest
import torch
import torch.nn.functional as F
from pyramids import DETECTION_LEVELS, vectors_by_loops

from shared.attention import level_attention, spatial_mask
from shared.sap.pooling import (
    average_vectors,
    maximum_vectors,
    pooled_size,
    window_means,
    window_size,
)


@pytest.mark.parametrize("size", [(38, 75), (37, 124), (5, 2), (1, 1), (1, 40)])
def test_bands_are_average_pooling_with_windows_clamped_to_the_map(size):
    torch.manual_seed(0)
    features = torch.randn(1, 4, *size)
    for kernel in (1, 2, 3, 24, 37, 51):
        rows, columns = window_size(kernel, *size)
        pooled = (
            window_means(size[0], rows, features)
            @ features
            @ window_means(size[1], columns, features).T
        )
        expected = F.avg_pool2d(features, (min(kernel, size[0]), min(kernel, size[1])), 2)
        assert pooled.shape[-2:] == expected.shape[-2:] == pooled_size(kernel, *size)
        torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(7, 10), (2, 5), (1, 1)])
def test_vectors_against_loops_over_windows(size):
    torch.manual_seed(0)
    levels = (1, 3, 4, 6, 9)
    features = torch.randn(2, 3, *size).double()
    masks = [torch.randn(2, 1, *pooled_size(k, *size)).double() for k in levels]
    mean = vectors_by_loops(features, masks, levels, lambda window: window.mean(dim=2))
    torch.testing.assert_close(average_vectors(features, masks, levels), mean)
    maximum = vectors_by_loops(features, masks, levels, lambda window: window.amax(dim=2))
    torch.testing.assert_close(maximum_vectors(features, masks, levels), maximum)


def test_average_vectors_and_gradients_equal_avg_pool2d_in_fp32():
    torch.manual_seed(0)
    features = torch.randn(1, 16, 38, 75, requires_grad=True)
    scores = [
        torch.randn(1, 1, *pooled_size(k, 38, 75), requires_grad=True) for k in DETECTION_LEVELS
    ]
    upstream = torch.randn(1, len(scores), 16)
    masks = [spatial_mask(score) for score in scores]
    literal = torch.stack(
        [
            (F.avg_pool2d(features, kernel, 2) * mask).sum(dim=(2, 3))
            for kernel, mask in zip(DETECTION_LEVELS, masks, strict=True)
        ],
        dim=1,
    )
    ours = average_vectors(features, masks, DETECTION_LEVELS)
    torch.testing.assert_close(ours, literal, rtol=0, atol=1e-5)
    expected = torch.autograd.grad(literal, [features, *scores], upstream, retain_graph=True)
    gradients = torch.autograd.grad(ours, [features, *scores], upstream)
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-5)


def test_two_windows_by_hand():
    """Window 3 on one row of five cells: means of cells 0-2 and 2-4; window 9 is the whole map."""
    features = torch.tensor([[[[1.0, 2.0, 6.0, 8.0, 10.0]]]])
    scores = torch.tensor([[[[0.0, math.log(3.0)]]]])
    masks = [spatial_mask(scores), spatial_mask(torch.tensor([[[[7.0]]]]))]
    torch.testing.assert_close(masks[0], torch.tensor([[[[0.25, 0.75]]]]))
    vectors = average_vectors(features, masks, (3, 9))
    torch.testing.assert_close(vectors, torch.tensor([[[0.25 * 3 + 0.75 * 8], [27 / 5]]]))
    fused, weights = level_attention(vectors, torch.tensor([[[0.0], [math.log(4.0)]]]))
    torch.testing.assert_close(weights, torch.tensor([[[0.2], [0.8]]]))
    torch.testing.assert_close(fused, torch.tensor([[0.2 * 6.75 + 0.8 * 5.4]]))
