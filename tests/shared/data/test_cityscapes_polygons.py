"""Cityscapes' boxes around the drawn outlines, as converters make them."""

import json

import numpy as np
import pytest
from PIL import Image

from shared.data.catalog import load_detection
from shared.data.records import Annotation
from shared.errors import UserError
from shared.toy.layouts import make_toy

NAME = "aachen_000000_000019"


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
    data = load_detection("cityscapes_det_train_polygons", tmp_path, labelled=True)
    [record] = data.records
    assert record.annotations == (
        Annotation("car", (10, 2, 30, 8)),
        Annotation("bicycle", (0, 5, 5, 20), crowd=True),
        Annotation("rider", (38, 0, 40, 5)),
    )
    assert record.instances is None and (record.height, record.width) == (20, 40)
    only = load_detection(
        "cityscapes_det_train_polygons", tmp_path, labelled=True, classes=["rider"]
    )
    assert [a.category for a in only.records[0].annotations] == ["rider"]


def test_nothing_drawn_and_no_annotations_asked_for(outlines, tmp_path):
    outlines()
    name = "cityscapes_det_train_polygons"
    assert load_detection(name, tmp_path, labelled=True).records[0].annotations == ()
    assert load_detection(name, tmp_path).records[0].annotations is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"objects": []}', '{"imgHeight": 1, "imgWidth": 1, "objects": [1]}']
)
def test_another_json_is_named(outlines, tmp_path, text):
    outlines().write_text(text)
    with pytest.raises(UserError, match=r"polygons\.json is no outline file of Cityscapes"):
        load_detection("cityscapes_det_train_polygons", tmp_path, labelled=True)


def test_an_empty_outline_is_named(outlines, tmp_path):
    outlines(drawn("car"))
    with pytest.raises(UserError, match="is no outline file"):
        load_detection("cityscapes_det_train_polygons", tmp_path, labelled=True)


@pytest.mark.parametrize("name", ["toy_cityscapes_det_val", "toy_foggy_cityscapes_val"])
def test_an_outline_spans_what_is_seen_of_its_thing(name, tmp_path):
    size = {"height": 96, "width": 192}
    layouts = ["cityscapes", "cityscapes_foggy"]
    make_toy(tmp_path, layouts, count=1, val_count=6, workers=1, progress=False, **size)
    seen = load_detection(name, tmp_path, labelled=True)
    spanned = load_detection(f"{name}_polygons", tmp_path, labelled=True)
    assert seen.official_root is not None and spanned.official_root is None
    larger = 0
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
