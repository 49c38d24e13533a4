"""PASCAL VOC's form, and the pitfalls of the real data sets in it."""

import logging
from pathlib import Path

import pytest
from PIL import Image

from shared.data.catalog import load_detection
from shared.errors import MissingFileError, UserError


def xml(*objects: str, size: tuple[int, int] | None = (100, 200)) -> str:
    extent = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>" if size else ""
    return f"<annotation>{extent}{''.join(objects)}</annotation>"


def item(name: str, *box: object, difficult: int | None = None, extra: str = "") -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")[: len(box)]
    edges = "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in zip(tags, box, strict=True))
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{extra}{flag}<bndbox>{edges}</bndbox></object>"


def write(path: Path, content: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def voc_tree(tree: Path, split: str, xmls: dict[str, str], listed: str | None = None) -> None:
    for name, content in xmls.items():
        write(tree / f"JPEGImages/{name}.jpg")
        write(tree / f"Annotations/{name}.xml", content)
    names = "".join(f"{name}\n" for name in xmls) if listed is None else listed
    write(tree / f"ImageSets/Main/{split}.txt", names)


def boxes(root: Path, name: str = "voc2007_trainval", **arguments) -> dict[str, list]:
    dataset = load_detection(name, root, labeled=True, **arguments)
    return {
        r.name: [(a.category, a.box, a.difficult) for a in r.annotations] for r in dataset.records
    }


def test_sim10k_boxes_are_clipped_and_only_cars(tmp_path, caplog):
    tree = tmp_path / "sim10k"
    first = xml(
        item("car", -4, 0, 10, 20),
        item("car", 191, 91, 203, 110, difficult=1),
        item("car", -9, 5, 0, 9),
        item("car", 50, 60, 40, 70),
        item("car", 7, 7, 7, 7),
        item("person", 1, 1, 9, 9),
    )
    voc_tree(
        tree,
        "trainval10k",
        {"1": first, "2": xml(), "3": xml(item("person", 1, 1, 9, 9))},
        listed="1.jpg\n2.JPG\n\n3\n",
    )
    with caplog.at_level(logging.WARNING):
        found = boxes(tmp_path, "sim10k")
    assert found == {
        "1": [
            ("car", (0, 0, 10, 20), False),
            ("car", (190, 90, 200, 100), True),
            ("car", (6, 6, 7, 7), False),
        ],
        "2": [],
        "3": [],
    }
    message = "2 boxes without a pixel inside their picture left out, in 1 pictures (first: 1)"
    assert message in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert boxes(tmp_path, "sim10k", classes=("person", "car"))["3"] == [
            ("person", (0, 0, 9, 9), False)
        ]
    assert message in caplog.text


@pytest.mark.parametrize("kit", ["", "VOCdevkit/"])
def test_sim10k_named_voc2012_is_no_voc2012(tmp_path, kit):
    voc_tree(tmp_path / f"{kit}VOC2012", "trainval10k", {"1": xml()})
    write(tmp_path / f"{kit}VOC2012/ImageSets/Main/trainval.txt", "1\n")
    for name in ("sim10k", "voc2012_trainval"):
        with pytest.raises(
            UserError, match=r"belongs to Sim10k, .*: rename \S*VOC2012 to \S*sim10k"
        ):
            load_detection(name, tmp_path)
    voc_tree(tmp_path / "VOC2007", "trainval", {"1": xml()})
    assert boxes(tmp_path, "voc2007_trainval") == {"1": []}
    with pytest.raises(UserError, match="belongs to Sim10k"):
        boxes(tmp_path, "voc0712_trainval")
    (tmp_path / f"{kit}VOC2012").rename(tmp_path / "sim10k")
    assert boxes(tmp_path, "sim10k") == {"1": []}


def test_sim10k_unpacked_inside_its_own_folder(tmp_path):
    voc_tree(tmp_path / "sim10k/VOC2012", "trainval10k", {"1": xml()})
    assert boxes(tmp_path, "sim10k") == {"1": []}


def test_voc_xml_as_found_in_the_wild(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    tree = tmp_path / "VOCdevkit/VOC2007"
    voc_tree(
        tree,
        "trainval",
        {
            "a.b": xml(item(" person ", "45.7", 2, 90, 80, difficult=0, extra=part)),
            "b": xml(item("unicorn", 1, 1, 2, 2), size=None),
            "c": xml(item("car", 1, 1, 300, 2), size=(0, 0)),
        },
        listed="a.b 1\nb -1\nc\na.b\n",
    )
    for name in ("b", "c"):
        Image.new("RGB", (30, 20)).save(tree / f"JPEGImages/{name}.jpg")
    assert boxes(tmp_path) == {
        "a.b": [("person", (44.7, 1, 90, 80), False)],
        "b": [],
        "c": [("car", (0, 0, 30, 2), False)],
    }
    record = load_detection("voc2007_trainval", tmp_path, labeled=True).records[1]
    assert (record.height, record.width) == (20, 30)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation><object>", r"000001\.xml is no well-formed XML \(.*\); unpack it again"),
        ("", r"000001\.xml is no well-formed XML"),
        (
            xml(item("car", 1, 2, "x", 4)),
            r"000001\.xml: object 0 \('car'\) has 'x' for bndbox/xmax",
        ),
        (xml(item("car", 1, 2, 3)), r"\('car'\) has '' for bndbox/ymax"),
        (xml(item("", 1, 2, 3, 4)), r"000001\.xml: object 0 has no <name>"),
    ],
)
def test_malformed_xml_is_named(tmp_path, content, message):
    voc_tree(tmp_path / "VOC2007", "trainval", {"000001": content})
    with pytest.raises(UserError, match=message) as caught:
        boxes(tmp_path)
    assert "\n" not in str(caught.value)
    write(tmp_path / "VOC2007/Annotations/000001.xml", xml(item("car", 1, 2, 3, 4)))
    assert boxes(tmp_path) == {"000001": [("car", (0, 1, 3, 4), False)]}
    write(tmp_path / "VOC2007/Annotations/000001.xml", xml(item("cat", 2, 2, 3, 4)))
    assert boxes(tmp_path) == {"000001": [("cat", (1, 1, 3, 4), False)]}


