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
