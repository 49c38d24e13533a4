import pytest
from fvcore.common.config import CfgNode

from shared.config import CONFIGS, find_config, flatten, load_config
from shared.errors import MissingFileError, UserError


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
        ("", "holds nothing, expected 'key: value' lines"),
        ("N: 1\nN: 2\n", "key 'N' stands there twice"),
        ("SOLVER: {LR: 1, LR: 2}\n", "key 'LR' stands there twice"),
        ("_BASE_: 3\n", "is 3, expected the name of a file"),
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


def test_experiments_are_found_by_name_from_anywhere(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("road_gta5") == find_config("road_gta5.yaml") == CONFIGS / "road_gta5.yaml"
    with pytest.raises(MissingFileError, match=r"'rod_gta5'.*did you mean 'road_gta5'\?"):
        find_config("rod_gta5")
    with pytest.raises(MissingFileError, match=r"elsewhere/road_gta5.*did you mean 'road_gta5'\?"):
        find_config("elsewhere/road_gta5.yaml")
    (tmp_path / "toy").mkdir()
    assert find_config("toy") == CONFIGS / "toy.yaml"
    # A file of one's own comes first.
    (tmp_path / "toy.yaml").write_text("N: 3\n")
    assert load_config(tree, "toy.yaml").N == 3
