"""Faults in boxes and their annotations."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from checking import HEIGHT, QUIET, WIDTH, lines, the_line

from shared.data.checker import check, present_names
from shared.errors import MissingFileError


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_sim10k_over_voc2012(copy):
    root = copy("sim10k", "VOC2012")
    shutil.copytree(root / "toy/sim10k", root / "toy/VOC2012", dirs_exist_ok=True)
    shutil.rmtree(root / "toy/sim10k")
    for name in ("toy_sim10k", "toy_voc2012_trainval"):
        line = the_line(root, name)
        assert line.startswith("error") and "rename" in line and "sim10k" in line
        assert name in present_names(root)[0]


def test_sim10k_where_its_archives_unpack(copy):
    root = copy("sim10k")
    tree = root / "toy/sim10k"
    shutil.move(tree, root / "toy/VOC2012")
    shutil.move(root / "toy/VOC2012", tree / "VOC2012")
    assert lines(root, "toy_sim10k") == []
    (tree / "VOC2012/JPEGImages/000001.jpg").unlink()
    (tree / "VOC2012/Annotations/000002.xml").unlink()
    lost, bare = lines(root, "toy_sim10k")
    assert "VOC2012/JPEGImages/000001 listed in trainval10k.txt, but not there" in lost
    assert "VOC2012/JPEGImages/000002.jpg image without label: left out" in bare


def test_sim10k_where_its_archives_unpack_with_a_damaged_annotation(copy):
    root = copy("sim10k")
    tree = root / "toy/sim10k"
    shutil.move(tree, root / "toy/VOC2012")
    shutil.move(root / "toy/VOC2012", tree / "VOC2012")
    damaged = [tree / f"VOC2012/Annotations/00000{i}.xml" for i in (1, 2)]
    for path in damaged:
        path.write_text("<annotation><object>")
    found = lines(root, "toy_sim10k")
    for path in damaged:
        assert any(line.startswith(f"error: toy_sim10k: {path}") for line in found)


def test_a_list_of_clipart_that_is_missing(copy):
    root = copy("clipart")
    (root / "toy/clipart/ImageSets/Main/test.txt").unlink()
    found = lines(root, "toy_clipart_traintest")
    assert any("test.txt is missing: it names the frames" in line for line in found)
    assert all(line.startswith("error") for line in found)
    assert "toy_clipart_traintest" in present_names(root)[0]


def test_foggy_frames_without_a_beta(copy):
    root = copy("cityscapes")
    city = root / "toy/cityscapes/leftImg8bit_foggy/train/toyburg"
    removed = next(city.glob("*_beta_0.01.png"))
    removed.unlink()
    name = "toy_foggy_cityscapes_train"
    found = lines(root, f"{name}_beta_0.01")
    assert any("has no twin of β 0.01" in line and str(city) in line for line in found)
    assert lines(root, f"{name}_beta_0.02") == lines(root, name) == []
    for path in city.parent.rglob("*_beta_0.02.png"):
        path.unlink()
    with pytest.raises(MissingFileError, match=r"no picture of β 0\.02 in .*, but of β 0\.005"):
        check(name, root, QUIET)
    present, missing = present_names(root)
    assert f"{name}_beta_0.005" in present and f"{name}_beta_0.02" in missing


def test_foggy_frames_without_annotation(copy):
    root = copy("cityscapes")
    truth = next((root / "toy/cityscapes/gtFine/val/toyford").glob("*_instanceIds.png"))
    truth.unlink()
    assert "image without label: left out" in the_line(root, "toy_foggy_cityscapes_val")


def test_boxes_that_are_no_boxes(copy):
    root = copy("sim10k")
    xml = root / "toy/sim10k/Annotations/000001.xml"
    boxes = ((-20, 5, 30, 9), (10, 10, 4, 20), (500, 5, 520, 9))
    xml.write_text(
        f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        + "".join(
            f"<object><name>car</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
            f"<ymax>{d}</ymax></bndbox></object>"
            for a, b, c, d in boxes
        )
        + "</annotation>"
    )
    found = lines(root, "toy_sim10k")
    assert found == [
        f"warning: toy_sim10k: {xml} box car [{edges}] {what}"
        for edges, what in (
            ("-21, 4, 30, 9", "reaches beyond its 192×96 image: clipped"),
            ("9, 9, 4, 20", "is empty: left out"),
            ("499, 4, 520, 9", "is outside its 192×96 image: left out"),
        )
    ]


def test_a_size_that_is_not_the_images(copy):
    root = copy("watercolor")
    xml = root / "toy/watercolor/Annotations/000001.xml"
    edit(xml, "<width>192<", "<width>1920<")
    line = the_line(root, "toy_watercolor_train")
    assert line.startswith(f"error: toy_watercolor_train: {xml} is for 1920×96 pixels")


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("toy_sim10k", "sim10k/Annotations/000001.xml", "<name>car<", "<name>lorry<"),
        ("toy_kitti_train", "kitti/training/label_2/000000.txt", "Car ", "lorry "),
    ],
)
def test_unknown_classes(copy, name, file, old, new):
    root = copy(file.split("/")[0])
    edit(root / "toy" / file, old, new)
    line = the_line(root, name)
    assert f"{file} holds unknown class 'lorry', whose boxes are left out; 1 files do" in line


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("toy_sim10k", [f"sim10k/Annotations/00000{i}.xml" for i in (1, 2)]),
        ("toy_kitti_train", [f"kitti/training/label_2/00000{i}.txt" for i in (0, 1)]),
    ],
)
def test_every_damaged_annotation_has_its_line(copy, name, files):
    root = copy(files[0].split("/")[0])
    for file in files:
        (root / "toy" / file).write_text("<annotation><object>")
    found = lines(root, name)
    for file in files:
        assert any(line.startswith(f"error: {name}: {root / 'toy' / file}") for line in found)


def test_pairs_of_images_and_annotations(copy):
    root = copy("kitti", "VOC2007")
    (root / "toy/kitti/training/label_2/000001.txt").unlink()
    (root / "toy/kitti/training/image_2/000002.png").unlink()
    assert [line.split("training/")[1] for line in lines(root, "toy_kitti_train")] == [
        "image_2/000001.png image without label: left out",
        "label_2/000002.txt label without image: left out",
    ]
    (root / "toy/VOC2007/JPEGImages/500001.jpg").unlink()
    assert "500001 listed in test.txt, but not there" in the_line(root, "toy_voc2007_test")
    assert lines(root, "toy_voc2007_trainval") == []


def test_instances_of_another_size(copy):
    root = copy("cityscapes")
    path = next((root / "toy/cityscapes/gtFine/val/toyford").glob("*_instanceIds.png"))
    cv2.imwrite(str(path), np.zeros((HEIGHT // 2, WIDTH // 2), np.uint16))
    line = the_line(root, "toy_cityscapes_det_val")
    assert line.startswith(f"error: toy_cityscapes_det_val: {path} is for 96×48 pixels")
