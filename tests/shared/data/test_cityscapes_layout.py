"""Cityscapes' boxes: visible pixels, or outlines as converters draw them; and its foggy frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.data.catalog import load_detection
from shared.data.records import Annotation
from shared.errors import UserError

NAME = "aachen_000000_000019"


def city_frame(root: Path, ids: np.ndarray, name: str = NAME) -> Path:
    image = root / f"cityscapes/leftImg8bit/train/aachen/{name}_leftImg8bit.png"
    truth = root / f"cityscapes/gtFine/train/aachen/{name}_gtFine_instanceIds.png"
    for path, array in ((image, np.zeros((*ids.shape, 3), np.uint8)), (truth, ids)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return truth


def test_cityscapes_extents_are_visible_pixels_and_groups_are_crowds(tmp_path):
    ids = np.full((20, 40), 7, np.uint16)
    ids[5:10, 0:3] = 26  # two groups of cars share one value
    ids[5:10, 38:] = 26
    ids[2:8, 10:30] = 26001
    ids[0:20, 20:22] = 17  # a pole parts the car
    ids[12, 13] = 33065
    ids[15:18, 5:9] = 29000  # caravan: no class of the eight
    ids[0, 0] = 24
    truth = city_frame(tmp_path, ids)
    city_frame(tmp_path, np.zeros((20, 40), np.uint16), "aachen_000001_000019")
    first, empty = load_detection("cityscapes_det_train", tmp_path, labeled=True).records
    assert first.annotations == (
        Annotation("person", (0, 0, 1, 1), crowd=True, instance=24),
        Annotation("car", (0, 5, 40, 10), crowd=True, instance=26),
        Annotation("car", (10, 2, 30, 8), instance=26001),
        Annotation("bicycle", (13, 12, 14, 13), instance=33065),
    )
    assert first.instances == truth and empty.annotations == ()
    only = load_detection("cityscapes_det_train", tmp_path, labeled=True, classes=("bicycle",))
    assert [a.instance for a in only.records[0].annotations] == [33065]
    Image.fromarray(ids.astype(np.uint8)).save(truth)
    with pytest.raises(UserError, match=r"holds no instance ids: got an image of mode L"):
        load_detection("cityscapes_det_train", tmp_path, labeled=True)


def test_foggy_frames_and_their_betas(tmp_path):
    truth = city_frame(tmp_path, np.full((4, 6), 26003, np.uint16))
    folder = tmp_path / "cityscapes/leftImg8bit_foggy/train/aachen"
    folder.mkdir(parents=True)
    (folder / f"{NAME}_leftImg8bit_foggy_beta_0.01.png").touch()
    (record,) = load_detection("foggy_cityscapes_train_beta_0.01", tmp_path, labeled=True).records
    assert (record.name, record.instances) == (f"{NAME}_foggy_beta_0.01", truth)
    assert record.annotations == (Annotation("car", (0, 0, 6, 4), instance=26003),)
    for missing in ("foggy_cityscapes_train", "foggy_cityscapes_train_beta_all"):
        with pytest.raises(UserError, match=r"no picture of β 0\.0\S* in .*, but of β 0\.01"):
            load_detection(missing, tmp_path, labeled=True)
    (folder / f"{NAME}_leftImg8bit_foggy_beta_0.02.png").touch()
    (folder / "aachen_000001_000019_leftImg8bit_foggy_beta_0.01.png").touch()
    with pytest.raises(UserError, match=r"aachen_000001_000019\S* has no twin of β 0\.02"):
        load_detection("foggy_cityscapes_train", tmp_path, labeled=True)
    (folder / f"{NAME}_leftImg8bit_foggy.png").touch()
    with pytest.raises(UserError, match="has no β in its name"):
        load_detection("foggy_cityscapes_train", tmp_path)
    for path in folder.glob("*_beta_*"):
        path.unlink()
    with pytest.raises(UserError, match="has no β in its name"):
        load_detection("foggy_cityscapes_train", tmp_path)


@pytest.fixture
def outlines(tmp_path):
    """Writes one frame of 40x20 pixels with the given objects; returns the JSON's path."""
    image = tmp_path / f"cityscapes/leftImg8bit/train/aachen/{NAME}_leftImg8bit.png"
    path = tmp_path / f"cityscapes/gtFine/train/aachen/{NAME}_gtFine_polygons.json"
    for file in (image, path):
        file.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(image)

    def write(*objects):
        drawn = {"imgHeight": 20, "imgWidth": 40, "objects": list(objects)}
        path.write_text(json.dumps(drawn))
        return path

    return write


