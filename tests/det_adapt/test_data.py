import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import annotation

from det_adapt.config import defaults
from det_adapt.data.build import TrainLoader, source_dataset, target_dataset
from det_adapt.data.loaders import SlotDataset, samples_in_order
from det_adapt.data.samples import Augmentation, read_sample, resized_size
from shared.config import changed, load_config
from shared.data.images import read_image
from shared.data.records import DetectionDataset
from shared.domain_losses import Domain
from shared.errors import MissingFileError, UserError
from shared.toy.layouts import make_toy

CLASSES = ("car", "person")
AS_IT_IS = Augmentation((0,), 2000)
HALF = Augmentation((20,), 2000)
HALF_FLIPPED = Augmentation((20,), 2000, flip=1.0)


def generator():
    return np.random.default_rng(0)


def read(record, augmentation=AS_IT_IS, classes=CLASSES, **options):
    return read_sample(record, classes, augmentation, generator(), **options)


# --- size and image ------------------------------------------------------------------------------


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


# --- boxes and masks -----------------------------------------------------------------------------


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


# --- bad input -----------------------------------------------------------------------------------


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


# --- slots ---------------------------------------------------------------------------------------


@pytest.fixture
def records(make_record):
    return tuple(make_record(name, [annotation("car", (5, 5, 25, 25))]) for name in "abcde")


def slots(records, domain=Domain.SOURCE, seed=3, **options):
    dataset = DetectionDataset("made up", records, CLASSES)
    augmentation = Augmentation((20, 40), 99, flip=0.5)
    return SlotDataset(dataset, augmentation, domain=domain, seed=seed, **options)


def test_a_slot_is_always_the_same(records):
    for slot in (0, 7, 23):
        first, second = slots(records).load(slot), slots(records).load(slot)
        assert torch.equal(first.image, second.image)
        assert torch.equal(first.boxes, second.boxes)


def test_a_target_sample_knows_no_annotation(records):
    poisoned = tuple(replace(r, annotations="poison", instances="poison") for r in records)
    target = slots(poisoned, Domain.TARGET, masks=True)
    assert all(r.annotations is None and r.instances is None for r in target.dataset.records)
    sample = target.load(0)
    assert (sample.boxes, sample.classes, sample.masks) == (None, None, None)
    clean = slots(records, Domain.TARGET).load(0)
    assert torch.equal(sample.image, clean.image)


def test_only_the_sources_empty_images_are_left_out(records, make_record):
    some = (*records, make_record("empty"), make_record("crowd", [annotation(crowd=True)]))
    assert len(slots(some)) == 5
    assert len(slots(some, filter_empty=False)) == 7
    small = make_record("small", [annotation(box=(0, 0, 30, 4))])
    assert len(slots((*records, small))) == 6
    assert len(slots((*records, small), min_size=5)) == 5
    assert len(slots(some, Domain.TARGET)) == 7


def test_data_without_images_or_boxes_is_refused(records, make_record):
    with pytest.raises(UserError, match="'made up' has no images"):
        slots((), Domain.TARGET)
    with pytest.raises(UserError, match="none of its 1 images has a box"):
        slots((make_record("empty"),))
    with pytest.raises(UserError, match="no annotations for a"):
        slots((make_record("a", None),))


@pytest.mark.parametrize("workers", [0, 1])
def test_inference_sees_every_image_once_and_no_annotation(records, workers):
    poisoned = tuple(replace(r, annotations="poison", instances="poison") for r in records)
    dataset = DetectionDataset("made up", poisoned, CLASSES)
    samples = list(samples_in_order(dataset, HALF, workers=workers))
    assert [s.name for s in samples] == list("abcde")
    assert all(s.image.shape == (3, 20, 30) and s.boxes is None for s in samples)
    parts = [
        [s.name for s in samples_in_order(dataset, HALF, rank=r, world_size=2)] for r in (0, 1)
    ]
    assert parts == [["a", "c", "e"], ["b", "d"]]
    records[1].image.unlink()
    with pytest.raises(MissingFileError, match=r"no file .*b\.png"):
        list(samples_in_order(dataset, HALF, workers=workers))


# --- from a config -------------------------------------------------------------------------------


