"""The command `street-adapt`."""

import sys
from pathlib import Path

import pytest
from commands import fails, run

import street_adapt
from street_adapt.command import COMMANDS, main

REPOSITORY = Path(__file__).parents[1]


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


@pytest.mark.parametrize(
    ("command", "option", "nearest"),
    [
        ("train", "--confg-file", "--config-file"),
        ("predict", "--chekpoint", "--checkpoint"),
        ("check", "--shet", "--sheet"),
        ("toy", "--layout", "--layouts"),
        ("convert", "--rate", "--rates"),
    ],
)
def test_unknown_options_are_answered_with_the_nearest(command, option, nearest, capsys):
    line = fails(capsys, main, command, option, "x")
    assert f"unknown option '{option}': did you mean '{nearest}'" in line


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
