"""Faults in images and label files."""

import shutil

import cv2
import numpy as np
import pytest
from checking import HEIGHT, QUIET, WIDTH, lines, the_line, truncate
from PIL import Image

from shared.data.checker import check
from shared.data.images import write_png


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("toy_gta5", "gta5/images/00001.png"),
        ("toy_gta5", "gta5/labels/00001.png"),
        ("toy_sim10k", "sim10k/JPEGImages/000001.jpg"),
        ("toy_kitti_train", "kitti/training/image_2/000000.png"),
    ],
)
def test_truncated_images_and_labels(copy, name, file):
    root = copy(file.split("/")[0])
    truncate(root / "toy" / file)
    line = the_line(root, name)
    assert line.startswith(f"error: {name}: {root / 'toy' / file} is damaged")


def test_synthia_labels_of_zeros(copy):
    root = copy("RAND_CITYSCAPES")
    path = root / "toy/RAND_CITYSCAPES/GT/LABELS/0000001.png"
    # What Pillow makes of 16-bit RGB: the high bytes.
    with Image.open(path) as image:
        write_png(path, np.array(image.convert("RGB"))[..., 0])
    assert "nothing but class 0 (void)" in the_line(root, "toy_synthia")


def test_ids_of_synthia_rand_in_the_sequences(copy):
    root = copy("synthia_seqs")
    folder = "synthia_seqs/SYNTHIA-SEQS-01-FALL/GT/LABELS/Stereo_Left/Omni_F"
    path = root / "toy" / folder / "000001.png"
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    pixels[:8, :, 2] = 19
    cv2.imwrite(str(path), pixels)
    line = the_line(root, "toy_synthia_seqs_fall")
    assert line.startswith(
        f"error: toy_synthia_seqs_fall: {path} holds id 19, which the id table 'synthia_seqs'"
    )
    assert "1 labels do" in line


def test_broken_frames_of_gta5_are_left_out(copy):
    root = copy("gta5")
    for folder in ("images", "labels"):
        for name in ("15188", "17705"):
            shutil.copy(
                root / f"toy/gta5/{folder}/00001.png", root / f"toy/gta5/{folder}/{name}.png"
            )
    truncate(root / "toy/gta5/images/15188.png")
    assert lines(root, "toy_gta5") == []
    skipped = [line for line in lines(root, "toy_gta5", "info") if "known to be broken" in line]
    assert len(skipped) == 4
    assert check("toy_gta5", root, QUIET).frames == 3


def test_image_and_label_of_different_sizes(copy):
    root = copy("gta5")
    write_png(root / "toy/gta5/labels/00002.png", np.full((HEIGHT, WIDTH + 2), 7, np.uint8))
    line = the_line(root, "toy_gta5")
    assert line.startswith("error") and "is for 194×96 pixels, its image has 192×96" in line


def test_color_pictures_instead_of_ids(copy):
    root = copy("RAND_CITYSCAPES")
    tree = root / "toy/RAND_CITYSCAPES/GT"
    shutil.copy(tree / "COLOR/0000001.png", tree / "LABELS/0000001.png")
    assert "use GT/LABELS, not GT/COLOR" in the_line(root, "toy_synthia")
    root = copy("gta5")
    write_png(root / "toy/gta5/labels/00001.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert "color picture of the labels" in the_line(root, "toy_gta5")


def test_train_ids_in_the_place_of_label_ids(copy):
    root = copy("cityscapes")
    for path in (root / "toy/cityscapes/gtFine/val").rglob("*_labelIds.png"):
        write_png(
            path,
            np.arange(HEIGHT * WIDTH, dtype=np.int64).reshape(HEIGHT, WIDTH).astype(np.uint8) % 19,
        )
    assert "look like train ids" in the_line(root, "toy_cityscapes_val")


def test_labels_without_any_class(copy):
    root = copy("bdd100k")
    for path in (root / "toy/bdd100k/labels").rglob("*.png"):
        write_png(path, np.full((HEIGHT, WIDTH), 255, np.uint8))
    assert "no label holds a class that is evaluated" in the_line(root, "toy_bdd100k_val")


@pytest.mark.parametrize(("value", "word"), [(0, "black"), (255, "white"), (90, "one color")])
def test_frames_that_show_nothing(copy, value, word):
    root = copy("gta5")
    write_png(root / "toy/gta5/images/00003.png", np.full((HEIGHT, WIDTH, 3), value, np.uint8))
    line = the_line(root, "toy_gta5")
    assert line.startswith("warning") and f"image is all {word}" in line.replace("of one", "one")


def test_unmatched_pairs_are_named(copy):
    root = copy("bdd100k", "cityscapes", "synthia_seqs")
    image = next((root / "toy/bdd100k/images/10k/train").iterdir())
    label = root / "toy/bdd100k/labels/sem_seg/masks/train" / f"{image.stem}.png"
    label.unlink()
    stray = label.with_name("stray.png")
    write_png(stray, np.zeros((HEIGHT, WIDTH), np.uint8))
    assert lines(root, "toy_bdd100k_train") == [
        f"warning: toy_bdd100k_train: {image} image without label: left out",
        f"warning: toy_bdd100k_train: {stray} label without image: left out",
    ]
    # A city without any label, and a frame of one season; names there are not the files' own.
    shutil.rmtree(root / "toy/cityscapes/gtFine/val/toyford")
    assert "toyford_000000_000019_leftImg8bit.png image without" in the_line(
        root, "toy_cityscapes_val"
    )
    camera = "Stereo_Left/Omni_F/000001.png"
    (root / "toy/synthia_seqs/SYNTHIA-SEQS-01-FALL/GT/LABELS" / camera).unlink()
    assert f"RGB/{camera} image without label" in the_line(root, "toy_synthia_seqs_fall")


def test_unlabeled_images_are_a_target(copy):
    root = copy("gta5", "kitti")
    shutil.rmtree(root / "toy/gta5/labels")
    shutil.rmtree(root / "toy/kitti/training/label_2")
    for name in ("toy_gta5", "toy_kitti_train"):
        assert lines(root, name) == []
        assert any("good as a target only" in line for line in lines(root, name, "info"))
