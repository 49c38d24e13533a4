"""Our data sets in Detectron2's catalogs."""

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="needs Detectron2")

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances
from pycocotools import mask as rle

import det_adapt
from det_adapt.detectron2_engine import to_dicts
from det_adapt.detectron2_engine.catalog import register_all
from det_adapt.engines import build_trainer
from shared.config import CONFIGS
from shared.data.catalog import DETECTION, load_detection
from shared.data.cityscapes import CITYSCAPES_THINGS, read_instance_ids

pytestmark = pytest.mark.detectron2


@pytest.fixture
def catalogs():
    """Detectron2's as the import leaves them."""
    for name in DETECTION:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)
    register_all()


def test_every_data_set_is_known_by_name(toy_root, monkeypatch, catalogs):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(toy_root))
    assert set(DETECTION) <= set(DatasetCatalog.list())
    name = "toy_cityscapes_det_train"
    expected = load_detection(name, toy_root, labeled=True)
    found = DatasetCatalog.get(name)
    assert MetadataCatalog.get(name).thing_classes == list(expected.classes)
    assert [entry["image_id"] for entry in found] == [record.name for record in expected.records]
    pairs = [
        (thing, annotation)
        for entry, record in zip(found, expected.records, strict=True)
        for thing, annotation in zip(entry["annotations"], record.annotations, strict=True)
    ]
    assert pairs
    for thing, annotation in pairs:
        assert thing["bbox"] == list(annotation.box)
        assert expected.classes[thing["category_id"]] == annotation.category
        assert thing["iscrowd"] == int(annotation.crowd)
    # Detectron2's own reading accepts them, and finds nothing to train on in crowds.
    usable = [e for e in found if any(not thing["iscrowd"] for thing in e["annotations"])]
    assert len(get_detection_dataset_dicts(name, filter_empty=True)) == len(usable)


def test_a_data_set_without_annotations_has_none_in_detectron2_either(toy_root):
    entries = to_dicts(load_detection("toy_cityscapes_det_train", toy_root))
    assert entries and all("annotations" not in entry for entry in entries)


def config(experiment, *overrides):
    cfg = get_cfg()
    det_adapt.add_sap_config(cfg)
    cfg.merge_from_file(str(CONFIGS / f"{experiment}.yaml"))
    cfg.merge_from_list(list(overrides))
    return cfg


def test_classes_are_those_of_the_run_before_any_data_is_there(catalogs):
    det_adapt.register_datasets(config("sapnet_sim10k", "DATASETS.ROOT", "nowhere"))
    for name in ("sim10k", "cityscapes_det_val"):
        metadata = MetadataCatalog.get(name)
        assert metadata.thing_classes == ["car"] and metadata.evaluator_type == "coco"


def test_the_model_that_is_built_last_has_its_classes_in_the_catalogs(toy_root, catalogs):
    name = "toy_cityscapes_det_val"
    root = ("DATASETS.ROOT", str(toy_root), "DATASETS.TEST", (name,))
    cars = config("source_toy", *root)
    cars.MODEL.DEVICE = "cpu"
    build_trainer("detectron2", cars)
    metadata = MetadataCatalog.get(name)
    metadata.thing_colors = [(0, 0, 0)]
    assert {t["category_id"] for e in DatasetCatalog.get(name) for t in e["annotations"]} == {0}
    det_adapt.register_datasets(cars)  # nothing new: what somebody else added stays
    assert MetadataCatalog.get(name) is metadata
    eight = config("source_toy_foggy", *root)
    det_adapt.register_datasets(eight)
    assert MetadataCatalog.get(name).thing_classes == list(CITYSCAPES_THINGS)
    assert metadata.thing_classes == ["car"]
    # Without a list, a test set has the classes of the source.
    eight.DATASETS.CLASSES, eight.DATASETS.TRAIN = [], ("toy_kitti_train",)
    det_adapt.register_datasets(eight)
    assert MetadataCatalog.get(name).get("thing_classes") is None


def test_masks_are_those_of_the_instance_files(toy_root, catalogs):
    name = "toy_cityscapes_det_train"
    det_adapt.register_datasets(config("source_toy_foggy", "DATASETS.ROOT", str(toy_root)))
    records = load_detection(name, toy_root, labeled=True).records
    things = 0
    for entry, record in zip(DatasetCatalog.get(name), records, strict=True):
        ids = read_instance_ids(record.instances)
        for thing, annotation in zip(entry["annotations"], record.annotations, strict=True):
            assert np.array_equal(rle.decode(thing["segmentation"]), ids == annotation.instance)
            things += 1
    assert things
    det_adapt.register_datasets(
        config("source_toy_foggy", "DATASETS.ROOT", str(toy_root), "MODEL.MASK_ON", False)
    )
    [first, *_] = DatasetCatalog.get(name)
    assert all("segmentation" not in thing for thing in first["annotations"])


def test_perfect_detections_score_all_points(toy_root, tmp_path, catalogs):
    name = "toy_cityscapes_det_val"
    more = ("DATASETS.ROOT", str(toy_root), "DATASETS.TEST", (name,))
    det_adapt.register_datasets(config("source_toy_foggy", *more))
    evaluator = COCOEvaluator(name, output_dir=str(tmp_path))
    evaluator.reset()
    for entry in DatasetCatalog.get(name):
        truth = annotations_to_instances(
            entry["annotations"], (entry["height"], entry["width"]), "bitmask"
        )
        found = Instances(
            truth.image_size, pred_boxes=truth.gt_boxes, scores=torch.ones(len(truth))
        )
        found.pred_classes = truth.gt_classes
        found.pred_masks = truth.gt_masks.tensor
        evaluator.process([entry], [{"instances": found}])
    scores = evaluator.evaluate()
    assert scores["bbox"]["AP"] == scores["segm"]["AP"] == pytest.approx(100)


def test_names_of_others_are_left_alone_and_own_data_are_known_by_their_path(tmp_path, catalogs):
    DatasetCatalog.register("theirs", list)
    (tmp_path / "mine.yaml").write_text("images: images\ncoco: mine.json\n")
    mine = str(tmp_path / "mine.yaml")
    cfg = config("source_toy", "DATASETS.TRAIN", ("theirs", mine), "DATASETS.TEST", ("unknown",))
    try:
        det_adapt.register_datasets(cfg)
        assert DatasetCatalog.get("theirs") == []
        assert MetadataCatalog.get(mine).thing_classes == ["car"]
        assert "unknown" not in DatasetCatalog
    finally:
        for name in ("theirs", mine):
            DatasetCatalog.pop(name, None)
            MetadataCatalog.pop(name, None)