def drawn(label, *polygon, **more):
    return {"label": label, "polygon": list(map(list, polygon)), **more}


def test_boxes_are_extents_of_outlines_and_groups_are_crowds(outlines, tmp_path):
    outlines(
        drawn("road", (0, 10), (39, 10), (39, 19)),
        drawn("car", (10, 2), (29, 2), (15, 7)),
        drawn("bicyclegroup", (-3, 5), (4, 9), (2, 30)),
        drawn("caravan", (5, 5), (9, 9), (5, 9)),
        drawn("person", (1, 1), (3, 3), (1, 3), deleted=1),
        drawn("rider", (38, 0), (40, 4), (38, 4)),
    )
    data = load_detection("cityscapes_det_train_polygons", tmp_path, labeled=True)
    [record] = data.records
    assert record.annotations == (
        Annotation("car", (10, 2, 30, 8)),
        Annotation("bicycle", (0, 5, 5, 20), crowd=True),
        Annotation("rider", (38, 0, 40, 5)),
    )
    assert record.instances is None and (record.height, record.width) == (20, 40)
    only = load_detection(
        "cityscapes_det_train_polygons", tmp_path, labeled=True, classes=["rider"]
    )
    assert [a.category for a in only.records[0].annotations] == ["rider"]


def test_nothing_drawn_and_no_annotations_asked_for(outlines, tmp_path):
    outlines()
    name = "cityscapes_det_train_polygons"
    assert load_detection(name, tmp_path, labeled=True).records[0].annotations == ()
    assert load_detection(name, tmp_path).records[0].annotations is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"objects": []}', '{"imgHeight": 1, "imgWidth": 1, "objects": [1]}']
)
def test_another_json_is_named(outlines, tmp_path, text):
    outlines().write_text(text)
    with pytest.raises(UserError, match=r"polygons\.json is no outline file of Cityscapes"):
        load_detection("cityscapes_det_train_polygons", tmp_path, labeled=True)


def test_an_empty_outline_is_named(outlines, tmp_path):
    outlines(drawn("car"))
    with pytest.raises(UserError, match="is no outline file"):
        load_detection("cityscapes_det_train_polygons", tmp_path, labeled=True)


@pytest.mark.parametrize("name", ["toy_cityscapes_det", "toy_foggy_cityscapes"])
def test_an_outline_spans_what_is_seen_of_its_object(name, all_toys):
    larger = 0
    for split in ("train", "val"):
        seen = load_detection(f"{name}_{split}", all_toys, labeled=True)
        spanned = load_detection(f"{name}_{split}_polygons", all_toys, labeled=True)
        assert (seen.official_root is not None) == (split == "val")
        assert spanned.official_root is None
        for visible, outlined in zip(seen.records, spanned.records, strict=True):
            assert (visible.name, visible.image) == (outlined.name, outlined.image)
            for annotation in visible.annotations:
                if annotation.crowd:
                    continue
                x1, y1, x2, y2 = annotation.box
                around = [
                    a.box
                    for a in outlined.annotations
                    if a.category == annotation.category
                    and a.box[0] <= x1 + 1
                    and a.box[1] <= y1 + 1
                    and a.box[2] >= x2 - 1
                    and a.box[3] >= y2 - 1
                ]
                assert around, annotation
                larger += annotation.box not in around
    assert larger  # something hides behind something
