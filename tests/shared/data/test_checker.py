"""`datasets/check.py` passes what is sound and says in one line what is not."""

import hashlib
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shared.cli import call
from shared.data.catalog import DETECTION, SEGMENTATION
from shared.data.checker import Options, check, present_names
from shared.data.contact_sheet import contact_sheet
from shared.data.images import read_image, write_png
from shared.data.records import Severity
from shared.errors import MissingFileError, UserError

SCRIPT = Path(__file__).parents[3] / "datasets" / "check.py"
QUIET = Options(workers=1, progress=False)
HEIGHT, WIDTH = 96, 192  # of the toys


@pytest.fixture
def copy(all_toys, tmp_path):
    """`copy(folder, …)`: the data root of a copy of those folders of the toys."""

    def copied(*folders: str) -> Path:
        for folder in folders:
            shutil.copytree(all_toys / "toy" / folder, tmp_path / "data/toy" / folder)
        return tmp_path / "data"

    return copied


def digest(root: Path) -> dict[str, str]:
    """Of every file but the loaders' hidden index."""
    return {
        path.relative_to(root).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".street_adapt_index" not in path.parts
    }


def lines(root: Path, name: str, *severities: str, options: Options = QUIET) -> list[str]:
    printed = str(check(name, root, options)).splitlines()[:-1]
    chosen = tuple(f"{s}: " for s in severities or ("error", "warning"))
    return [line for line in printed if line.startswith(chosen) and "published" not in line]


def the_line(root: Path, name: str, *severities: str) -> str:
    found = lines(root, name, *severities)
    assert len(found) == 1, found
    return found[0]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


TOY_NAMES = sorted(n for n in (*SEGMENTATION, *DETECTION) if n.startswith("toy_"))


@pytest.mark.parametrize("name", TOY_NAMES)
def test_toys_of_every_layout_pass(all_toys, name):
    report = check(name, all_toys, QUIET)
    assert report.errors == 0
    assert report.frames > 0
    assert [f for f in report.faults if f.severity == Severity.WARNING and f.file] == []


def test_the_published_counts_are_compared(all_toys):
    found = [f.message for f in check("toy_gta5", all_toys, QUIET).faults]
    assert "3 frames, 24964 were published" in found
    found = [f.message for f in check("toy_voc0712_trainval", all_toys, QUIET).faults]
    assert "3 frames, 16551 were published" in found


def test_shares_of_the_classes_are_those_of_the_label_files(copy):
    root = copy("gta5")
    for path in (root / "toy/gta5/labels").iterdir():
        labels = np.full((HEIGHT, WIDTH), 7, np.uint8)
        labels[: HEIGHT // 4] = 23
        labels[: HEIGHT // 8] = 0
        write_png(path, labels)
    found = lines(root, "toy_gta5", "info")
    assert any(line.endswith("road 75.00, sky 12.50, ignored 12.50") for line in found)
    absent = next(line for line in found if "never occur" in line)
    assert "sidewalk, building" in absent and "road" not in absent


def test_a_sample_opens_so_many_frames(copy):
    root = copy("gta5")
    truncate(root / "toy/gta5/images/00002.png")
    assert check("toy_gta5", root, Options(1, 1, False)).frames == 1
    assert lines(root, "toy_gta5", options=Options(2, 1, False)) == []
    assert len(lines(root, "toy_gta5", options=Options(3, 1, False))) == 1
    with pytest.raises(UserError, match="sample of 0"):
        Options(0)


def test_workers_find_the_same(copy):
    root = copy("RAND_CITYSCAPES")
    truncate(root / "toy/RAND_CITYSCAPES/RGB/0000001.png")
    one = check("toy_synthia", root, QUIET)
    two = check("toy_synthia", root, Options(None, 2, False))
    assert one.faults == two.faults
    assert one.errors == 1


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


def main(*arguments: str) -> int:
    return call(runpy.run_path(str(SCRIPT))["main"], list(arguments))


def test_command_line_of_sound_data(all_toys, tmp_path, capsys):
    before = digest(all_toys)
    sheet = tmp_path / "sheet.png"
    assert main("all", "--root", str(all_toys), "--workers", "1", "--sheet", str(sheet)) == 0
    output = capsys.readouterr()
    assert "toy_gta5: 3 frames decoded, 0 errors, 1 warnings" in output.out
    assert "not below" in output.err and "cityscapes_train" in output.err
    assert digest(all_toys) == before
    assert read_image(sheet).shape[1] > 4000


def test_command_line_of_faulty_data(copy, capsys):
    root = copy("gta5")
    truncate(root / "toy/gta5/images/00001.png")
    before = digest(root)
    assert main("toy_gta5", "--root", str(root)) == 1
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("error: toy_gta5: ") for line in printed) == 1
    assert all(line.split(":")[0] in ("error", "warning", "info", "toy_gta5") for line in printed)
    sheet = root / "toy/gta5/images/sheet.png"
    assert main("toy_gta5", "--root", str(root), "--sheet", str(sheet)) == 2
    assert "lies among the images" in capsys.readouterr().err
    assert digest(root) == before


def test_command_line_that_cannot_check(all_toys, tmp_path, capsys):
    assert main("gta5", "--root", str(tmp_path)) == 2
    assert "no folder" in capsys.readouterr().err
    assert main("gta6", "--root", str(tmp_path)) == 2
    assert "did you mean 'gta5'?" in capsys.readouterr().err
    assert main("all", "--root", str(tmp_path)) == 2
    assert "no data set below" in capsys.readouterr().err
    assert main("all", "--root", str(tmp_path / "nowhere")) == 2
    assert main("all", "--root", str(tmp_path), "--sheet", "sheet.jpg") == 2
    with pytest.raises(UserError, match="-1 workers"):
        check("toy_gta5", all_toys, Options(workers=-1, progress=False))
    with pytest.raises(MissingFileError):
        check("kitti_train", tmp_path, QUIET)


def test_a_sheet_leaves_out_what_cannot_be_read(copy):
    root = copy("gta5")
    dataset = [check("toy_gta5", root, QUIET).files]
    whole = contact_sheet(dataset)
    truncate(root / "toy/gta5/images/00001.png")
    assert contact_sheet(dataset).shape[1] < whole.shape[1]
    for path in (root / "toy/gta5/images").iterdir():
        truncate(path)
    with pytest.raises(UserError, match="no frame"):
        contact_sheet(dataset)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_an_interrupted_check_leaves_everything_as_it_was(copy):
    root = copy("gta5")
    for number in range(4, 400):
        for folder in ("images", "labels"):
            path = root / f"toy/gta5/{folder}"
            (path / f"{number:05d}.png").hardlink_to(path / "00001.png")
    before = digest(root)
    command = [sys.executable, str(SCRIPT), "toy_gta5", "--root", str(root), "--workers", "2"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # A background job is started with Ctrl-C ignored, and so would be its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # Until the progress bar counts: Ctrl-C is held off while the workers start.
    seen = b""
    while not re.search(rb"[1-9]\d*/399 ", seen):
        part = process.stderr.read1(64)
        assert part, "it ended before it could be interrupted"
        seen += part
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert b"Traceback" not in process.stderr.read()
    assert digest(root) == before


def test_every_data_set_is_documented():
    page = SCRIPT.with_name("README.md").read_text()
    for name in (*SEGMENTATION, *DETECTION):
        assert name.startswith("toy_") or f"`{name}`" in page, name
