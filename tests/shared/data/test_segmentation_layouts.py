"""Layouts of segmentation data sets: complete, sorted, and nothing beside them."""

import logging
from pathlib import Path

import pytest

from shared.data.catalog import SEGMENTATION, load_segmentation
from shared.data.images import ENCODINGS
from shared.data.label_maps import ID_TABLES
from shared.errors import MissingFileError, UserError

CAMVID = (
    *("0001TP_008520", "0001TP_008550", "0006R0_f00930", "0016E5_07957", "0016E5_07959"),
    *("0016E5_08159", "0016E5_08161", "Seq05VD_f00000"),
)
CAMERA = "Stereo_Left/Omni_F"


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def fill(root: Path) -> None:
    """One or two frames of every data set, in its layout."""
    for n in ("00002", "00001"):
        touch(root, f"gta5/images/{n}.png", f"gta5/labels/{n}.png")
        touch(root, f"RAND_CITYSCAPES/RGB/{n}.png", f"RAND_CITYSCAPES/GT/LABELS/{n}.png")
    for split in ("train", "val"):
        for frame in ("bremen_000001_000019", "aachen_000002_000019", "aachen_000001_000019"):
            city = frame.split("_")[0]
            touch(
                root / "cityscapes",
                f"leftImg8bit/{split}/{city}/{frame}_leftImg8bit.png",
                f"gtFine/{split}/{city}/{frame}_gtFine_labelIds.png",
                f"gtFine/{split}/{city}/{frame}_gtFine_instanceIds.png",
                f"gtFine/{split}/{city}/{frame}_gtFine_color.png",
            )
        touch(
            root / "bdd100k",
            f"images/10k/{split}/a.jpg",
            f"labels/sem_seg/masks/{split}/a.png",
        )
    touch(root, *(f"kitti_semantics/training/{f}/000000_10.png" for f in ("image_2", "semantic")))
    for frame in CAMVID:
        touch(root, f"CamVid/701_StillsRaw_full/{frame}.png")
        touch(root, f"CamVid/LabeledApproved_full/{frame}_L.png")
    for sequence in ("04-SUMMER", "01-SUMMER", "02-FALL", "02-WINTER", "05-SPRING"):
        for folder in ("RGB", "GT/LABELS"):
            touch(root, f"synthia_seqs/SYNTHIA-SEQS-{sequence}/{folder}/{CAMERA}/000000.png")
        touch(root, f"synthia_seqs/SYNTHIA-SEQS-{sequence}/RGB/Stereo_Right/Omni_F/000001.png")


@pytest.fixture
def root(tmp_path):
    fill(tmp_path)
    fill(tmp_path / "toy")
    return tmp_path


def test_every_name_loads_complete_sorted_and_unique(root):
    real = [
        *("gta5", "synthia", "cityscapes_train", "cityscapes_val"),
        *("synthia_seqs_summer", "synthia_seqs_fall", "synthia_seqs_winter"),
        *("bdd100k_train", "bdd100k_val"),
    ]
    without_toy = [
        *("camvid_train", "camvid_val", "camvid_test", "camvid_0001tp", "camvid_0006r0"),
        *("camvid_0016e5", "camvid_seq05vd", "kitti_semantics"),
    ]
    toys = (f"toy_{name}" for name in real)
    assert list(SEGMENTATION) == sorted([*real, *without_toy, *toys])
    for name in SEGMENTATION:
        dataset = load_segmentation(name, root, labeled=True)
        names = [r.name for r in dataset.records]
        assert names == sorted(set(names))
        assert names
        assert dataset.name == name
        assert dataset.id_table in ID_TABLES
        assert dataset.encoding in ENCODINGS
        for record in dataset.records:
            assert record.image.is_file()
            assert record.label.is_file()
            assert ("toy" in record.image.relative_to(root).parts) == name.startswith("toy_")


def test_cityscapes_frames_and_official_root(root):
    dataset = load_segmentation("cityscapes_val", root)
    assert [r.name for r in dataset.records] == [
        "aachen_000001_000019",
        "aachen_000002_000019",
        "bremen_000001_000019",
    ]
    assert dataset.records[2].label.name == "bremen_000001_000019_gtFine_labelIds.png"
    assert dataset.official_root == root / "cityscapes"
    assert load_segmentation("toy_cityscapes_val", root).official_root == root / "toy/cityscapes"
    assert load_segmentation("cityscapes_train", root).official_root is None
    assert load_segmentation("gta5", root).official_root is None


def test_gta5_skips_the_invalid_frames_and_drops_unmatched_ones(root, caplog):
    for name in ("15188", "17705"):
        touch(root, f"gta5/images/{name}.png", f"gta5/labels/{name}.png")
    with caplog.at_level(logging.WARNING):
        assert [r.name for r in load_segmentation("gta5", root).records] == ["00001", "00002"]
        assert not caplog.records
        touch(root, "gta5/images/00003.png", "gta5/images/00004.png", "gta5/labels/00005.png")
        touch(root, "gta5/images/._00001.png", "gta5/images/Thumbs.db")
        assert [r.name for r in load_segmentation("gta5", root).records] == ["00001", "00002"]
    assert "images/00003.png image without label: left out (and 1 more)" in caplog.text
    assert "labels/00005.png label without image: left out\n" in caplog.text


