"""Toy data sets are finished, mended or refused, never half of one thing and half of another."""

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
from shared.data.catalog import load_detection
from shared.data.images import read_image
from shared.errors import UserError
from shared.toy.layouts import LAYOUTS, make_toy

SCRIPT = Path(__file__).parents[2] / "datasets" / "make_toy.py"
HEIGHT, WIDTH = 96, 192
SMALL = {
    "count": 3,
    "val_count": 2,
    "workers": 1,
    "progress": False,
    "height": HEIGHT,
    "width": WIDTH,
}


@pytest.fixture
def root(all_toys) -> Path:
    return all_toys


def content(root: Path) -> dict[str, bytes]:
    """Of every file but the loaders' hidden index."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in files
        if ".street_adapt_index" not in path.parts
    }


def test_every_file_is_in_a_manifest_and_nothing_else_is_left(root):
    toy = root / "toy"
    listed = {f"{name}.json" for name in LAYOUTS}
    for name in LAYOUTS:
        manifest = json.loads((toy / f"{name}.json").read_text())
        assert len(manifest["files"]) == len(set(manifest["files"]))
        listed.update(manifest["files"])
    assert set(content(toy)) == listed


def test_the_files_do_not_depend_on_workers_but_on_the_seed(root, tmp_path):
    chosen = ["gta5", "cityscapes_foggy", "sim10k"]
    make_toy(tmp_path / "two", chosen, **SMALL | {"workers": 2})
    two = content(tmp_path / "two")
    one = content(root)
    assert two == {file: one[file] for file in two}
    assert len(two) > 30
    make_toy(tmp_path / "other", ["gta5"], **SMALL | {"count": 1, "seed": 1})
    other = content(tmp_path / "other")
    image = "toy/gta5/images/00001.png"
    assert other[image] != one[image]


def test_it_leaves_complete_data_alone_and_mends_the_rest(tmp_path):
    arguments = SMALL | {"count": 2, "val_count": 0}
    assert make_toy(tmp_path, ["gta5"], **arguments)
    before = content(tmp_path)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert not make_toy(tmp_path, ["gta5"], **arguments)
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    (tmp_path / "toy/gta5/labels/00002.png").unlink()
    assert make_toy(tmp_path, ["gta5"], **arguments)
    assert content(tmp_path) == before


def test_a_killed_run_is_finished_by_the_next(tmp_path):
    arguments = SMALL | {"count": 120, "val_count": 0}
    command = [sys.executable, str(SCRIPT), "--root", str(tmp_path), "--layouts", "gta5"]
    command += ["--count", "120", "--val-count", "0", "--workers", "1"]
    command += ["--size", str(HEIGHT), str(WIDTH)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    images = tmp_path / "toy/gta5/images"
    deadline = time.monotonic() + 60
    while not images.is_dir() or sum(1 for _ in images.iterdir()) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "toy/gta5.json").exists()
    done = {p: p.stat().st_mtime_ns for p in images.glob("[0-9]*.png")}
    with pytest.raises(UserError, match=r"seed 0.*asked for.*seed 1.*--force"):
        make_toy(tmp_path, ["gta5"], **arguments | {"seed": 1})
    make_toy(tmp_path, ["gta5"], **arguments)
    make_toy(tmp_path / "whole", ["gta5"], **arguments)
    whole = content(tmp_path / "whole/toy")
    assert whole == {f: c for f, c in content(tmp_path / "toy").items() if "/." not in f}
    # Only the frame that the kill fell into may have been written again.
    assert sum(p.stat().st_mtime_ns != t for p, t in done.items()) <= 1


def test_other_parameters_are_refused_until_forced(tmp_path):
    arguments = SMALL | {"count": 2, "val_count": 1}
    make_toy(tmp_path, ["cityscapes_foggy"], **arguments)
    before = content(tmp_path)
    for change in ({"seed": 1}, {"count": 1}, {"val_count": 2}, {"height": HEIGHT + 32}):
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
    with pytest.raises(UserError, match="did you mean 'cityscapes'"):
        make_toy(tmp_path, ["cityscape"], **SMALL)
    with pytest.raises(UserError, match="got 0 training"):
        make_toy(tmp_path, ["gta5"], **SMALL | {"count": 0})
    with pytest.raises(UserError, match="-1 workers"):
        make_toy(tmp_path, ["gta5"], **SMALL | {"workers": -1})
    with pytest.raises(UserError, match="no layout named"):
        make_toy(tmp_path, [], **SMALL)


def test_a_run_that_wrote_no_frame_binds_nobody(tmp_path):
    make_toy(tmp_path, ["gta5"], **SMALL | {"count": 1})
    (tmp_path / "toy/gta5.json").rename(tmp_path / "toy/gta5.unfinished.json")
    with pytest.raises(UserError, match="asked for"):
        make_toy(tmp_path, ["gta5"], **SMALL | {"count": 1, "seed": 1})
    for picture in tmp_path.rglob("*.png"):
        picture.unlink()
    make_toy(tmp_path, ["gta5"], **SMALL | {"count": 1, "seed": 1})
    assert json.loads((tmp_path / "toy/gta5.json").read_text())["seed"] == 1


def test_a_broken_manifest_is_named(tmp_path):
    manifest = tmp_path / "toy/gta5.json"
    manifest.parent.mkdir()
    manifest.write_text("{")
    with pytest.raises(UserError, match=r"gta5\.json is no manifest"):
        make_toy(tmp_path, ["gta5"], **SMALL)


def test_command_line(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    picture = tmp_path / "toy.png"
    assert main(["--preview", str(picture), "--size", "64", "128"]) == 0
    assert read_image(picture).shape[2] > 4 * 128
    arguments = [
        "--root",
        str(tmp_path),
        "--layouts",
        "kitti",
        "--count",
        "1",
        "--size",
        "64",
        "128",
    ]
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
    load_detection("toy_sim10k", tmp_path, labelled=True)
    assert list((tmp_path / "toy").rglob(".street_adapt_index/*"))
    make_toy(tmp_path, ["sim10k"], **arguments | {"seed": 1}, force=True)
