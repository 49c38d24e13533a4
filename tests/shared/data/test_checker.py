"""`datasets/check.py` passes what is sound and says in one line what is not."""

import hashlib
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checking import HEIGHT, QUIET, WIDTH, lines, truncate

from shared.cli import call
from shared.data.catalog import DETECTION, SEGMENTATION
from shared.data.checker import Options, check
from shared.data.contact_sheet import contact_sheet
from shared.data.images import read_image, write_png
from shared.data.records import Severity
from shared.errors import MissingFileError, UserError

SCRIPT = Path(__file__).parents[3] / "datasets" / "check.py"


def digest(root: Path) -> dict[str, str]:
    """Of every file but the loaders' hidden index."""
    return {
        path.relative_to(root).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".street_adapt_index" not in path.parts
    }


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
