"""The paper's Fig. 2."""

import numpy as np
import torch
from pyramids import maps, pyramid

from shared.sap import (
    SapOutputs,
    draw_pyramid,
)


def test_picture_has_a_row_per_image_and_a_column_per_level():
    module = pyramid(levels=(3, 9, 40)).eval()
    with torch.no_grad():
        outputs = module(*maps(2, (9, 18)))
    images = [np.zeros((36, 72, 3), np.uint8)] * 2
    picture = draw_pyramid(images, outputs, (3, 9, 40), height=36)
    single = draw_pyramid(images[:1], outputs, (3, 9, 40), height=36)
    assert picture.dtype == np.uint8
    scale, curve = 18, 54
    assert picture.shape == (2 * single.shape[0], 4 * 72 + scale + curve + 5 * 6, 3)
    tiles = [single[-36:, left : left + 72] for left in range(0, 4 * 78, 78)]
    assert not tiles[0].any()
    # Where the mask is largest the overlay is redder than where it is smallest.
    mask = outputs.masks[0][0, 0]

    def red(cell):
        row, column = divmod(int(cell), mask.shape[1])
        return tiles[1][36 * row // mask.shape[0] + 4, 72 * column // mask.shape[1] + 4, 0]

    assert red(mask.argmax()) > red(mask.argmin())
    assert (tiles[3] == 128).all()


def flat_outputs(weights, sharpness=0.0):
    """Masks of 4x6 cells that prefer their first row by so much, and a level of each weight."""
    scores = torch.zeros(4, 6)
    scores[0] = sharpness
    mask = scores.flatten().softmax(0).reshape(1, 1, 4, 6)
    levels = torch.tensor(weights)[None, :, None].expand(1, -1, 8)
    return SapOutputs(torch.zeros(1, 2), torch.zeros(1, 8), [mask] * len(weights), levels)


def test_masks_are_drawn_on_one_scale():
    def colors(sharpness):
        image = np.zeros((40, 60, 3), np.uint8)
        picture = draw_pyramid([image], flat_outputs([0.5, 0.5], sharpness), (3, 5), height=40)
        return picture[-40:, 66:126].astype(int)

    flat, faint, sharp = colors(0.0), colors(0.01), colors(3.0)
    assert (flat == flat[0, 0]).all()  # rather than stretched to its own range
    assert abs(faint - flat).max() < 12
    assert abs(sharp - flat).max() > 100


def test_the_curve_rises_with_a_levels_weight():
    image = np.zeros((80, 60, 3), np.uint8)

    def heights(weights):
        curve = draw_pyramid([image], flat_outputs(weights), (3, 5), height=80)[-80:, -120:]
        blue = (curve[..., 2].astype(int) - curve[..., 0]) > 100
        return blue[:, :20].argmax(axis=0).max(), blue[:, -20:].argmax(axis=0).max()

    left, right = heights([0.9, 0.1])
    assert 0 < left < right
    assert np.ptp(heights([0.5, 0.5])) == 0


def test_picture_without_channel_attention_shows_equal_weights():
    module = pyramid(channel_attention=False).eval()
    with torch.no_grad():
        outputs = module(*maps(1))
    picture = draw_pyramid([np.zeros((18, 24, 3), np.uint8)], outputs, (1, 3, 4))
    assert picture.shape[0] > 192
