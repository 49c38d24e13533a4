import numpy as np
import pytest
import torch

from shared.errors import UserError
from shared.pictures import (
    class_colors,
    draw_boxes,
    evenly_spaced,
    heat_map,
    overlay,
    panel,
    resize_to_height,
    sheet,
    to_array,
)


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


def test_panel_keeps_aspect_ratio_order_and_colors():
    result = panel([flat((255, 0, 0), 20, 40), flat((0, 0, 255), 10, 10)], ["in", "out"], height=60)
    tiles = result[-60:]
    assert tiles.shape == (60, 120 + 6 + 60, 3)
    assert (tiles[:, :120] == (255, 0, 0)).all()
    assert (tiles[:, 126:] == (0, 0, 255)).all()
    titles = result[:-60]
    assert (titles[:, :120] < 128).any() and (titles[:, 126:] < 128).any(), "titles are drawn"


def test_panel_never_mixes_colors_when_enlarging_a_label_map():
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


def test_a_sheet_has_a_margin_and_rows_of_any_width():
    result = sheet([flat(10, 20, 30), flat(20, 10, 50)])
    assert result.shape == (6 + 20 + 10 + 6, 6 + 50 + 6, 3)
    assert (result[6:26, 6:36] == 10).all() and (result[6:26, 36:] == 255).all()
    assert (result[26:36, 6:56] == 20).all()


def test_a_heat_map_runs_from_blue_to_red_between_its_bounds():
    colors = heat_map(np.array([[-1.0, 2.0, 3.0, 4.0, 9.0]]), 2.0, 4.0)[0].astype(int)
    assert (colors[0] == colors[1]).all() and (colors[3] == colors[4]).all()
    assert colors[1, 2] > colors[1, 0] and colors[3, 0] > colors[3, 2]
    assert colors[2].argmax() == 1
    assert len(np.unique(heat_map(np.full((2, 2), 5.0), 5.0, 5.0).reshape(-1, 3), axis=0)) == 1


def test_boxes_and_masks_are_drawn_the_first_on_top():
    image = flat(100, 60, 80)
    red, blue = (255, 0, 0), (0, 0, 255)
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 30:50, 20:40] = True
    masks[1, 30:50, 20:60] = True
    boxes = [((20, 30, 40, 50), red, "car"), ((20, 30, 60, 50), blue, "")]
    drawn = draw_boxes(image, boxes, masks)
    assert (image == 100).all()
    assert tuple(drawn[49, 30]) == red and tuple(drawn[49, 50]) == blue, "an outline in its color"
    assert drawn[40, 30, 0] > 100 > drawn[40, 30, 2], "the mask of the first"
    assert drawn[40, 50, 2] > 100 > drawn[40, 50, 0]
    assert (drawn[:20] == 100).all() and (drawn[51:] == 100).all()
    assert (drawn[20:30] != draw_boxes(image, [(*boxes[0][:2], ""), boxes[1]], masks)[20:30]).any()
    assert (draw_boxes(image, [], masks[:0]) == image).all()


def test_class_colors_are_apart_and_always_the_same():
    assert len(set(class_colors(20))) == 20
    assert class_colors(30)[:20] == class_colors(20)


def test_evenly_spaced_holds_both_ends_and_nothing_twice():
    assert evenly_spaced(range(10), 4) == [0, 3, 6, 9]
    assert evenly_spaced("abc", 5) == ["a", "b", "c"]
    assert evenly_spaced("abc", 1) == ["a"]
    assert evenly_spaced("abc", 0) == evenly_spaced("", 3) == []


def test_arrays_and_sizes():
    image = torch.arange(24, dtype=torch.uint8).view(3, 2, 4)
    array = to_array(image)
    assert array.flags.c_contiguous and (array[1, 3] == [7, 15, 23]).all()
    assert resize_to_height(array, 6).shape == (6, 12, 3)
    assert resize_to_height(flat(0, 40, 1), 8).shape == (8, 1, 3)
