"""Toy data sets are made when missing; finished, completed or refused, never mixed."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.cli import call
from shared.data.catalog import DETECTION, SEGMENTATION, load_detection
from shared.data.images import read_image
from shared.errors import UserError
from shared.toy.layouts import LAYOUTS, ensure, make_toy, toy_layouts

SCRIPT = Path(__file__).parents[2] / "datasets" / "make_toy.py"
SMALL = {"workers": 1, "progress": False, "height": 64, "width": 128}


def content(root: Path) -> dict[str, bytes]:
    """Of every file but the loaders' hidden index."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in files
        if ".street_adapt_index" not in path.parts
    }


def manifest(root: Path) -> dict:
    return json.loads((root / "toy/gta5.json").read_text())


def times(paths) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in paths}


def test_every_file_is_in_a_manifest_and_nothing_else_is_left(all_toys):
    toy = all_toys / "toy"
    listed = {f"{name}.json" for name in LAYOUTS}
    for name in LAYOUTS:
        files = json.loads((toy / f"{name}.json").read_text())["files"]
        assert len(files) == len(set(files))
        listed.update(files)
    assert set(content(toy)) == listed


def test_the_files_do_not_depend_on_workers_but_on_the_seed(all_toys, tmp_path):
    size = SMALL | {"height": 96, "width": 192, "count": 3, "val_count": 2}
    make_toy(tmp_path / "two", ["gta5", "cityscapes_foggy", "sim10k"], **size | {"workers": 2})
    two, one = content(tmp_path / "two"), content(all_toys)
    assert two == {file: one[file] for file in two}
    assert len(two) > 30
    make_toy(tmp_path / "other", ["gta5"], **size | {"count": 1, "seed": 1})
    image = "toy/gta5/images/00001.png"
    assert content(tmp_path / "other")[image] != one[image]


def test_it_leaves_complete_data_alone_and_completes_the_rest(tmp_path):
    arguments = SMALL | {"count": 2, "val_count": 0}
    assert make_toy(tmp_path, ["gta5"], **arguments)
    before = content(tmp_path)
    written = times(tmp_path.rglob("*"))
    assert not make_toy(tmp_path, ["gta5"], **arguments)
    assert written == times(tmp_path.rglob("*"))
    (tmp_path / "toy/gta5/labels/00002.png").unlink()
    assert make_toy(tmp_path, ["gta5"], **arguments)
    assert content(tmp_path) == before


