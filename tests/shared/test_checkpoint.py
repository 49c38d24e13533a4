import random
import zipfile
from pathlib import Path

import pytest
import torch
from fvcore.common.config import CfgNode

from shared import checkpoint
from shared.errors import MissingFileError, UserError


def test_checkpoint_round_trip_and_errors(tmp_path):
    path = tmp_path / "deep" / "a.pt"
    checkpoint.save({"x": torch.arange(3), "n": 1.5}, path)
    assert checkpoint.load(path)["x"].tolist() == [0, 1, 2]
    assert [p.name for p in path.parent.iterdir()] == ["a.pt"]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot read"):
        checkpoint.load(path)
    with pytest.raises(MissingFileError, match="no checkpoint"):
        checkpoint.load(tmp_path / "b.pt")
    torch.save(CfgNode({"A": 1}), path)
    with pytest.raises(UserError, match="holds more than tensors"):
        checkpoint.load(path)


@pytest.mark.parametrize("state", [{"a": torch.zeros(1)}, {"format": 2}, [1]])
def test_a_file_that_is_no_checkpoint_of_a_run_is_named(state, tmp_path):
    checkpoint.save(state, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"no checkpoint of a run of train\.py"):
        checkpoint.load_run(tmp_path / "last.pt", 1, "train.py")


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save({"weights": torch.randn(2000), "config": "x" * 500}, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        [weights] = [entry for entry in archive.infolist() if entry.file_size == 8000]
    generator = random.Random(0)
    for _ in range(50):
        position = content.index(weights.filename.encode()) + 200 + generator.randrange(7000)
        flipped = bytearray(content)
        flipped[position] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"checksum of .* is wrong"):
            checkpoint.load(path)


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_the_last_checkpoints_are_kept(tmp_path, keep):
    path = tmp_path / "last.pt"
    for n in range(5):
        checkpoint.save({"n": n}, path, keep=keep)
    files = [path, *(checkpoint.previous(path, number) for number in range(1, 9))]
    there = [checkpoint.load(file)["n"] for file in files if file.is_file()]
    assert there == [4, 3, 2, 1, 0][:keep]
    checkpoint.save({"n": 5}, path, keep=2)  # fewer from now on
    assert [checkpoint.load(file)["n"] for file in files if file.is_file()] == [5, 4]


def test_the_checkpoint_before_is_named_where_the_last_is_damaged(tmp_path):
    path = tmp_path / "last.pt"
    for n in range(3):
        checkpoint.save({"n": n}, path, keep=2)
    assert checkpoint.load(path) == {"n": 2}
    assert checkpoint.load(tmp_path / "last_previous.pt") == {"n": 1}
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"rename last_previous\.pt to it"):
        checkpoint.load(path)
    assert checkpoint.load(tmp_path / "last_previous.pt") == {"n": 1}


def test_a_look_gives_what_loading_gives_and_names_what_is_no_checkpoint(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save({"config": "x: 1", "w": torch.arange(3)}, path)
    state = checkpoint.peek(path)
    assert state["config"] == "x: 1" and state["w"].tolist() == [0, 1, 2]
    path.write_text("no checkpoint")
    with pytest.raises(UserError, match="cannot read"):
        checkpoint.peek(path)
    with pytest.raises(MissingFileError, match="no checkpoint"):
        checkpoint.peek(tmp_path / "b.pt")


def test_weights_that_are_not_finite_are_named():
    weights = {"a": torch.ones(3), "count": torch.tensor(2)}
    checkpoint.check_finite(weights, 7)
    weights["b"] = torch.tensor([1.0, float("nan")])
    with pytest.raises(UserError, match=r"not finite after iteration 7 \(b\)"):
        checkpoint.check_finite(weights, 7)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_and_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save({"n": 1}, path)
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *mode: opened(Path("/dev/full"), *mode))
    with pytest.raises(UserError, match=r"cannot write .*MB are free .*--resume"):
        checkpoint.save({"n": torch.zeros(10000)}, path)
    monkeypatch.undo()
    assert checkpoint.load(path) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_interrupted_save_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save({"n": 1}, path)

    class Interrupted:
        def __reduce__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({"n": Interrupted()}, path)
    assert checkpoint.load(path) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
