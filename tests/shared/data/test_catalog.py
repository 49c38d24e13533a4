"""Data sets by name: toy layouts are read back exactly, and what is missing is named."""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from shared.data.catalog import DETECTION, SEGMENTATION, load_detection, load_segmentation
from shared.data.cityscapes import CITYSCAPES_THINGS, FOG_BETAS, read_instance_ids
from shared.data.folders import data_root
from shared.data.label_maps import ID_TABLES
from shared.data.records import Annotation
from shared.data.voc import VOC_CLASSES, WATERCOLOR_CLASSES
from shared.errors import MissingFileError, UserError
from shared.toy import ToyFrame, render
from shared.toy.layouts import LAYOUTS
from shared.toy.layouts.annotations import visible_objects
from shared.toy.layouts.base import Frame
from shared.toy.layouts.detection import KITTI_TYPES, MIN_PIXELS
from shared.toy.layouts.detection import VOC_CLASSES as TOY_VOC_CLASSES

COUNT, VAL_COUNT, HEIGHT, WIDTH = 3, 2, 96, 192  # of the toys


@cache
def rendered(domain: str, index: int) -> ToyFrame:
    return render(domain, index, height=HEIGHT, width=WIDTH)


def toy_frames(layout: str, data_set: str, *splits: str) -> list[tuple[Frame, ToyFrame]]:
    return [
        (frame, rendered(frame.domain, frame.index))
        for frame in LAYOUTS.get(layout).frames(COUNT, VAL_COUNT)
        if frame.data_set == data_set and frame.split in splits
    ]


