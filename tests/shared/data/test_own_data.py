"""Folders and descriptions of a user's own, and what is said about wrong ones."""

import json
import pickle
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from shared.data.catalog import load_segmentation
from shared.data.description import SegmentationDescription
from shared.data.images import read_labels, remap, write_png
from shared.data.label_maps import CITYSCAPES_19, IGNORE, label_space, lookup_table
from shared.data.own import distinct_colors, resolve_label_space, resolve_segmentation
from shared.errors import MissingFileError, UserError

PAGE = (Path(__file__).parents[3] / "docs" / "own_data.md").read_text()
CITY = label_space("cityscapes19")
ROOT = Path("no_data_root")


def picture(path, seed=0, height=6, width=8):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def label(path, ids, height=6, width=8):
    values = np.resize(np.array(ids, np.uint8), (height, width))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, values)
    return values


def describe(folder, **keys):
    path = folder / "set.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(keys))
    return str(path)


@pytest.fixture
def city(tmp_path):
    """Two labeled images and one without a label; writes a description of them."""
    for i, name in enumerate(["north/1", "north/2", "south/1"]):
        picture(tmp_path / "frames" / f"{name}.jpg", i)
    for name in ("north/1", "south/1"):
        label(tmp_path / "annotations" / f"{name}_label.png", [0, 1, 2, 9, 255])

    def write(**changes):
        keys = {
            "name": "my_city",
            "images": "frames",
            "labels": "annotations",
            "label_suffix": "_label.png",
            "ids": {0: "road", 1: "sidewalk", 2: "car"},
        } | changes
        return describe(tmp_path, **{k: v for k, v in keys.items() if v is not None})

    return write


def resolve(name, **arguments):
    return resolve_segmentation(str(name), ROOT, **arguments)