def test_synthia_seqs_takes_the_forward_camera_of_every_sequence_of_the_season(root):
    summer = load_segmentation("synthia_seqs_summer", root).records
    assert [r.name for r in summer] == [
        "SYNTHIA-SEQS-01-SUMMER_000000",
        "SYNTHIA-SEQS-04-SUMMER_000000",
    ]
    base = root / "synthia_seqs/SYNTHIA-SEQS-04-SUMMER"
    assert summer[1].image == base / f"RGB/{CAMERA}/000000.png"
    assert summer[1].label == base / f"GT/LABELS/{CAMERA}/000000.png"


def test_other_places_of_synthia(tmp_path):
    rand = tmp_path / "synthia/RAND_CITYSCAPES"
    touch(rand, "RGB/0000000.png", "synthia_mapped_to_cityscapes/0000000.png")
    record = load_segmentation("synthia", tmp_path).records[0]
    assert record.label == rand / "synthia_mapped_to_cityscapes/0000000.png"
    touch(rand, "GT/LABELS/0000000.png")
    record = load_segmentation("synthia", tmp_path).records[0]
    assert record.label == rand / "GT/LABELS/0000000.png"


def test_both_releases_of_bdd100k(tmp_path):
    touch(tmp_path / "old/bdd100k/seg", "images/val/a-b.jpg", "labels/val/a-b_train_id.png")
    touch(
        tmp_path / "new/bdd100k",
        "images/10k/val/a-b.jpg",
        "images/10k/val/lonely.jpg",
        "labels/sem_seg/masks/val/a-b.png",
    )
    for release, label in (("old", "a-b_train_id.png"), ("new", "a-b.png")):
        (record,) = load_segmentation("bdd100k_val", tmp_path / release).records
        assert (record.name, record.label.name) == ("a-b", label)


@pytest.mark.parametrize("release", ["original", "SegNet's"])
def test_splits_and_sequences_of_camvid(release, tmp_path):
    if release == "original":
        fill(tmp_path)
    else:
        for frame, split in zip(
            CAMVID, ["train", "test", "train", "train", "val", "val", "train", "test"], strict=True
        ):
            touch(tmp_path, f"CamVid/{split}/{frame}.png", f"CamVid/{split}annot/{frame}.png")

    def names(name: str) -> list[str]:
        dataset = load_segmentation(name, tmp_path, labeled=True)
        assert (dataset.encoding, dataset.id_table) == (
            ("camvid", "camvid") if release == "original" else ("index", "camvid11")
        )
        return [record.name for record in dataset.records]

    assert names("camvid_train") == [CAMVID[i] for i in (0, 2, 3, 6)]
    assert names("camvid_val") == ["0016E5_07959", "0016E5_08159"]
    assert names("camvid_test") == ["0001TP_008550", "Seq05VD_f00000"]
    assert names("camvid_0016e5") == [f"0016E5_0{n}" for n in (7957, 7959, 8159, 8161)]
    assert names("camvid_0001tp") == ["0001TP_008520", "0001TP_008550"]
    assert names("camvid_seq05vd") == ["Seq05VD_f00000"]


@pytest.mark.parametrize("name", ["cityscapes_train", "synthia_seqs_winter", "bdd100k_train"])
def test_a_target_without_label_folder_has_no_labels(name, tmp_path):
    touch(tmp_path, "cityscapes/leftImg8bit/train/a/a_0_0_leftImg8bit.png")
    touch(tmp_path, f"synthia_seqs/SYNTHIA-SEQS-01-WINTER/RGB/{CAMERA}/000000.png")
    touch(tmp_path, "bdd100k/images/10k/train/a.jpg")
    dataset = load_segmentation(name, tmp_path)
    assert [r.label for r in dataset.records] == [None]
    with pytest.raises(MissingFileError, match="labels are needed, but there is no folder"):
        load_segmentation(name, tmp_path, labeled=True)


def test_folders_without_frames_are_named(tmp_path):
    (tmp_path / "synthia_seqs").mkdir()
    with pytest.raises(MissingFileError, match=r"SYNTHIA-SEQS-\S*-FALL/RGB"):
        load_segmentation("synthia_seqs_fall", tmp_path)
    (tmp_path / "gta5/images").mkdir(parents=True)
    with pytest.raises(UserError, match="data set 'gta5': no images in"):
        load_segmentation("gta5", tmp_path)
    touch(tmp_path, "gta5/images/1.png", "gta5/labels/2.png")
    with pytest.raises(UserError, match="none of the 1 images"):
        load_segmentation("gta5", tmp_path)