def voc_annotations(toy: ToyFrame, classes: tuple[str, ...]) -> tuple[Annotation, ...]:
    return tuple(
        Annotation(TOY_VOC_CLASSES[t.label], t.box, difficult=t.group or t.pixels < MIN_PIXELS)
        for t in visible_objects(toy)
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
def test_voc_forms_are_read_back(all_toys, name, layout, parts, classes):
    expected = {}
    for part in parts:
        for frame, toy in toy_frames(layout, *part):
            image, _ = LAYOUTS.get(layout).files(frame)
            expected[Path(image).stem] = (all_toys / "toy" / image, voc_annotations(toy, classes))
    dataset = load_detection(f"toy_{name}", all_toys, labeled=True)
    assert [r.name for r in dataset.records] == sorted(expected)
    for record in dataset.records:
        assert (record.image, record.annotations) == expected[record.name]
        assert (record.height, record.width) == (HEIGHT, WIDTH)
        assert record.instances is None
    assert sum(len(r.annotations) for r in dataset.records) > 0


def test_voc_reduced_to_the_classes_of_watercolor(all_toys):
    name = "toy_voc0712_trainval"
    everything = load_detection(name, all_toys, labeled=True)
    reduced = load_detection(name, all_toys, labeled=True, classes=WATERCOLOR_CLASSES)
    assert reduced.classes == WATERCOLOR_CLASSES
    assert len(reduced.records) == len(everything.records)
    for old, new in zip(everything.records, reduced.records, strict=True):
        kept = tuple(a for a in old.annotations if a.category in WATERCOLOR_CLASSES)
        assert new.annotations == kept
    seen = {a.category for r in everything.records for a in r.annotations}
    assert seen - set(WATERCOLOR_CLASSES) and seen & set(WATERCOLOR_CLASSES)


@pytest.mark.parametrize("classes", [("car",), ("person", "rider", "car", "truck", "train")])
def test_kitti_is_read_back(all_toys, classes):
    names = {"Car": "car", "Truck": "truck", "Tram": "train", "Misc": "Misc"}
    names |= {"Pedestrian": "person", "Cyclist": "rider"}
    wanted = None if classes == ("car",) else classes
    dataset = load_detection("toy_kitti_train", all_toys, labeled=True, classes=wanted)
    assert dataset.classes == classes
    frames = toy_frames("kitti", "kitti", "training")
    assert len(dataset.records) == COUNT
    for record, (frame, toy) in zip(dataset.records, frames, strict=True):
        expected = []
        for thing in visible_objects(toy):
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
def test_cityscapes_and_its_foggy_twins_are_read_back(all_toys, split):
    clear = load_detection(f"toy_cityscapes_det_{split}", all_toys, labeled=True)
    assert clear.classes == CITYSCAPES_THINGS
    assert clear.official_root == (all_toys / "toy/cityscapes" if split == "val" else None)
    layout = LAYOUTS.get("cityscapes")
    frames = {}
    for frame, toy in toy_frames("cityscapes", "cityscapes", split):
        image, _, instances, *_ = (all_toys / "toy" / f for f in layout.files(frame))
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
        seen = {(t.label, t.box) for t in visible_objects(toy) if not t.group}
        assert singles == {s for s in seen if s[0] in CITYSCAPES_THINGS}
    annotations = {r.name: (r.annotations, r.instances) for r in clear.records}
    for beta in FOG_BETAS:
        foggy = load_detection(f"toy_foggy_cityscapes_{split}_beta_{beta}", all_toys, labeled=True)
        assert [r.name for r in foggy.records] == [f"{n}_foggy_beta_{beta}" for n in sorted(frames)]
        for record in foggy.records:
            frame = record.name.removesuffix(f"_foggy_beta_{beta}")
            assert record.image.name == f"{frame}_leftImg8bit_foggy_beta_{beta}.png"
            assert (record.annotations, record.instances) == annotations[frame]
    default = load_detection(f"toy_foggy_cityscapes_{split}", all_toys, labeled=True)
    assert [r.image for r in default.records] == [r.image for r in foggy.records]
    every = load_detection(f"toy_foggy_cityscapes_{split}_beta_all", all_toys, labeled=True)
    assert len({r.image for r in every.records}) == len({r.name for r in every.records})
    assert len(every.records) == 3 * len(frames)


def test_an_unlabeled_data_set_opens_no_annotation(all_toys, tmp_path):
    shutil.copytree(all_toys / "toy", tmp_path / "toy")
    folders = {"Annotations", "label_2", "gtFine"}
    damaged = [p for p in tmp_path.rglob("*.*") if folders & set(p.parts) and p.is_file()]
    assert damaged
    for path in damaged:
        path.write_bytes(b"no annotation")
    toys = [name for name in DETECTION if name.startswith("toy_")]
    for name in toys:
        with pytest.raises(UserError):
            load_detection(name, tmp_path, labeled=True)
    for path in damaged:
        path.unlink()
    for name in toys:
        dataset = load_detection(name, tmp_path)
        assert dataset.records
        for record in dataset.records:
            assert (record.annotations, record.instances) == (None, None)
            assert (record.height, record.width) == (HEIGHT, WIDTH)
        with pytest.raises(UserError, match="has a label of the same name"):
            load_detection(name, tmp_path, labeled=True)


@pytest.mark.parametrize(
    ("registry", "load"), [(SEGMENTATION, load_segmentation), (DETECTION, load_detection)]
)
def test_what_is_missing_is_said_in_one_line(registry, load, tmp_path):
    for name in registry:
        with pytest.raises(MissingFileError) as caught:
            load(name, tmp_path)
        message = str(caught.value)
        assert f"data set '{name}'" in message and str(tmp_path) in message
        assert "\n" not in message
        assert ("street-adapt toy" if name.startswith("toy_") else "DETECTRON2_DATASETS") in message


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean 'gta5'"):
        load_segmentation("gta", tmp_path)
    with pytest.raises(UserError, match="did you mean 'sim10k'"):
        load_detection("sim10", tmp_path)


def test_data_root(all_toys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert data_root().name == "datasets"
    (tmp_path / "datasets").mkdir()
    assert data_root().resolve() == tmp_path / "datasets"
    monkeypatch.setenv("DETECTRON2_DATASETS", str(all_toys))
    assert data_root() == all_toys
    assert len(load_segmentation("toy_gta5").records) == COUNT