def message(error, call, *arguments, **keywords):
    with pytest.raises(error) as caught:
        call(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_registered_name_is_the_catalogs(toy_root):
    for name in ("toy_gta5", "toy_cityscapes_val"):
        ours = resolve_segmentation(name, toy_root, space=CITY, labeled=True)
        assert ours == load_segmentation(name, toy_root)
    assert resolve_label_space("cityscapes16") is label_space("cityscapes16")


def test_a_folder_is_an_unlabeled_target(tmp_path, monkeypatch):
    picture(tmp_path / "frames/a/1.png")
    picture(tmp_path / "frames/2.JPG")
    for name in ("notes.txt", "._2.JPG", ".hidden/3.png"):
        (tmp_path / "frames" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "frames" / name).write_text("no image")
    dataset = resolve(tmp_path / "frames")
    assert (dataset.name, [r.name for r in dataset.records]) == ("frames", ["2", "a/1"])
    assert all(r.label is None for r in dataset.records)
    assert (lookup_table(dataset.id_table, CITY) == IGNORE).all()
    monkeypatch.chdir(tmp_path / "frames")
    assert resolve(".").name == "frames"
    text = message(UserError, resolve, tmp_path / "frames", labeled=True)
    assert "needs labels" in text and "docs/own_data.md" in text


def test_a_description_pairs_images_and_labels_and_maps_their_ids(city, caplog):
    dataset = resolve(city(), space=CITY, labeled=True)
    assert dataset.name == "my_city"
    assert [r.name for r in dataset.records] == ["north/1", "south/1"]
    assert "1 images without a label left out, 2 pairs remain" in caplog.text
    assert dataset.official_root is None
    record = dataset.records[1]
    assert record.image.name == "1.jpg" and record.label.name == "1_label.png"
    raw = read_labels(record.label, dataset.encoding)
    train_ids = remap(raw, lookup_table(dataset.id_table, CITY)).numpy()
    road, sidewalk, car = (CITYSCAPES_19.index(c) for c in ("road", "sidewalk", "car"))
    # 9 is not listed, neither is 255.
    expected = np.resize(np.array([road, sidewalk, car, IGNORE, IGNORE], np.uint8), (6, 8))
    np.testing.assert_array_equal(train_ids, expected)
    # Loader processes get data sets pickled.
    assert pickle.loads(pickle.dumps(dataset)) == dataset


def test_a_target_keeps_the_images_without_labels(city):
    names = ["north/1", "north/2", "south/1"]
    assert [r.name for r in resolve(city()).records] == names
    bare = resolve(city(labels=None, ids=None))
    assert [(r.name, r.label) for r in bare.records] == [(name, None) for name in names]
    assert "has no 'labels'" in message(
        UserError, resolve, city(labels=None, ids=None), labeled=True
    )


def test_image_suffix_chooses_and_names(tmp_path):
    for name in ("a_leftImg8bit.png", "a_rightImg8bit.png"):
        picture(tmp_path / "x" / name)
    label(tmp_path / "y" / "a_gtFine_labelIds.png", [7])
    keys = {"image_suffix": "_leftImg8bit.png", "label_suffix": "_gtFine_labelIds.png"}
    path = describe(tmp_path, images="x", labels="y", ids="cityscapes", **keys)
    dataset = resolve(path, space=label_space("cityscapes16"), labeled=True)
    assert [(r.name, r.image.name) for r in dataset.records] == [("a", "a_leftImg8bit.png")]
    assert dataset.id_table == "cityscapes" and dataset.name == "set"


@pytest.mark.parametrize(
    ("images", "labels", "keys"),
    [
        ("x", "x", {"label_suffix": "_label.png"}),
        ("x", "x", {"image_suffix": ".jpg"}),
        ("x", "../{}/x", {"image_suffix": ".jpg", "label_suffix": ".png"}),
        ("x", "x/labels", {}),
        ("x", ".", {}),
        ("x", "y", {}),
    ],
)
def test_labels_may_lie_beside_below_or_above_the_images(tmp_path, images, labels, keys):
    labels = labels.format(tmp_path.name)
    for name in ("a", "b/c"):
        picture(tmp_path / images / f"{name}.jpg")
        label(tmp_path / labels / f"{name}{keys.get('label_suffix', '.png')}", [0])
    dataset = resolve(
        describe(tmp_path, images=images, labels=labels, ids={0: "road"}, **keys), labeled=True
    )
    assert [r.name for r in dataset.records] == ["a", "b/c"]
    assert {r.image.suffix for r in dataset.records} == {".jpg"}
    assert [r.label.resolve() for r in dataset.records] == [
        (tmp_path / labels / f"{n}{keys.get('label_suffix', '.png')}").resolve()
        for n in ("a", "b/c")
    ]


def test_own_classes_are_a_label_space_with_places_as_ids(city):
    path = city(ids=None, classes=["road", "car", "tree"])
    space = resolve_label_space(path)
    assert (space.name, space.classes, space.num_classes) == ("my_city", ("road", "car", "tree"), 3)
    assert space.label_ids is None and not space.protocols
    table = lookup_table(resolve(path, space=space, labeled=True).id_table, space)
    assert table[:4].tolist() == [0, 1, 2, IGNORE]
    colored = city(classes=["road", "car"], ids={5: "car"}, colors=[[1, 2, 3], [4, 5, 6]])
    space = resolve_label_space(colored)
    assert space.colors == ((1, 2, 3), (4, 5, 6))
    table = lookup_table(resolve(colored, space=space).id_table, space)
    assert table[5] == 1 and (np.delete(table, 5) == IGNORE).all()


def test_a_file_of_classes_alone_is_a_label_space_but_no_data_set(tmp_path):
    path = describe(tmp_path, classes=["a", "b"])
    assert resolve_label_space(path).classes == ("a", "b")
    assert "has no 'images'" in message(UserError, resolve, path)


def test_made_colors_are_distinct_stable_and_never_the_black_of_ignore():
    colors = distinct_colors(255)
    assert len(set(colors)) == 255 and colors[:7] == distinct_colors(7)
    assert all(max(color) > 100 for color in colors)
    few = np.array(distinct_colors(30), int)
    distances = np.abs(few[:, None] - few[None]).sum(-1)[~np.eye(30, dtype=bool)]
    assert distances.min() > 40


def test_yaml_and_json_say_the_same(city, tmp_path):
    path = city()
    other = tmp_path / "set.json"
    other.write_text(json.dumps(yaml.safe_load(Path(path).read_text())))
    assert resolve(other, space=CITY, labeled=True) == resolve(path, space=CITY, labeled=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lables": "x"}, "unknown key 'lables': did you mean 'labels'? known: name, images"),
        ({"ids": {0: "raod"}}, "id 0 is class 'raod', which label space 'cityscapes19' lacks: did"),
        ({"ids": {0: "car"}, "classes": ["a"]}, "id 0 is class 'car', which 'classes' lacks"),
        ({"ids": {256: "road"}}, "256 in 'ids' is no raw id; expected a number from 0 to 255"),
        ({"ids": {-1: "road"}}, "-1 in 'ids' is no raw id"),
        ({"ids": {True: "road"}}, "True in 'ids' is no raw id"),
        ({"ids": {"road": 0}}, "'road' in 'ids' is no raw id"),
        ({"ids": {1: "car", "1": "road"}}, "one number stands twice in 'ids'"),
        ({"ids": {0: False}}, "id 0 is False, expected a class name"),
        ({"ids": ["road"]}, "'ids' is a list of 1, expected {number: class name"),
        ({"ids": {}}, "'ids' is a dict of 0, expected"),
        ({"ids": "gta"}, "unknown label table 'gta': did you mean 'gta5'?"),
        ({"ids": None}, "nothing says what their numbers mean; add 'ids'"),
        ({"classes": []}, "'classes' is a list of 0, expected a list of 1 to 255"),
        ({"classes": [f"c{i}" for i in range(256)]}, "'classes' is a list of 256"),
        ({"classes": ["road", "road"]}, "class 'road' stands twice"),
        ({"classes": ["road", 3]}, "class 1 is 3, expected a class name"),
        ({"colors": [[0, 0, 0]]}, "'colors' is a list of 1, expected one [red, green, blue]"),
        (
            {"ids": None, "classes": ["road"], "colors": [[0, 0, 256]]},
            "the color of 'road' is [0, 0, 256]",
        ),
        ({"encoding": "indx"}, "unknown label encoding 'indx': did you mean 'index'?"),
        ({"label_suffix": ".tif"}, "'label_suffix' is '.tif', expected an ending in .png"),
        ({"images": 7}, "'images' is 7, expected text"),
        ({"images": "gone"}, "gone ('images' is relative to the description)"),
        ({"labels": "gone"}, "gone ('labels' is relative to the description)"),
        ({"image_suffix": ".png"}, "frames whose name ends in '.png'"),
        ({"label_suffix": "_other.png"}, "none of the 3 images has a label; the label of"),
        ({"labels": "frames"}, "none of the 3 images has a label"),
    ],
)
def test_a_wrong_description_gets_one_line_that_names_the_file(changes, expected, city):
    path = city(**changes)
    text = message(UserError, resolve, path, space=CITY, labeled=True)
    assert expected in text
    assert path in text or "label table" in text


