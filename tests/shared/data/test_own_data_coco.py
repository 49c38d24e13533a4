"""COCO JSON files as labeled detection data, and what is said about wrong ones."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from shared.data.coco import coco_detection
from shared.data.images import write_png
from shared.errors import MissingFileError, UserError

PAGE = (Path(__file__).parents[3] / "docs" / "own_data.md").read_text()


def message(error, call, *arguments, **keywords):
    with pytest.raises(error) as caught:
        call(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


COCO = {
    "images": [
        {"id": 7, "file_name": "b/2.png", "height": 6, "width": 8},
        {"id": 3, "file_name": "1.png", "height": 6, "width": 8},
    ],
    "categories": [{"id": 5, "name": "person"}, {"id": 2, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 2.5, 3, 2], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 8, 6], "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [4, 4, 0, 2]},
    ],
}


@pytest.fixture
def coco(tmp_path):
    for name in ("1.png", "b/2.png"):
        write_png(tmp_path / "images" / name, np.zeros((6, 8, 3), np.uint8))

    def read(**changes):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(COCO | changes))
        return coco_detection(path, tmp_path / "images")

    return read


def test_coco_boxes_categories_crowds_and_empty_images(coco, caplog):
    dataset = coco()
    assert (dataset.name, dataset.classes) == ("boxes", ("car", "person"))
    empty, full = dataset.records
    assert (empty.name, empty.annotations) == ("1", ())
    assert (full.name, full.height, full.width) == ("b/2", 6, 8)
    person, crowd = full.annotations
    assert (person.category, person.box, person.crowd) == ("person", (1.0, 2.5, 4.0, 4.5), False)
    assert (crowd.category, crowd.box, crowd.crowd) == ("car", (0.0, 0.0, 8.0, 6.0), True)
    assert "1 boxes without area left out" in caplog.text


def test_coco_sizes_may_be_left_to_the_files(coco):
    images = [{k: v for k, v in i.items() if k not in ("height", "width")} for i in COCO["images"]]
    assert coco(images=images) == coco()


def changed(key, index=0, **values):
    entries = [dict(entry) for entry in COCO[key]]
    entries[index] |= values
    return {key: entries}


def test_a_name_never_leads_out_of_the_folder_that_a_run_writes_to(coco, tmp_path):
    inside = str(tmp_path / "images/1.png")
    for name in (inside, "b/../1.png"):
        right = {"images": [{"id": 3, "file_name": name}], "annotations": []}
        assert [record.name for record in coco(**right).records] == ["1"]
    (tmp_path / "1.png").write_bytes((tmp_path / "images/1.png").read_bytes())
    for name in ("../1.png", str(tmp_path / "1.png")):
        wrong = {"images": [{"id": 3, "file_name": name}], "annotations": []}
        assert "leads out of the folder" in message(UserError, coco, **wrong)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (changed("images", file_name="gone.jpg"), "1 of its 2 images are not there, the first:"),
        (changed("images", 1, id=7), "stands twice in 'images'"),
        (changed("images", 1, file_name="b/2.jpg"), "differs only in its suffix"),
        (changed("images", id="7"), "'id' of an entry of 'images' is '7', expected a whole number"),
        (changed("images", height=0), "is 8x0 pixels"),
        ({"images": []}, "'images' is empty"),
        (changed("annotations", image_id=8), "1 image_ids of 'annotations' are not among"),
        (changed("annotations", category_id=9), "category_id 9 of an annotation of image 7"),
        (changed("annotations", bbox=[1, 2, 3]), "is [1, 2, 3], expected [x, y, width, height]"),
        (changed("annotations", bbox=[1, 2, 3, float("nan")]), "expected [x, y, width, height]"),
        (changed("categories", name="car"), "each with an id and name of its own"),
        (changed("categories", id=2), "each with an id and name of its own"),
        ({"categories": []}, "'categories' must be some"),
        ({"annotations": None}, "has no list of 'annotations': expected COCO's detection format"),
    ],
)
def test_a_wrong_coco_file_gets_one_line(changes, expected, coco):
    text = message(UserError, coco, **changes)
    assert expected in text and "boxes.json" in text


def test_coco_without_its_files(coco, tmp_path):
    coco()
    assert "no folder of images" in message(
        MissingFileError, coco_detection, tmp_path / "boxes.json", tmp_path / "gone"
    )
    assert "no file" in message(
        MissingFileError, coco_detection, tmp_path / "gone.json", tmp_path / "images"
    )


def test_the_pages_coco_example_runs(coco, tmp_path, monkeypatch, capsys):
    coco()
    (tmp_path / "traffic").mkdir()
    (tmp_path / "boxes.json").rename(tmp_path / "traffic/instances.json")
    (tmp_path / "images").rename(tmp_path / "traffic/images")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    exec(compile(example, "docs/own_data.md", "exec"), {})
    assert capsys.readouterr().out == "('car', 'person') 2 ()\n"
