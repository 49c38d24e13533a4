"""The lock of a run's folder."""

import json
import os
import platform
import subprocess
import sys

import pytest

from shared.errors import UserError
from shared.run.lock import HOLDER, locked

HOLD = """
import sys, time
from pathlib import Path
from shared.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_in_use_is_refused_with_who_uses_it(other, tmp_path):
    message = rf"is in use by process {other.pid} on .* since 2.*--output"
    with pytest.raises(UserError, match=message), locked(tmp_path):
        pass


def test_a_killed_process_leaves_neither_lock_nor_half_a_file(other, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f".last.{platform.node()}.{other.pid}.part.pt").touch()
    others = [f".a.{platform.node()}.{os.getpid()}.part.png", ".last.elsewhere.12.part.pt"]
    for name in others:
        (tmp_path / "checkpoints" / name).touch()
    other.kill()
    other.wait()
    with locked(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
        # What is being written, or may be on another machine, stays.
        assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {*others}
    assert not (tmp_path / HOLDER).exists()
    with locked(tmp_path):
        pass
