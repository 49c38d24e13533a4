import json
import multiprocessing
import os
from pathlib import Path

import pytest

from shared.data.index_cache import FOLDER, cached, fingerprint

INDEX = {"frames": [["a.xml", 3, 1.5, None], ["ü.xml", -1, True, "x\ny"]]}


class Builder:
    """Counts how often it was asked."""

    def __init__(self, value=INDEX):
        self.calls = 0
        self.value = value

    def __call__(self):
        self.calls += 1
        return self.value


@pytest.fixture
def data(tmp_path, monkeypatch):
    """VOC-like folders with a city below one of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    root = tmp_path / "VOC"
    for name in ("Annotations/a.xml", "Annotations/b.xml", "Annotations/city/c.xml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("<object/>")
    (root / "split.txt").write_text("a\nb\n")
    return root


def watched(root: Path) -> list[Path]:
    return [root / "Annotations", root / "split.txt"]


def stored(root: Path) -> list[Path]:
    return sorted((root / FOLDER).iterdir())


def test_built_once_and_equal_ever_after(data):
    build = Builder()
    for _ in range(3):
        assert cached("sim10k", watched(data), build) == INDEX
    assert build.calls == 1
    [file] = stored(data)
    assert file.name.startswith("sim10k-") and file.suffix == ".json"
    assert sorted(p.name for p in data.iterdir()) == [FOLDER, "Annotations", "split.txt"]
    # Another name or other folders are another index.
    assert cached("voc", watched(data), Builder(1)) == 1
    assert cached("sim10k", watched(data)[:1], Builder(2)) == 2
    assert cached("sim10k", watched(data), build) == INDEX and build.calls == 1


def test_the_first_value_is_what_later_calls_get(data):
    first = cached("n", watched(data), Builder({"box": (1, 2)}))
    assert first == cached("n", watched(data), Builder()) == {"box": [1, 2]}


def _replace(root):
    (root / "Annotations/a.xml").rename(root / "Annotations/z.xml")


def _edit_in_secret(root):
    """The same size, and the old time put back."""
    file = root / "Annotations/city/c.xml"
    status = file.stat()
    file.write_text("<subject>")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "Annotations/new.xml").touch(),
        lambda root: (root / "Annotations/city/new.xml").touch(),
        lambda root: (root / "Annotations/city/c.xml").unlink(),
        lambda root: (root / "Annotations/a.xml").write_text("<longer object/>"),
        lambda root: (root / "split.txt").write_text("b\na\n"),
        lambda root: (root / "split.txt").unlink(),
        lambda root: (root / "Annotations").rename(root / "elsewhere"),
        _replace,
        _edit_in_secret,
    ],
)
def test_every_change_is_noticed(data, change):
    cached("n", watched(data), Builder("old"))
    change(data)
    build = Builder("new")
    assert [cached("n", watched(data), build) for _ in range(2)] == ["new", "new"]
    assert build.calls == 1
    assert len(stored(data)) == 1


def test_hidden_files_and_empty_places_do_not_count(data):
    before = fingerprint(watched(data))
    (data / "Annotations/.DS_Store").touch()
    assert fingerprint(watched(data)) == before
    absent = [data / "absent"]
    assert fingerprint(absent) == fingerprint(absent) != before


def test_links_are_followed_and_circles_end(data, tmp_path):
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "d.xml").touch()
    (data / "Annotations/linked").symlink_to(elsewhere)
    (data / "Annotations/city/up").symlink_to(data / "Annotations")
    (data / "Annotations/broken.xml").symlink_to(tmp_path / "nothing")
    before = fingerprint(watched(data))
    (elsewhere / "d.xml").write_text("x")
    assert fingerprint(watched(data)) != before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null\nnull",
        b'{"version": 1}\n{"frames": []}',
        lambda good: good[: len(good) // 2],
        lambda good: good.replace(b"a.xml", b"b.xml"),
        lambda good: good.replace(b'"version": 1', b'"version": 0'),
    ],
)
def test_a_corrupt_or_foreign_file_is_rebuilt(data, content):
    cached("n", watched(data), Builder())
    [file] = stored(data)
    good = file.read_bytes()
    file.write_bytes(content(good) if callable(content) else content)
    assert file.read_bytes() != good
    build = Builder()
    assert cached("n", watched(data), build) == INDEX
    assert build.calls == 1 and file.read_bytes() == good


def test_files_that_change_during_the_build_are_not_remembered(data):
    def build():
        (data / "Annotations/late.xml").touch()
        return "half"

    assert cached("n", watched(data), build) == "half"
    assert not (data / FOLDER).exists()
    assert cached("n", watched(data), Builder("whole")) == "whole"
    assert cached("n", watched(data), Builder("other")) == "whole"


def test_unwritable_data_use_the_cache_folder(data, tmp_path):
    # A file where the folder should be: not even root can write below it.
    (data / FOLDER).touch()
    build = Builder()
    assert cached("n", watched(data), build) == cached("n", watched(data), build) == INDEX
    assert build.calls == 1
    assert len(list((tmp_path / "home/street_adapt").iterdir())) == 1


def test_no_writable_place_at_all_is_no_error(data, tmp_path, monkeypatch):
    (data / FOLDER).touch()
    (tmp_path / "home").touch()
    build = Builder()
    assert cached("n", watched(data), build) == cached("n", watched(data), build) == INDEX
    assert build.calls == 2
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cached("n", watched(data), build) == INDEX


def test_relative_and_absolute_paths_are_kept_apart(data, monkeypatch):
    monkeypatch.chdir(data)
    relative = [Path("Annotations"), Path("split.txt")]
    assert cached("n", relative, Builder("relative")) == "relative"
    assert cached("n", watched(data), Builder("absolute")) == "absolute"
    assert cached("n", relative, Builder()) == "relative"
    assert len(stored(data)) == 2


def _work(root, answers):
    for _ in range(20):
        answers.put(cached("n", watched(root), Builder()))
        for file in (root / FOLDER).iterdir():
            file.unlink(missing_ok=True)


def test_processes_at_once(data):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_work, args=(data, answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert [answers.get(timeout=30) for _ in range(60)] == [INDEX] * 60
    for worker in workers:
        worker.join(timeout=30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def test_a_build_that_fails_leaves_nothing(data):
    def build():
        raise ValueError("a.xml is no XML")

    with pytest.raises(ValueError, match="no XML"):
        cached("n", watched(data), build)
    assert not (data / FOLDER).exists()
    with pytest.raises(TypeError):
        cached("n", watched(data), Builder(Path("not JSON")))
    assert not (data / FOLDER).exists()


def test_what_is_stored_is_json(data):
    cached("n", watched(data), Builder())
    head, body = stored(data)[0].read_text().split("\n")
    assert json.loads(head)["version"] == 1
    assert json.loads(body) == INDEX