def test_none_of_the_images_left_beside_the_labels(tmp_path):
    label(tmp_path / "x/a.png", [0])
    path = describe(tmp_path, images="x", labels="x", ids={0: "road"})
    assert "need a 'label_suffix' of their own" in message(UserError, resolve, path)


def test_images_that_would_share_a_prediction_are_refused(tmp_path):
    picture(tmp_path / "x/a.png")
    picture(tmp_path / "x/a.jpg")
    for name in (describe(tmp_path, images="x"), tmp_path / "x"):
        assert "would share one result" in message(UserError, resolve, name)
    (tmp_path / "empty").mkdir()
    assert "no image in" in message(UserError, resolve, tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.yaml", "images: [", "a.yaml is not valid YAML"),
        ("a.json", "{", "a.json is not valid JSON"),
        ("a.yaml", "- images", "a.yaml holds a list, expected 'key: value' lines"),
        ("a.yaml", "", "a.yaml holds nothing, expected"),
        ("a.yaml", "ids: {0: road, 0: car}", "key 0 stands there twice"),
        ("a.json", '{"ids": {"0": "road", "0": "car"}}', "key '0' stands there twice"),
        ("a.yaml", b"\xff\xfe\x00", "is not valid YAML"),
        ("a.yaml", "{[1]: 2}", "is not valid YAML"),
        ("a.txt", "images: x", "neither a folder of images nor a .yaml or .json description"),
    ],
)
def test_a_file_that_is_no_description(name, content, expected, tmp_path):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    assert expected in message(UserError, resolve, tmp_path / name)


def test_what_is_not_there(tmp_path):
    assert "no file" in message(MissingFileError, resolve, tmp_path / "gone.yaml")
    assert "no folder of images" in message(MissingFileError, resolve, tmp_path / "gone")
    assert "did you mean 'gta5'" in message(UserError, resolve, "gta")
    assert "no file" in message(MissingFileError, resolve_label_space, "gone.yaml")
    assert "did you mean 'cityscapes19'" in message(UserError, resolve_label_space, "cityscape19")


def test_a_description_without_classes_is_no_label_space(city):
    assert "defines no label space: add 'classes'" in message(
        UserError, resolve_label_space, city()
    )


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_pages_json_and_yaml_are_the_same_description(tmp_path):
    (as_json,) = blocks("json")
    (as_yaml,) = (b for b in blocks("yaml") if "park/park.yaml" in b)
    (tmp_path / "park.json").write_text(as_json)
    (tmp_path / "park.yaml").write_text(as_yaml)
    for name in ("a", "b"):
        picture(tmp_path / "rgb" / f"{name}_rgb.png")
        label(tmp_path / "rgb" / f"{name}_class.png", [10, 20, 21, 30, 40, 50])
    space = resolve_label_space(str(tmp_path / "park.json"))
    assert space == resolve_label_space(str(tmp_path / "park.yaml"))
    ours, theirs = (
        resolve(tmp_path / f"park.{ending}", space=space, labeled=True)
        for ending in ("json", "yaml")
    )
    assert ours == theirs and len(ours.records) == 2
    table = lookup_table(ours.id_table, space)
    assert [int(table[i]) for i in (10, 20, 21, 30, 40, 50)] == [0, 1, 1, 2, 3, IGNORE]


def test_every_key_is_on_the_page():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    keys = {field.name for field in fields(SegmentationDescription)} - {"path"}
    assert sorted(rows) == sorted(keys)
