"""What a run's folder says of itself."""

import json

import pytest
import yaml
from fvcore.common.config import CfgNode

from shared.config import differences, load_config
from shared.errors import MissingFileError, UserError
from shared.run.folder import (
    check_same_run,
    checkpoint_at,
    comparable_baseline,
    is_finished,
    settings_of,
    total_iterations,
    write_config,
)

SETTINGS = {"SEED": 0, "DATASETS": {"TEST": "toy"}, "SOLVER": {"MAX_ITER": 4}}


def run_at(folder, iteration, kind="eval", settings=SETTINGS):
    """The folder of a run that was last heard of at an iteration."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "metrics.jsonl").write_text(json.dumps({"kind": kind, "iteration": iteration}))
    return folder


def test_a_run_is_finished_when_it_is_scored_at_its_end(tmp_path):
    assert is_finished(run_at(tmp_path / "whole", 4))
    assert not is_finished(run_at(tmp_path / "half", 2))
    assert not is_finished(run_at(tmp_path / "killed before its score", 4, "train"))
    assert not is_finished(tmp_path)


def test_a_run_with_nothing_to_score_is_finished_when_it_is_trained(tmp_path):
    settings = SETTINGS | {"DATASETS": {"TEST": []}}
    assert is_finished(run_at(tmp_path / "whole", 4, "train", settings))
    assert not is_finished(run_at(tmp_path / "half", 3, "train", settings))


def test_iterations_are_those_of_all_stages():
    rounds = {"SELF_TRAINING.ROUNDS": 3, "SELF_TRAINING.ITERATIONS": 5}
    assert total_iterations({"SOLVER.MAX_ITER": 4}) == 4
    assert total_iterations({"SOLVER.MAX_ITER": 4, "SOURCE_STAGE.ITERATIONS": 2} | rounds) == 21


def test_settings_survive_their_file(tmp_path):
    cfg = CfgNode({"A": {"B": (1, 2), "NONE": None}, "C": "x"})
    write_config(tmp_path, cfg)
    assert settings_of(tmp_path) == {"A.B": [1, 2], "C": "x"}


def test_a_resumed_run_may_grow_but_not_change():
    then = {"SEED": 0, "SOLVER.MAX_ITER": 4, "MODEL.DEVICE": "cpu"}
    check_same_run("run", then, then | {"MODEL.DEVICE": "cuda"})
    check_same_run("run", then, then | {"SOLVER.MAX_ITER": 6})
    with pytest.raises(UserError, match=r"SOLVER\.MAX_ITER was 4, is 3"):
        check_same_run("run", then, then | {"SOLVER.MAX_ITER": 3})
    with pytest.raises(UserError, match=r"MAX_ITER was 4, is 6 \(the rates would change\)"):
        check_same_run(
            "run", then, then | {"SOLVER.MAX_ITER": 6}, extendable="the rates would change"
        )
    with pytest.raises(UserError, match="SEED was 0, is 1"):
        check_same_run("run", then, then | {"SEED": 1, "SOLVER.MAX_ITER": 6})


def test_only_runs_scored_alike_are_compared(tmp_path, caplog):
    cfg = CfgNode(SETTINGS)
    other = CfgNode(SETTINGS | {"DATASETS": {"TEST": "real"}, "SEED": 1})
    run = run_at(tmp_path / "run", 4)
    assert comparable_baseline(cfg, named=run, default=None) == run
    assert comparable_baseline(cfg, named=None, default=run) == run
    assert comparable_baseline(cfg, named=None, default=tmp_path / "none") is None
    assert comparable_baseline(other, named=None, default=run) is None
    assert "DATASETS.TEST is 'toy', here 'real'" in caplog.text
    with pytest.raises(UserError, match=r"cannot compare with .*DATASETS.TEST is 'toy'"):
        comparable_baseline(other, named=run, default=None)
    with pytest.raises(MissingFileError, match="no finished run"):
        comparable_baseline(cfg, named=tmp_path / "none", default=run)


def test_another_training_of_the_baseline_is_said(tmp_path, caplog):
    cfg = CfgNode(SETTINGS | {"SEED": 1})
    run = run_at(tmp_path / "run", 4)
    assert comparable_baseline(cfg, named=run, default=None, trained_with=["SEED"]) == run
    assert "SEED is 0, here 1" in caplog.text


def test_a_checkpoint_is_found_by_its_run(tmp_path):
    with pytest.raises(MissingFileError, match="expected a run's folder"):
        checkpoint_at(tmp_path)
    (tmp_path / "model_0004.pth").write_text("")
    (tmp_path / "last_checkpoint").write_text("model_0004.pth")
    assert checkpoint_at(tmp_path) == tmp_path / "model_0004.pth"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").write_text("")
    assert checkpoint_at(tmp_path) == tmp_path / "checkpoints" / "last.pt"


def test_what_differs_from_the_defaults_is_an_experiment_file(tmp_path):
    tree = CfgNode(
        {"SOLVER": {"LR": 0.1, "STEPS": (1, 2), "MAX_ITER": 9}, "DATASETS": {"TEST": ()}}
    )
    for overrides in ([], ["SOLVER.LR", "1e-5", "SOLVER.STEPS", "(3,)"]):
        cfg = load_config(tree, None, overrides)
        write_config(tmp_path, cfg, tree)
        again = load_config(tree, tmp_path / "config.yaml")
        assert differences(again, cfg) == {}
        always = {"SOLVER.MAX_ITER", "DATASETS.TEST"}
        assert settings_of(tmp_path).keys() == always | set(overrides[::2])