@pytest.fixture
def described(tmp_path, make_record):
    """A source as a description with COCO boxes, a target as a folder; settings naming both."""
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        make_record(f"images/{name}")
    boxes = [
        {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [1, 1, 9, 9]} for i in (1, 2)
    ]
    coco = {
        "images": [{"id": i, "file_name": f"{n}.png"} for i, n in ((1, "a"), (2, "b"))],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}],
        "annotations": boxes,
    }
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    source = tmp_path / "source.yaml"
    source.write_text("name: mine\nimages: images\ncoco: boxes.json\n")

    def config(*overrides):
        given = [
            *("DATASETS.TRAIN", f"('{source}',)", "DATASETS.TARGET", f"('{tmp_path}/images',)"),
            *("SAP.ENABLED", "True", "MODEL.META_ARCHITECTURE", "SAPRCNN"),
            *("MODEL.ROI_HEADS.NUM_CLASSES", "2", "DATALOADER.NUM_WORKERS", "0"),
            *("SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "2", "SEED", "1"),
        ]
        return load_config(defaults(), None, [*given, *overrides])

    return config


def test_a_config_names_source_and_target(described):
    pairs = list(TrainLoader(described("INPUT.MIN_SIZE_TRAIN", "(20,)")))
    assert len(pairs) == 2
    for (source,), (target,) in pairs:
        assert source.image.shape == target.image.shape == (3, 20, 30)
        assert source.boxes.shape == (1, 4)
        assert target.boxes is None


def test_a_target_may_have_other_classes_and_home_is_expanded(described, tmp_path, monkeypatch):
    size = {"height": 64, "width": 128}
    make_toy(tmp_path, ["cityscapes"], count=2, val_count=1, **size, workers=1, progress=False)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    cfg = described(
        *("DATASETS.TARGET", "[toy_cityscapes_det_train]", "DATASETS.CLASSES", "[car]"),
        *("DATASETS.ROOT", f"~/{tmp_path.name}", "MODEL.ROI_HEADS.NUM_CLASSES", "1"),
    )
    assert next(iter(TrainLoader(cfg)))[1][0].boxes is None
    cfg = changed(cfg, "DATASETS.CLASSES", [])
    assert next(iter(TrainLoader(changed(cfg, "MODEL.ROI_HEADS.NUM_CLASSES", 2))))
    own = json.loads((tmp_path / "boxes.json").read_text())
    own["categories"][0]["name"] = "tram"
    (tmp_path / "boxes.json").write_text(json.dumps(own))
    cfg = changed(cfg, "DATASETS.CLASSES", ["tram"])
    assert next(iter(TrainLoader(changed(cfg, "MODEL.ROI_HEADS.NUM_CLASSES", 1))))


def test_the_source_alone_opens_no_target(described):
    cfg = described("SAP.ENABLED", "False", "DATASETS.TARGET", "('nowhere/at/all',)")
    assert [target for _, target in TrainLoader(cfg)] == [None, None]


def test_classes_are_restricted_and_data_sets_joined(described):
    cfg = described("DATASETS.CLASSES", "[person]")
    dataset = source_dataset(cfg)
    assert dataset.classes == ("person",)
    twice = described("DATASETS.TRAIN", str(tuple(cfg.DATASETS.TRAIN) * 2))
    assert len(source_dataset(twice).records) == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["DATASETS.TARGET", "()"],
            "DATASETS.TARGET is empty.*SAP.ENABLED and DA_FASTER.ENABLED False",
        ),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty"),
        (["DATASETS.TARGET", "('sim10',)"], "did you mean 'sim10k"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", "8"], r"has 2 classes \(car, person\): set it to 2"),
    ],
)
def test_unusable_data_sets_are_named(described, overrides, message):
    with pytest.raises(UserError, match=message):
        TrainLoader(described(*overrides))


def test_an_empty_target_folder_is_named(described, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing"):
        target_dataset(described("DATASETS.TARGET", f"('{tmp_path}/nothing',)"))


def test_the_source_images_are_read_as_they_are(described, tmp_path):
    cfg = described("INPUT.MIN_SIZE_TRAIN", "(0,)", "INPUT.RANDOM_FLIP", "none")
    for (source,), _ in TrainLoader(cfg):
        assert torch.equal(source.image, read_image(tmp_path / "images" / f"{source.name}.png"))
