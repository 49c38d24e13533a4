import numpy as np
import pytest

from shared.errors import UserError
from shared.visualize import legend, overlay, panel


def flat(color, height=20, width=30):
    return np.full((height, width, 3), color, np.uint8)


def test_overlay_blends_and_leaves_its_inputs_alone():
    image, colors = flat((100, 0, 200)), flat((200, 100, 0))
    assert (overlay(image, colors, 0.25) == (125, 25, 150)).all()
    assert (overlay(image, colors, 0.0) == image).all()
    assert (overlay(image, colors, 1.0) == colors).all()
    assert (image == (100, 0, 200)).all()


def test_overlay_shows_the_image_where_labels_are_ignored():
    ignore = np.zeros((20, 30), bool)
    ignore[:5] = True
    result = overlay(flat(10), flat(250), 0.5, ignore)
    assert (result[:5] == 10).all()
    assert (result[5:] == 130).all()
    assert result.dtype == np.uint8


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        [[1]],
    ],
)
def test_wrong_images_are_named(image):
    with pytest.raises(UserError, match=r"image.*expected a uint8 RGB array"):
        overlay(image, flat(0))
    with pytest.raises(UserError, match=r"image 1.*expected a uint8 RGB array"):
        panel([flat(0), image], ["a", "b"], height=32)


def test_overlay_refuses_other_sizes_and_masks():
    with pytest.raises(UserError, match="sizes differ"):
        overlay(flat(0), flat(0, width=31))
    with pytest.raises(UserError, match=r"alpha is 1\.5"):
        overlay(flat(0), flat(0), 1.5)
    with pytest.raises(UserError, match="expected bool"):
        overlay(flat(0), flat(0), 0.5, np.zeros((20, 30), np.uint8))


def test_panel_keeps_aspect_ratio_order_and_colours():
    result = panel([flat((255, 0, 0), 20, 40), flat((0, 0, 255), 10, 10)], ["in", "out"], height=60)
    tiles = result[-60:]
    assert tiles.shape == (60, 120 + 6 + 60, 3)
    assert (tiles[:, :120] == (255, 0, 0)).all()
    assert (tiles[:, 126:] == (0, 0, 255)).all()
    titles = result[:-60]
    assert (titles[:, :120] < 128).any() and (titles[:, 126:] < 128).any(), "titles are drawn"


def test_panel_never_mixes_colours_when_enlarging_a_label_map():
    checker = np.indices((4, 4)).sum(0) % 2
    colors = np.array([(128, 64, 128), (0, 0, 142)], np.uint8)[checker]
    tiles = panel([colors], ["truth"], height=50)[-50:]
    assert len(np.unique(tiles.reshape(-1, 3), axis=0)) == 2


def test_a_title_stays_within_its_tile():
    blank = flat(255, 40, 40)
    result = panel([blank, blank], ["a very long title that cannot fit", ""], height=40)
    assert (result[:, 40:] == 255).all()


def test_panel_refuses_a_count_mismatch_and_nothing():
    with pytest.raises(UserError, match="2 images and 1 titles"):
        panel([flat(0), flat(0)], ["a"], height=32)
    with pytest.raises(UserError, match="at least one image"):
        panel([], [], height=32)


def test_legend_shows_every_colour_at_any_width():
    names = [f"class {i}" for i in range(19)]
    colors = np.random.default_rng(0).integers(0, 255, (19, 3), np.uint8)
    for width in (40, 300, 2000):
        image = legend(names, colors, width=width)
        assert image.shape[1] == width
        present = {tuple(c) for c in image.reshape(-1, 3).tolist()}
        assert {tuple(c) for c in colors.tolist()} <= present
    with pytest.raises(UserError, match="one uint8 RGB row for each class"):
        legend(names, colors[:3])
