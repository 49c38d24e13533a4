"""A record becomes a sample: sizes, boxes, masks, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from reading import CLASSES, HALF
from scenes import annotation

from det_adapt.data.samples import Augmentation, read_sample, resized_size
from shared.errors import MissingFileError, UserError

AS_IT_IS = Augmentation((0,), 2000)


HALF_FLIPPED = Augmentation((20,), 2000, flip=1.0)


def generator():
    return np.random.default_rng(0)


def read(record, augmentation=AS_IT_IS, classes=CLASSES, **options):
    return read_sample(record, classes, augmentation, generator(), **options)


@pytest.mark.parametrize(
    ("size", "rule", "expected"),
    [
        ((1024, 2048), (600, 2000), (600, 1200)),
        ((375, 1242), (600, 2000), (600, 1987)),
        ((375, 1242), (600, 1333), (402, 1333)),  # 375 · 1333 / 1242 = 402.47…
        ((1242, 375), (600, 1333), (1333, 402)),
        ((3, 5), (2, 100), (2, 3)),  # 3.33…
        ((2, 5), (1, 100), (1, 3)),  # 2.5 rounds up
        ((300, 300), (600, 2000), (600, 600)),
        ((300, 400), (0, 100), (300, 400)),
    ],
)
def test_sizes_by_hand(size, rule, expected):
    assert resized_size(*size, *rule) == expected


@pytest.mark.detectron2
def test_sizes_are_detectron2s():
    from detectron2.data.transforms import ResizeShortestEdge

    random = np.random.default_rng(0)
    for height, width in random.integers(2, 2100, (3000, 2)).tolist():
        short, largest = random.choice([256, 600, 801]).item(), random.choice([600, 1333]).item()
        theirs = ResizeShortestEdge.get_output_shape(height, width, short, largest)
        assert resized_size(height, width, short, largest) == theirs


def test_image_is_pillows_bilinear_resize_then_flipped(make_record):
    record = make_record()
    expected = np.asarray(Image.open(record.image).resize((30, 20), Image.BILINEAR))
    for augmentation, pixels in ((HALF, expected), (HALF_FLIPPED, expected[:, ::-1])):
        sample = read(record, augmentation)
        assert sample.image.dtype == torch.uint8
        np.testing.assert_array_equal(sample.image.permute(1, 2, 0).numpy(), pixels)
    assert (sample.name, sample.height, sample.width) == ("a", 40, 60)


def test_sizes_and_flips_are_drawn(make_record):
    drawn = {
        (side, flipped)
        for seed in range(60)
        for side, _, flipped in [
            Augmentation((10, 12), 99, flip=0.5, is_range=True).draw(
                40, 60, np.random.default_rng(seed)
            )
        ]
    }
    assert drawn == {(side, flipped) for side in (10, 11, 12) for flipped in (True, False)}
    choice = {
        Augmentation((10, 12), 99).draw(40, 60, np.random.default_rng(seed))[0]
        for seed in range(20)
    }
    assert choice == {10, 12}


def test_boxes_follow_the_image(make_record):
    record = make_record(annotations=[annotation("person", (6, 10, 30, 21))])
    sample = read(record, HALF)
    assert sample.boxes.tolist() == [[3, 5, 15, 10.5]]
    assert sample.boxes.dtype == torch.float32
    assert sample.classes.tolist() == [1]
    assert read(record, HALF_FLIPPED).boxes.tolist() == [[15, 5, 27, 10.5]]


def test_boxes_with_a_side_below_the_smallest_are_left_out(make_record):
    """In pixels of the file, however the image is resized."""
    boxes = [(0, 0, 5, 5), (0, 0, 30, 4.5), (10, 10, 14, 40), (3, 3, 9, 9)]
    record = make_record("a", [annotation(box=box) for box in boxes])
    assert len(read(record, HALF).boxes) == 4
    found = read(record, HALF, min_size=5.0).boxes
    assert found.tolist() == [[0, 0, 2.5, 2.5], [1.5, 1.5, 4.5, 4.5]]


def test_boxes_are_clipped_and_crowds_and_difficult_ones_left_out(make_record):
    record = make_record(
        annotations=[
            annotation("car", (-5, 30, 10, 99)),
            annotation("car", crowd=True),
            annotation("person", difficult=True),
            annotation("person", (50, 10, 70, 20)),
        ]
    )
    sample = read(record)
    assert sample.boxes.tolist() == [[0, 30, 10, 40], [50, 10, 60, 20]]
    assert sample.classes.tolist() == [0, 1]


def test_an_image_without_boxes_has_empty_ones(make_record):
    sample = read(make_record(ids=np.zeros((40, 60))), masks=True)
    assert sample.boxes.shape == (0, 4)
    assert sample.classes.shape == (0,)
    assert sample.masks.shape == (0, 40, 60)


def test_masks_follow_the_image(make_record):
    ids = np.zeros((40, 60))
    ids[10:20, 6:30], ids[30:34, 40:50], ids[5, 5] = 26001, 24001, 26002
    record = make_record(
        ids=ids,
        annotations=[
            annotation("car", (6, 10, 30, 20), instance=26001),
            annotation("person", (40, 30, 50, 34), instance=24001),
            annotation("car", (4, 4, 6, 6), instance=26002),
        ],
    )
    whole = read(record, masks=True)
    for mask, number in zip(whole.masks, (26001, 24001, 26002), strict=True):
        np.testing.assert_array_equal(mask.numpy(), ids == number)
    # At a quarter, pixel (r, c) shows (4r + 2, 4c + 2): the single pixel vanishes with its box.
    small = read(record, Augmentation((10,), 99, flip=1.0), masks=True)
    assert small.classes.tolist() == [0, 1]
    expected = (ids[2::4, 2::4][:, ::-1] == 26001).copy()
    np.testing.assert_array_equal(small.masks[0].numpy(), expected)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 20), "has no area"),
        ((30, 10, 10, 20), "has no area"),
        ((60, 10, 70, 20), "outside its 60x40 pixels"),
        ((1, -9, 5, 0), "outside its 60x40 pixels"),
        ((float("nan"), 1, 5, 5), "has no area"),
    ],
)
def test_wrong_boxes_are_named(make_record, box, message):
    with pytest.raises(UserError, match=message) as error:
        read(make_record(annotations=[annotation("car", box)]))
    assert "\n" not in str(error.value)


def test_an_unknown_class_is_named(make_record):
    with pytest.raises(UserError, match=r"has a 'persn', .* did you mean 'person'"):
        read(make_record(annotations=[annotation("persn")]))


def test_a_missing_image_is_named(make_record):
    record = make_record()
    record.image.unlink()
    with pytest.raises(MissingFileError, match=r"no file .*a\.png"):
        read(record)


def test_an_image_of_another_size_than_its_annotations_is_refused(make_record):
    with pytest.raises(UserError, match="60x40, but its annotations are of 60x41"):
        read(replace(make_record(), height=41))


def test_masks_that_are_not_there_are_asked_for(make_record):
    with pytest.raises(UserError, match=r"MODEL\.MASK_ON"):
        read(make_record(annotations=[annotation()]), masks=True)