def test_lists_name_what_there_is(tmp_path, caplog):
    voc_tree(tmp_path / "VOC2007", "trainval", {"1": xml(), "2": xml()}, listed="1\n2\n3\n4\n")
    write(tmp_path / "VOC2007/JPEGImages/3.jpg")
    write(tmp_path / "VOC2007/JPEGImages/unlisted.jpg")
    with caplog.at_level(logging.WARNING):
        assert list(boxes(tmp_path)) == ["1", "2"]
    assert "JPEGImages/4 listed in trainval.txt, but not there: left out\n" in caplog.text
    assert "JPEGImages/3.jpg image without label: left out\n" in caplog.text
    assert len(caplog.records) == 2
    with pytest.raises(MissingFileError, match=r"no list \S*VOC2007/ImageSets/Main/test\.txt"):
        load_detection("voc2007_test", tmp_path)
    write(tmp_path / "VOC2007/ImageSets/Main/test.txt", "\n")
    with pytest.raises(UserError, match=r"test\.txt is empty"):
        load_detection("voc2007_test", tmp_path)
    write(tmp_path / "VOC2007/ImageSets/Main/test.txt", "9\n")
    with pytest.raises(UserError, match="no images in"):
        load_detection("voc2007_test", tmp_path)


def test_clipart_is_the_union_of_its_lists(tmp_path):
    tree = tmp_path / "clipart"
    voc_tree(tree, "train", {"2": xml(), "1": xml()})
    with pytest.raises(
        MissingFileError, match=r"test\.txt is missing: .*unpack the data set again"
    ):
        load_detection("clipart_traintest", tmp_path)
    voc_tree(tree, "test", {"3": xml()})
    assert list(boxes(tmp_path, "clipart_traintest")) == ["1", "2", "3"]
    assert list(boxes(tmp_path, "clipart_test")) == ["3"]


def test_classes_are_checked(tmp_path):
    voc_tree(tmp_path / "watercolor", "train", {"1": xml()})
    with pytest.raises(UserError, match="has no class 'bycicle': did you mean 'bicycle'"):
        load_detection("watercolor_train", tmp_path, classes=("car", "bycicle"))
    for wrong in ("car", (), ("car", "car")):
        with pytest.raises(UserError, match="expected a list of different names"):
            load_detection("watercolor_train", tmp_path, classes=wrong)