def test_a_killed_run_is_finished_by_the_next(tmp_path):
    arguments = SMALL | {"count": 60, "val_count": 0}
    command = [sys.executable, str(SCRIPT), "--root", str(tmp_path), "--layouts", "gta5"]
    command += ["--count", "60", "--val-count", "0", "--workers", "1", "--size", "64", "128"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    images = tmp_path / "toy/gta5/images"
    deadline = time.monotonic() + 60
    while not images.is_dir() or sum(1 for _ in images.iterdir()) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not manifest(tmp_path)["complete"]
    done = times(images.glob("[0-9]*.png"))
    with pytest.raises(UserError, match=r"seed 0.*asked for.*seed 1.*--force"):
        make_toy(tmp_path, ["gta5"], **arguments | {"seed": 1})
    make_toy(tmp_path, ["gta5"], **arguments)
    assert manifest(tmp_path)["complete"]
    make_toy(tmp_path / "whole", ["gta5"], **arguments)
    whole = content(tmp_path / "whole/toy")
    assert whole == {f: c for f, c in content(tmp_path / "toy").items() if "/." not in f}
    # Only the frame that the kill fell into may have been written again.
    assert sum(path.stat().st_mtime_ns != t for path, t in done.items()) <= 1


def test_other_parameters_are_refused_until_forced(tmp_path):
    arguments = SMALL | {"count": 2, "val_count": 1}
    make_toy(tmp_path, ["cityscapes_foggy"], **arguments)
    before = content(tmp_path)
    for change in ({"seed": 1}, {"count": 1}, {"val_count": 2}, {"height": 96}):
        with pytest.raises(UserError, match="asked for"):
            make_toy(tmp_path, ["cityscapes"], **arguments | change)
    assert content(tmp_path) == before
    make_toy(tmp_path, ["cityscapes"], **arguments | {"count": 1, "seed": 1}, force=True)
    make_toy(tmp_path / "new", ["cityscapes_foggy"], **arguments | {"count": 1, "seed": 1})
    new = content(tmp_path / "new")
    # The foggy pictures of the old scenes would not have fitted the new annotations.
    assert {f: c for f, c in content(tmp_path).items() if not f.startswith("new")} == new


def test_foreign_files_are_neither_mixed_in_nor_deleted(tmp_path):
    own = tmp_path / "toy/gta5/images/mine.png"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    arguments = SMALL | {"count": 1, "val_count": 0}
    for force in (False, True):
        with pytest.raises(UserError, match=r"mine\.png was not made by make_toy"):
            make_toy(tmp_path, ["gta5"], **arguments, force=force)
    assert content(tmp_path) == {"toy/gta5/images/mine.png": b"mine"}


def test_unknown_layouts_and_impossible_counts_are_named(tmp_path):
    arguments = SMALL | {"count": 1, "val_count": 0}
    for layouts, change, message in (
        (["cityscape"], {}, "did you mean 'cityscapes'"),
        (["gta5"], {"count": 0}, "got 0 training"),
        (["gta5"], {"workers": -1}, "-1 workers"),
        ([], {}, "no layout named"),
    ):
        with pytest.raises(UserError, match=message):
            make_toy(tmp_path, layouts, **arguments | change)


def test_a_run_that_wrote_no_frame_binds_nobody(tmp_path):
    arguments = SMALL | {"count": 1, "val_count": 0}
    make_toy(tmp_path, ["gta5"], **arguments)
    path = tmp_path / "toy/gta5.json"
    path.write_text(json.dumps(manifest(tmp_path) | {"complete": False}))
    with pytest.raises(UserError, match="asked for"):
        make_toy(tmp_path, ["gta5"], **arguments | {"seed": 1})
    for picture in tmp_path.rglob("*.png"):
        picture.unlink()
    make_toy(tmp_path, ["gta5"], **arguments | {"seed": 1})
    assert manifest(tmp_path)["seed"] == 1


def test_a_broken_manifest_is_named(tmp_path):
    path = tmp_path / "toy/gta5.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(UserError, match=r"gta5\.json is no manifest"):
        make_toy(tmp_path, ["gta5"], count=1, val_count=0, **SMALL)


def test_command_line(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    picture = tmp_path / "toy.png"
    assert main(["--preview", str(picture), "--size", "64", "128"]) == 0
    assert read_image(picture).shape[2] > 4 * 128
    arguments = ["--root", str(tmp_path), "--layouts", "kitti", "--count", "1"]
    arguments += ["--size", "64", "128"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith(f"toy data sets in {tmp_path / 'toy'}\n")
    assert (tmp_path / "toy/kitti/training/label_2/000000.txt").is_file()
    capsys.readouterr()
    assert call(main, ["--root", str(tmp_path), "--layouts", "gta6"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown toy layout 'gta6'") and error.count("\n") == 1


def test_indexes_beside_the_data_are_no_foreign_files(tmp_path):
    arguments = SMALL | {"count": 2, "val_count": 0}
    make_toy(tmp_path, ["sim10k"], **arguments)
    load_detection("toy_sim10k", tmp_path, labeled=True)
    assert list((tmp_path / "toy").rglob(".street_adapt_index/*"))
    make_toy(tmp_path, ["sim10k"], **arguments | {"seed": 1}, force=True)


def test_the_toy_data_sets_and_no_others_have_a_layout():
    for name in (*SEGMENTATION, *DETECTION):
        layouts = toy_layouts([name])
        assert len(layouts) == name.startswith("toy_")
        assert set(layouts) <= set(LAYOUTS)
    for name in ("", "toy_cityscapes_trian", "toy_gta55", "toy_cityscapes_train_fine"):
        assert toy_layouts([name]) == []
    names = ["toy_gta5", "toy_cityscapes_train", "toy_cityscapes_det_val", "gta5"]
    names += [
        "toy_foggy_cityscapes_val",
        "toy_synthia",
        "toy_synthia_seqs_fall",
        "toy_voc2007_test",
    ]
    expected = ["gta5", "cityscapes", "cityscapes_foggy", "synthia", "synthia_seqs", "voc"]
    assert toy_layouts(names) == expected


def test_what_is_missing_is_made_once(tmp_path):
    ensure(["toy_gta5"], tmp_path, count=1, val_count=0)
    path = tmp_path / "toy/gta5.json"
    before = path.stat().st_mtime_ns
    ensure(["toy_gta5"], tmp_path, count=2, val_count=0)
    assert path.stat().st_mtime_ns == before
    assert len(list((tmp_path / "toy/gta5/images").iterdir())) == 1


def test_data_of_another_version_is_refused_and_renewed_by_force(tmp_path):
    arguments = SMALL | {"count": 1, "val_count": 0}
    make_toy(tmp_path, ["gta5"], **arguments)
    path = tmp_path / "toy/gta5.json"
    path.write_text(json.dumps(manifest(tmp_path) | {"generator": 0}))
    with pytest.raises(UserError, match=r"is of version 0 .* this is 1: renew it with: .*--force"):
        ensure(["toy_gta5"], tmp_path, count=1, val_count=0)
    with pytest.raises(UserError, match=r"generator 0; asked for: .* generator 1"):
        make_toy(tmp_path, ["gta5"], **arguments)
    make_toy(tmp_path, ["gta5"], **arguments, force=True)
    ensure(["toy_gta5"], tmp_path, count=1, val_count=0)
