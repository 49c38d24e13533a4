"""The command `street-adapt`, and what a foreign package called `shared` does to it."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import fails, run

import street_adapt
from street_adapt.command import COMMANDS, main

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = [
    *("seg_adapt/train.py", "seg_adapt/predict.py", "seg_adapt/convert_weights.py"),
    *("seg_adapt/pretrain_toy.py", "det_adapt/train_net.py", "det_adapt/predict.py"),
    *("datasets/make_toy.py", "datasets/check.py"),
]


@pytest.fixture(autouse=True)
def _arguments_of_pytest(monkeypatch):
    """`main` renames the process in sys.argv."""
    monkeypatch.setattr(sys, "argv", sys.argv)


def test_help_lists_every_command(capsys):
    assert run(main, "--help") == 0
    shown = capsys.readouterr().out
    for name, (summary, _) in COMMANDS.items():
        assert name in shown and summary in shown
    assert run(main) == 2
    assert capsys.readouterr().err == shown


def test_version(capsys):
    assert run(main, "--version") == 0
    assert capsys.readouterr().out == f"street-adapt {street_adapt.__version__}\n"


def test_unknown_command_is_answered_with_the_nearest(capsys):
    assert "unknown command 'trian': did you mean 'train'?" in fails(capsys, main, "trian")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["train", "--config-file", "road_gta5"], ["--method"]),
        (["train", "--config-file=sapnet_toy.yaml"], ["--engine"]),
        (["train", "--config-file", REPOSITORY / "configs/sapnet_toy.yaml"], ["--engine"]),
        (["train", "--method", "road"], ["--method"]),
        (["train", "--engine", "torchvision"], ["--engine"]),
        (["train"], ["--method", "--engine"]),
        (["predict"], ["--resize", "--engine", "--score"]),
        (["check"], ["--sheet"]),
        (["toy"], ["--layouts"]),
        (["convert"], ["--rates"]),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_a_command_has_the_options_of_its_script(arguments, options, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: street-adapt {arguments[0]} " in shown
    halves = {"--method", "--resize", "--engine", "--score"}
    assert {option for option in halves if f"[{option} " in shown} == halves & {*options}
    assert all(f"[{option} " in shown for option in options)


def test_an_experiment_of_neither_half_asks_which(tmp_path, capsys):
    path = tmp_path / "short.yaml"
    path.write_text("SOLVER: {MAX_ITER: 2}\n")
    assert "choose by --method or --engine" in fails(capsys, main, "train", "--config-file", path)


def test_missing_experiments_and_runs_are_named(tmp_path, capsys):
    line = fails(capsys, main, "train", "--config-file", "raod_gta5")
    assert "did you mean 'road_gta5'" in line
    line = fails(capsys, main, "predict", "--checkpoint", tmp_path, tmp_path, "--output", "out")
    assert "no checkpoint at" in line


def test_it_trains_and_predicts(settings, toy_root, tmp_path, capsys):
    path = tmp_path / "run"
    words = ["--config-file", "toy", "--method", "source_only", "--output", path, *settings]
    assert run(main, "train", *words) == 0
    assert (
        '"command": "street-adapt train --config-file toy'
        in (path / "environment.json").read_text()
    )
    image = next((toy_root / "toy/cityscapes/leftImg8bit/val").rglob("*.png"))
    assert run(main, "predict", "--checkpoint", path, image, "--output", tmp_path / "out") == 0
    assert (tmp_path / "out" / f"{image.stem}_labelIds.png").is_file()


def python(*arguments, first):
    """Python in the folder `first`, which also comes first on its path."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=first,
        env={"PYTHONPATH": f"{first}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(params=["a package", "a module", "one with the same names"])
def foreign(request, tmp_path):
    """A folder with another `shared`."""
    if request.param == "a module":
        (tmp_path / "shared.py").touch()
    else:
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / "__init__.py").touch()
    if request.param == "one with the same names":
        (tmp_path / "shared" / "cli.py").write_text("def run(main): pass\n")
    return tmp_path


def test_a_foreign_shared_is_one_line_and_exit_code_2(foreign):
    result = python("-m", "street_adapt", "check", "--help", first=foreign)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "another package 'shared'" in result.stderr and str(foreign / "shared") in result.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_in_one_line_that_another_shared_may_hide_ours(script, tmp_path):
    (tmp_path / "shared.py").touch()
    result = python(REPOSITORY / script, "--help", first=tmp_path)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "another package 'shared' hides ours" in result.stderr


@pytest.mark.parametrize(
    "program", ["import street_adapt; street_adapt.load", "from street_adapt import Adaptation"]
)
def test_from_python_a_foreign_shared_is_an_import_error(program, foreign):
    result = python("-c", program, first=foreign)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ImportError: another package 'shared'")


def test_a_mere_folder_called_shared_hides_nothing(tmp_path):
    (tmp_path / "shared").mkdir()
    assert python("-m", "street_adapt", "toy", "--help", first=tmp_path).returncode == 0
