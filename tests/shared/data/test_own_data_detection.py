"""Detection data by name, folder or description."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from shared.data.images import write_png
from shared.data.own import resolve_detection
from shared.errors import MissingFileError, UserError

PAGE = (Path(__file__).parents[3] / "docs" / "own_data.md").read_text()
COCO = {
    "images": [{"id": 1, "file_name": "a/1.png", "height": 6, "width": 8}],
    "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 2]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [2, 0, 3, 4]},
    ],
}


@pytest.fixture
def traffic(tmp_path, monkeypatch):
    """The page's own example, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_png(Path("traffic/images/a/1.png"), np.zeros((6, 8, 3), np.uint8))
    Path("traffic/instances.json").write_text(json.dumps(COCO))
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    (example,) = (block for block in blocks if "traffic/traffic.yaml" in block)
    Path("traffic/traffic.yaml").write_text(example)
    return tmp_path


def test_the_pages_description_is_a_labeled_source(traffic):
    dataset = resolve_detection("traffic/traffic.yaml", traffic, labeled=True)
    assert (dataset.name, dataset.classes) == ("traffic", ("car", "person"))
    (record,) = dataset.records
    assert record.image == Path("traffic/images/a/1.png")
    assert [a.box for a in record.annotations] == [(1.0, 1.0, 4.0, 3.0), (2.0, 0.0, 5.0, 4.0)]


def test_classes_are_chosen(traffic):
    dataset = resolve_detection("traffic/traffic.yaml", traffic, labeled=True, classes=["person"])
    assert dataset.classes == ("person",)
    assert [a.category for a in dataset.records[0].annotations] == ["person"]
    with pytest.raises(UserError, match="has no class 'persn': did you mean 'person'"):
        resolve_detection("traffic/traffic.yaml", traffic, labeled=True, classes=["persn"])


@pytest.mark.parametrize("name", ["traffic/images", "traffic/traffic.yaml"])
def test_as_a_target_no_annotation_is_read(traffic, name):
    Path("traffic/instances.json").write_text("poison")
    (record,) = resolve_detection(name, traffic).records
    assert (record.name, record.height, record.width) == ("a/1", 6, 8)
    assert record.annotations is None


def test_a_name_of_the_catalog(toy_root):
    dataset = resolve_detection("toy_cityscapes_det_val", toy_root, labeled=True)
    assert len(dataset.records) == 3 and dataset.records[0].annotations


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("traffic/images", None, UserError, "needs labels"),
        ("gone/folder", None, MissingFileError, "no folder of images"),
        ("sim10", None, UserError, "did you mean 'sim10k'"),
        ("x.yaml", "images: images/", UserError, "has no 'coco'"),
        ("x.yaml", "coco: a.json", UserError, "has no 'images'"),
        ("x.yaml", "images: 3\ncoco: a.json", UserError, "'images' is 3, expected text"),
        ("x.yaml", "image: images/", UserError, "did you mean 'images'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(traffic, name, content, error, text):
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(error) as caught:
        resolve_detection(name, traffic, labeled=True)
    assert text in str(caught.value) and "\n" not in str(caught.value)
