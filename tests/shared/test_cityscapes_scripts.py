"""The runner itself; what the scripts score with it is tested where it is used."""

import json
import os
import sys
from importlib import import_module

import numpy as np
import pytest

from shared.cityscapes_scripts import load_script, running_script
from shared.errors import UserError

NAMES = ("evalPixelLevelSemanticLabeling", "evalInstanceLevelSemanticLabeling")


@pytest.mark.parametrize("name", NAMES)
def test_only_the_copy_gets_what_numpy_lacks(name):
    before = set(vars(np))
    script = load_script(name)
    values = np.array([[1, 2], [3, 2]])
    assert script.np.in1d(values, [2, 5]).tolist() == [False, True, False, True]
    assert script.np.in1d(values, [2, 5], invert=True).tolist() == [True, False, True, False]
    assert json.dumps(script.np.count_nonzero(values)) == "4"
    assert script.np.unique is np.unique
    assert set(vars(np)) == before
    original = import_module(f"cityscapesscripts.evaluation.{name}")
    assert original.np is np
    assert original.args is not script.args


def test_the_environment_is_no_obstacle(monkeypatch, tmp_path):
    monkeypatch.setenv("CITYSCAPES_EXPORT_DIR", str(tmp_path / "absent"))
    load_script(NAMES[0])
    assert os.environ["CITYSCAPES_EXPORT_DIR"] == str(tmp_path / "absent")


def test_failures_are_one_line_and_output_is_kept_back(capsys):
    script = load_script(NAMES[0])
    with (
        pytest.raises(UserError, match=r"refused here: ERROR: no such file$"),
        running_script("here"),
    ):
        script.printError("no such file")
    with pytest.raises(UserError, match=r"failed on here: KeyError: 99$"), running_script("here"):
        script.id2label[99]
    with running_script("here"):
        print("Images Processed: 1")
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_that_the_script_caught_is_passed_on():
    with pytest.raises(KeyboardInterrupt), running_script("here"):
        try:
            raise KeyboardInterrupt
        except:  # noqa: E722 - as the script does
            sys.exit(-1)
