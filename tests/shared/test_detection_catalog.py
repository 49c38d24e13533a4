"""Detection data sets: toy layouts read back exactly, and the pitfalls of the real ones."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.catalog import (
    CITYSCAPES_THINGS,
    DETECTION,
    FOG_BETAS,
    VOC_CLASSES,
    WATERCOLOR_CLASSES,
    Annotation,
    load_detection,
    read_instance_ids,
)
from shared.errors import MissingFileError, UserError
from shared.label_maps import ID_TABLES
from shared.toy import ToyFrame, render
from shared.toy.layouts import LAYOUTS, make_toy
from shared.toy.layouts.annotations import visible_things
from shared.toy.layouts.base import Frame
from shared.toy.layouts.detection import KITTI_TYPES, MIN_PIXELS
from shared.toy.layouts.detection import VOC_CLASSES as TOY_VOC_CLASSES

HEIGHT, WIDTH = 96, 192
SIZE = {"height": HEIGHT, "width": WIDTH}
MADE = ("sim10k", "clipart", "watercolor", "voc", "kitti", "cityscapes", "cityscapes_foggy")
COUNT, VAL_COUNT = 5, 3


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_toy(root, MADE, count=COUNT, val_count=VAL_COUNT, workers=1, progress=False, **SIZE)
    return root


def toy_frames(layout: str, data_set: str, *splits: str) -> list[tuple[Frame, ToyFrame]]:
    return [
        (frame, render(frame.domain, frame.index, **SIZE))
        for frame in LAYOUTS.get(layout).frames(COUNT, VAL_COUNT)
        if frame.data_set == data_set and frame.split in splits
    ]


def voc_annotations(toy: ToyFrame, classes: tuple[str, ...]) -> tuple[Annotation, ...]:
    return tuple(
        Annotation(TOY_VOC_CLASSES[t.label], t.box, difficult=t.group or t.pixels < MIN_PIXELS)
        for t in visible_things(toy)
        if TOY_VOC_CLASSES.get(t.label) in classes
    )


WATERCOLOR_TOY = ("person", "car", "bicycle")


@pytest.mark.parametrize(
    ("name", "layout", "parts", "classes"),
    [
        ("sim10k", "sim10k", [("sim10k", "trainval10k")], ("car",)),
        ("clipart_train", "clipart", [("clipart", "train")], VOC_CLASSES),
        ("clipart_test", "clipart", [("clipart", "test")], VOC_CLASSES),
        ("clipart_traintest", "clipart", [("clipart", "train", "test")], VOC_CLASSES),
        ("watercolor_train", "watercolor", [("watercolor", "train")], WATERCOLOR_TOY),
        ("watercolor_test", "watercolor", [("watercolor", "test")], WATERCOLOR_TOY),
        ("voc2007_trainval", "voc", [("VOC2007", "trainval")], VOC_CLASSES),
        ("voc2007_test", "voc", [("VOC2007", "test")], VOC_CLASSES),
        ("voc2012_trainval", "voc", [("VOC2012", "trainval")], VOC_CLASSES),
        (
            "voc0712_trainval",
            "voc",
            [("VOC2007", "trainval"), ("VOC2012", "trainval")],
            VOC_CLASSES,
        ),
    ],
)
def test_voc_forms_are_read_back(toy_root, name, layout, parts, classes):
    expected = {}
    for part in parts:
        for frame, toy in toy_frames(layout, *part):
            image, _ = LAYOUTS.get(layout).files(frame)
            expected[Path(image).stem] = (toy_root / "toy" / image, voc_annotations(toy, classes))
    dataset = load_detection(f"toy_{name}", toy_root, labelled=True)
    assert [r.name for r in dataset.records] == sorted(expected)
    for record in dataset.records:
        assert (record.image, record.annotations) == expected[record.name]
        assert (record.height, record.width) == (HEIGHT, WIDTH)
        assert record.instances is None
    assert sum(len(r.annotations) for r in dataset.records) > 0


def test_voc_reduced_to_the_classes_of_watercolor(toy_root):
    name = "toy_voc0712_trainval"
    everything = load_detection(name, toy_root, labelled=True)
    reduced = load_detection(name, toy_root, labelled=True, classes=WATERCOLOR_CLASSES)
    assert reduced.classes == WATERCOLOR_CLASSES
    assert len(reduced.records) == len(everything.records)
    for old, new in zip(everything.records, reduced.records, strict=True):
        kept = tuple(a for a in old.annotations if a.category in WATERCOLOR_CLASSES)
        assert new.annotations == kept
    seen = {a.category for r in everything.records for a in r.annotations}
    assert seen - set(WATERCOLOR_CLASSES) and seen & set(WATERCOLOR_CLASSES)


@pytest.mark.parametrize("classes", [("car",), ("person", "rider", "car", "truck", "train")])
def test_kitti_is_read_back(toy_root, classes):
    names = {"Car": "car", "Truck": "truck", "Tram": "train", "Misc": "Misc"}
    names |= {"Pedestrian": "person", "Cyclist": "rider"}
    wanted = None if classes == ("car",) else classes
    dataset = load_detection("toy_kitti_train", toy_root, labelled=True, classes=wanted)
    assert dataset.classes == classes
    frames = toy_frames("kitti", "kitti", "training")
    assert len(dataset.records) == COUNT
    for record, (frame, toy) in zip(dataset.records, frames, strict=True):
        expected = []
        for thing in visible_things(toy):
            if thing.label not in KITTI_TYPES:
                continue
            if thing.group or thing.pixels < MIN_PIXELS:
                expected += [Annotation(c, thing.box, crowd=True) for c in classes]
            elif names[KITTI_TYPES[thing.label]] in classes:
                expected.append(Annotation(names[KITTI_TYPES[thing.label]], thing.box))
        assert record.name == frame.name
        assert record.annotations == tuple(expected)
        assert (record.height, record.width) == (HEIGHT, WIDTH)


def instance_annotations(ids: np.ndarray) -> set[Annotation]:
    found = set()
    for value in np.unique(ids).tolist():
        name = ID_TABLES.get("cityscapes").get(value if value < 1000 else value // 1000)
        if name in CITYSCAPES_THINGS:
            ys, xs = np.nonzero(ids == value)
            box = tuple(map(int, (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)))
            found.add(Annotation(name, box, crowd=value < 1000, instance=value))
    return found


@pytest.mark.parametrize("split", ["train", "val"])
def test_cityscapes_and_its_foggy_twins_are_read_back(toy_root, split):
    clear = load_detection(f"toy_cityscapes_det_{split}", toy_root, labelled=True)
    assert clear.classes == CITYSCAPES_THINGS
    assert clear.official_root == (toy_root / "toy/cityscapes" if split == "val" else None)
    layout = LAYOUTS.get("cityscapes")
    frames = {}
    for frame, toy in toy_frames("cityscapes", "cityscapes", split):
        image, _, instances, *_ = (toy_root / "toy" / f for f in layout.files(frame))
        frames[image.stem.removesuffix("_leftImg8bit")] = (image, instances, toy)
    assert [r.name for r in clear.records] == sorted(frames)
    for record in clear.records:
        image, instances, toy = frames[record.name]
        assert (record.image, record.instances) == (image, instances)
        assert (record.height, record.width) == (HEIGHT, WIDTH)
        ids = read_instance_ids(record.instances)
        assert ids.dtype == np.uint16 and np.array_equal(ids, toy.instance_ids)
        assert set(record.annotations) == instance_annotations(toy.instance_ids)
        assert len(record.annotations) == len(set(record.annotations))
        singles = {(a.category, a.box) for a in record.annotations if not a.crowd}
        seen = {(t.label, t.box) for t in visible_things(toy) if not t.group}
        assert singles == {s for s in seen if s[0] in CITYSCAPES_THINGS}
    annotations = {r.name: (r.annotations, r.instances) for r in clear.records}
    for beta in FOG_BETAS:
        foggy = load_detection(f"toy_foggy_cityscapes_{split}_beta_{beta}", toy_root, labelled=True)
        assert [r.name for r in foggy.records] == [f"{n}_foggy_beta_{beta}" for n in sorted(frames)]
        for record in foggy.records:
            frame = record.name.removesuffix(f"_foggy_beta_{beta}")
            assert record.image.name == f"{frame}_leftImg8bit_foggy_beta_{beta}.png"
            assert (record.annotations, record.instances) == annotations[frame]
    default = load_detection(f"toy_foggy_cityscapes_{split}", toy_root, labelled=True)
    assert [r.image for r in default.records] == [r.image for r in foggy.records]
    every = load_detection(f"toy_foggy_cityscapes_{split}_beta_all", toy_root, labelled=True)
    assert len({r.image for r in every.records}) == len({r.name for r in every.records})
    assert len(every.records) == 3 * len(frames)


def test_an_unlabelled_data_set_opens_no_annotation(toy_root, tmp_path):
    make_toy(tmp_path, MADE, count=2, val_count=1, workers=1, progress=False, **SIZE)
    folders = ("Annotations", "label_2", "gtFine")
    damaged = [p for p in tmp_path.rglob("*.*") if set(p.parts) & set(folders) and p.is_file()]
    assert damaged
    for path in damaged:
        path.write_bytes(b"no annotation")
    toys = [name for name in DETECTION if name.startswith("toy_")]
    for name in toys:
        with pytest.raises(UserError):
            load_detection(name, tmp_path, labelled=True)
    for path in damaged:
        path.unlink()
    for name in toys:
        dataset = load_detection(name, tmp_path)
        assert dataset.records
        for record in dataset.records:
            assert (record.annotations, record.instances) == (None, None)
            assert (record.height, record.width) == (HEIGHT, WIDTH)
        with pytest.raises(UserError, match="has a label of the same name"):
            load_detection(name, tmp_path, labelled=True)


def test_what_is_missing_is_said_in_one_line(tmp_path):
    for name in DETECTION:
        with pytest.raises(MissingFileError) as caught:
            load_detection(name, tmp_path)
        message = str(caught.value)
        assert f"data set '{name}'" in message and "\n" not in message
        assert ("make_toy.py" if name.startswith("toy_") else "DETECTRON2_DATASETS") in message
    with pytest.raises(UserError, match="did you mean 'sim10k'"):
        load_detection("sim10", tmp_path)


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
    dataset = load_detection(name, root, labelled=True, **arguments)
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
    record = load_detection("voc2007_trainval", tmp_path, labelled=True).records[1]
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
    assert "1 of 4 listed frames have no image" in caplog.text
    assert "2 pairs, 1 images without label and 0 labels without image left out" in caplog.text
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
    with pytest.raises(MissingFileError, match=r"no list \S*test\.txt; .*unpack it again"):
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


def kitti_line(kind: str, *box: object, fields: int = 15) -> str:
    return " ".join(map(str, (kind, 0, 0, -10, *box, *([-1] * 7))[:fields]))


def test_kitti_types_and_regions_nobody_labelled(tmp_path):
    folder = tmp_path / "kitti/training"
    lines = [
        kitti_line("Car", 1.5, 2.25, 10, 20),
        kitti_line("Van", 1, 2, 3, 4),
        kitti_line("Cyclist", 0, 0, 5, 5),
        "",
        kitti_line("DontCare", 30, 5, 99, 15.5),
        kitti_line("Misc", 1, 1, 2, 2),
    ]
    write(folder / "label_2/000000.txt", "\n".join(lines))
    write(folder / "label_2/000001.txt")
    (folder / "image_2").mkdir()
    Image.new("RGB", (40, 20)).save(folder / "image_2/000000.png")
    Image.new("RGB", (41, 20)).save(folder / "image_2/000001.jpg")
    first, second = load_detection("kitti_train", tmp_path, labelled=True).records
    assert first.annotations == (
        Annotation("car", (1.5, 2.25, 10, 20)),
        Annotation("car", (30, 5, 40, 15.5), crowd=True),
    )
    assert second.annotations == () and (second.height, second.width) == (20, 41)
    chosen = load_detection("kitti_train", tmp_path, labelled=True, classes=["van", "rider"])
    assert [(a.category, a.crowd) for a in chosen.records[0].annotations] == [
        ("van", False),
        ("rider", False),
        ("van", True),
        ("rider", True),
    ]
    for line in (kitti_line("Car", 1, 2, 3, 4, fields=14), kitti_line("Car", 1, "x", 3, 4)):
        write(folder / "label_2/000001.txt", f"{lines[0]}\n{line}\n")
        with pytest.raises(UserError, match=r"000001\.txt, line 2: got 'Car .*expected 15 fields"):
            load_detection("kitti_train", tmp_path, labelled=True)


def city_frame(root: Path, ids: np.ndarray, name: str = "aachen_000000_000019") -> Path:
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
    first, empty = load_detection("cityscapes_det_train", tmp_path, labelled=True).records
    assert first.annotations == (
        Annotation("person", (0, 0, 1, 1), crowd=True, instance=24),
        Annotation("car", (0, 5, 40, 10), crowd=True, instance=26),
        Annotation("car", (10, 2, 30, 8), instance=26001),
        Annotation("bicycle", (13, 12, 14, 13), instance=33065),
    )
    assert first.instances == truth and empty.annotations == ()
    only = load_detection("cityscapes_det_train", tmp_path, labelled=True, classes=("bicycle",))
    assert [a.instance for a in only.records[0].annotations] == [33065]
    Image.fromarray(ids.astype(np.uint8)).save(truth)
    with pytest.raises(UserError, match=r"holds no instance ids: got an image of mode L"):
        load_detection("cityscapes_det_train", tmp_path, labelled=True)


def test_foggy_frames_and_their_betas(tmp_path):
    name = "aachen_000000_000019"
    truth = city_frame(tmp_path, np.full((4, 6), 26003, np.uint16), name)
    folder = tmp_path / "cityscapes/leftImg8bit_foggy/train/aachen"
    write(folder / f"{name}_leftImg8bit_foggy_beta_0.01.png")
    (record,) = load_detection("foggy_cityscapes_train_beta_0.01", tmp_path, labelled=True).records
    assert (record.name, record.instances) == (f"{name}_foggy_beta_0.01", truth)
    assert record.annotations == (Annotation("car", (0, 0, 6, 4), instance=26003),)
    for missing in ("foggy_cityscapes_train", "foggy_cityscapes_train_beta_all"):
        with pytest.raises(UserError, match=r"1 of 1 frames .* there is β 0\.01"):
            load_detection(missing, tmp_path, labelled=True)
    write(folder / f"{name}_leftImg8bit_foggy_beta_0.02.png")
    write(folder / "aachen_000001_000019_leftImg8bit_foggy_beta_0.01.png")
    with pytest.raises(
        UserError, match=r"1 of 2 frames in .*β 0\.02 \(first: aachen_000001_000019"
    ):
        load_detection("foggy_cityscapes_train", tmp_path, labelled=True)
    write(folder / f"{name}_leftImg8bit_foggy.png")
    with pytest.raises(UserError, match="has no β in its name"):
        load_detection("foggy_cityscapes_train", tmp_path)
