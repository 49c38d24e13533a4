import json
from dataclasses import replace

import pytest
import torch
from reading import CLASSES, HALF
from scenes import annotation

from det_adapt.config import defaults
from det_adapt.data.build import TrainLoader, source_dataset, target_dataset
from det_adapt.data.loaders import SlotDataset, samples_in_order
from det_adapt.data.samples import Augmentation
from shared.config import changed, load_config
from shared.data.images import read_image
from shared.data.records import DetectionDataset
from shared.domain_losses import Domain
from shared.errors import MissingFileError, UserError
from shared.toy.layouts import make_toy


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
