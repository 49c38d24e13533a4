"""Registry, command-line wrapper, config, schedules, checkpoints, events."""

import json

import pytest
import torch
from fvcore.common.config import CfgNode

from shared import checkpoint
from shared.cli import call
from shared.config import differences, dump_changed, flatten, load_config
from shared.errors import MissingFileError, UserError
from shared.events import RunLog, git_revision, read_metrics
from shared.registry import Registry
from shared.schedules import grl_ramp, multi_step, poly, warm_up


def test_registry_lists_what_there_is_and_names_the_nearest():
    registry = Registry("method")
    registry.add("road", 1)
    registry.add("plca", 2)
    assert registry.get("road") == 1
    with pytest.raises(UserError, match=r"'raod': did you mean 'road'\? .*plca, road"):
        registry.get("raod")
    with pytest.raises(KeyError, match="registered twice"):
        registry.add("road", 3)


def test_user_error_is_one_line_and_exit_code_2(capsys):
    def main(argv):
        raise UserError("got\n  this, expected that")

    assert call(main) == 2
    assert capsys.readouterr().err == "error: got this, expected that\n"


def test_a_bug_keeps_its_traceback():
    def main(argv):
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        call(main)


def test_missing_file_error_is_both_kinds():
    error = MissingFileError("no file here")
    assert isinstance(error, FileNotFoundError) and isinstance(error, UserError)
    assert str(error) == "no file here"


@pytest.fixture
def tree():
    return CfgNode({"SOLVER": {"LR": 0.1, "STEPS": [1, 2]}, "NAME": "", "FLAG": False, "N": 1})


def test_config_file_base_and_overrides(tree, tmp_path):
    (tmp_path / "base.yaml").write_text("NAME: base\nSOLVER:\n  LR: 1\n")
    (tmp_path / "child.yaml").write_text("_BASE_: base.yaml\nSOLVER:\n  STEPS: [5]\n")
    cfg = load_config(tree, tmp_path / "child.yaml", ["FLAG", "True"])
    assert load_config(tree, None, ["SOLVER.STEPS", "[a, b]"]).SOLVER.STEPS == ["a", "b"]
    assert load_config(tree, None, ["SOLVER.LR", "1e-4", "NAME", "7"]).SOLVER.LR == 1e-4
    assert flatten(cfg) == {
        "SOLVER.LR": 1.0,
        "SOLVER.STEPS": [5],
        "NAME": "base",
        "FLAG": True,
        "N": 1,
    }
    assert isinstance(cfg.SOLVER.LR, float)
    assert tree.NAME == ""


def test_what_differs_from_the_defaults_is_an_experiment_file(tree, tmp_path):
    path = tmp_path / "config.yaml"
    for overrides in ([], ["SOLVER.LR", "1e-5", "SOLVER.STEPS", "(3,)", "NAME", "7", "N", "1"]):
        cfg = load_config(tree, None, overrides)
        path.write_text(dump_changed(cfg, tree))
        assert differences(load_config(tree, path), cfg) == {}
        assert set(flatten(CfgNode(CfgNode.load_yaml_with_base(str(path))))) <= set(overrides) - {
            "N"
        }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SOLVER.LRR", "1"], "unknown key 'SOLVER.LRR'.*did you mean 'SOLVER.LR'"),
        (["N", "many"], "wrong value in the command line: .*N"),
        (["SOLVER.LR", "fast"], "wrong value in the command line: .*SOLVER.LR"),
        (["N"], "KEY VALUE pairs"),
    ],
)
def test_config_refuses(tree, overrides, message):
    with pytest.raises(UserError, match=message):
        load_config(tree, None, overrides)


def test_config_refuses_bad_files(tree, tmp_path):
    with pytest.raises(MissingFileError, match=r"no config file .*nope.yaml"):
        load_config(tree, tmp_path / "nope.yaml")
    (tmp_path / "typo.yaml").write_text("SOLVR:\n  LR: 1\n")
    with pytest.raises(UserError, match=r"unknown key 'SOLVR.LR' in .*typo.yaml"):
        load_config(tree, tmp_path / "typo.yaml")
    (tmp_path / "broken.yaml").write_text("A: [1\n")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(tree, tmp_path / "broken.yaml")
    for text, message in (
        ("", "not a YAML file of `KEY: value` lines"),
        ("- N\n", "holds a list"),
        ("N:\n", "'N' in .* has no value"),
        ("1: 2\n", "unknown key '1'"),
        ("_BASE_: odd.yaml\n", "leads back to itself"),
    ):
        (tmp_path / "odd.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            load_config(tree, tmp_path / "odd.yaml")
    (tmp_path / "orphan.yaml").write_text("_BASE_: gone.yaml\n")
    with pytest.raises(MissingFileError, match=r"gone\.yaml"):
        load_config(tree, tmp_path / "orphan.yaml")


def test_schedules():
    assert poly(0, 100) == 1.0
    assert poly(50, 100) == pytest.approx(0.5**0.9)
    assert poly(100, 100) == poly(150, 100) == 0.0
    assert [warm_up(s, 4) for s in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]
    assert warm_up(0, 0) == 1.0
    assert [multi_step(s, (10, 20)) for s in (9, 10, 20)] == [1.0, 0.1, pytest.approx(0.01)]
    assert grl_ramp(0, 10) == 0.0
    assert grl_ramp(5, 10) == pytest.approx(0.9866143)
    assert grl_ramp(99, 10) == grl_ramp(10, 10)


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


def test_metrics_are_json_lines_and_resume_drops_what_came_after(tmp_path):
    log = RunLog(tmp_path, total=4)
    for iteration in (1, 2, 3):
        log.write("train", iteration, {"loss/seg": 0.5, "accuracy/domain": float("nan")})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "itera')
    resumed = RunLog(tmp_path, total=4, start=2)
    resumed.write("eval", 4, {"miou": 10.0, "iou": {"road": None}})
    resumed.close()
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [x["iteration"] for x in lines] == [1, 2, 4]
    assert lines[0]["accuracy/domain"] is None
    assert read_metrics(tmp_path) == lines
    assert read_metrics(tmp_path / "nowhere") == []


def test_silent_process_writes_nothing(tmp_path):
    log = RunLog(tmp_path / "run", total=1, active=False)
    log.write("train", 1, {"loss": 1.0})
    log.advance()
    log.say("hello")
    log.close()
    assert not (tmp_path / "run").exists()


def test_git_revision_is_a_commit_or_unknown():
    revision, dirty = git_revision()
    assert revision == "unknown" or len(revision) == 40
    assert isinstance(dirty, bool)
