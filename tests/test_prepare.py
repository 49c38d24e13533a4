"""The lists that `datasets/prepare_*.py` write, and what they leave alone."""

import runpy
from pathlib import Path

import pytest

from shared.catalog import load_detection
from shared.cli import call
from shared.toy.layouts import make_toy

SCRIPT = Path(__file__).parents[1] / "datasets" / "prepare_clipart.py"


def prepare(root: Path) -> int:
    return call(runpy.run_path(str(SCRIPT))["main"], ["--root", str(root)])


@pytest.fixture
def lists(tmp_path) -> Path:
    folder = tmp_path / "clipart/ImageSets/Main"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("10\n2\n")
    (folder / "test.txt").write_text("7\n10\n\n")
    return folder


def test_the_union_is_written_once(lists, tmp_path, capsys):
    assert prepare(tmp_path) == 0
    path = lists / "traintest.txt"
    assert path.read_text().split() == ["10", "2", "7"]
    before = path.stat().st_mtime_ns
    assert prepare(tmp_path) == 0
    assert path.stat().st_mtime_ns == before
    assert "3 images" in capsys.readouterr().out
    assert sorted(p.name for p in lists.iterdir()) == ["test.txt", "train.txt", "traintest.txt"]


def test_the_same_list_in_another_order_is_left_as_it_is(lists, tmp_path):
    path = lists / "traintest.txt"
    path.write_text("7\n2\n10\n")
    assert prepare(tmp_path) == 0
    assert path.read_text() == "7\n2\n10\n"


@pytest.mark.parametrize("content", ["", "10\n2\n", "10\n2\n7\n8\n"])
def test_another_list_is_not_overwritten(lists, tmp_path, capsys, content):
    path = lists / "traintest.txt"
    path.write_text(content)
    assert prepare(tmp_path) == 2
    assert path.read_text() == content
    assert "left as it is" in capsys.readouterr().err


def test_nothing_is_written_where_a_list_is_missing_or_empty(lists, tmp_path, capsys):
    (lists / "train.txt").write_text("")
    (lists / "test.txt").write_text("")
    assert prepare(tmp_path) == 2
    assert "are empty" in capsys.readouterr().err
    (lists / "test.txt").unlink()
    assert prepare(tmp_path) == 2
    assert "test.txt" in capsys.readouterr().err
    assert not (lists / "traintest.txt").exists()
    assert prepare(tmp_path / "nowhere") == 2


def test_an_interrupted_run_leaves_no_list(lists, tmp_path, monkeypatch):
    def interrupt(path: Path, target: Path):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    assert prepare(tmp_path) == 130
    assert sorted(p.name for p in lists.iterdir()) == ["test.txt", "train.txt"]


def test_the_list_holds_what_the_loader_reads(tmp_path):
    make_toy(
        tmp_path, ["clipart"], count=3, val_count=2, height=64, width=128, workers=1, progress=False
    )
    assert prepare(tmp_path / "toy") == 0
    written = (tmp_path / "toy/clipart/ImageSets/Main/traintest.txt").read_text().split()
    assert written == [r.name for r in load_detection("toy_clipart_traintest", tmp_path).records]
