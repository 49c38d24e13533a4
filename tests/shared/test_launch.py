"""What is printed of the errors of several processes."""

import pytest

from shared.run import launch
from shared.run.launch import Machines


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch):
    monkeypatch.setattr(launch, "_GRACE_SECONDS", 0.1)


@pytest.fixture
def ends(tmp_path, capfd):
    """The exit code and the errors of two processes that run a script."""

    def run(script):
        (tmp_path / "script.py").write_text(script)
        code = launch.launch([str(tmp_path / "script.py")], Machines(2))
        return code, capfd.readouterr().err

    return run


def test_an_error_of_all_processes_is_printed_once(ends):
    assert ends("import sys\nprint('error: ours', file=sys.stderr)\nsys.exit(2)\n") == (
        2,
        "error: ours\n",
    )


def test_an_error_of_one_process_ends_all_and_is_printed(ends):
    script = (
        "import os, sys, time\n"
        "if os.environ['RANK'] == '1':\n    sys.exit('error: mine')\n"
        "time.sleep(60)\n"
    )
    assert ends(script) == (1, "error: mine\n")


def test_no_error_is_no_line(ends):
    assert ends("") == (0, "")
