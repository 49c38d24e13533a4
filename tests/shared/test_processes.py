import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from shared.errors import MissingFileError, UserError
from shared.processes import in_processes, prefetch, worker_count


def square(number):
    return number * number


def refuse(number):
    if number == 3:
        raise MissingFileError(f"no file {number}")
    return number


def end(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_the_order_of_their_jobs(workers):
    assert list(prefetch(square, range(9), workers)) == [n * n for n in range(9)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_users_error_comes_as_it_is_and_after_what_was_before(workers):
    results = prefetch(refuse, range(9), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(MissingFileError, match=r"^no file 3$"):
        next(results)
    assert multiprocessing.active_children() == []


def test_results_that_nobody_asks_for_any_more_leave_no_worker():
    results = prefetch(square, range(1000), 2)
    assert next(results) == 0
    assert len(multiprocessing.active_children()) == 2
    del results
    assert multiprocessing.active_children() == []


def test_a_worker_that_ends_too_early_is_one_line():
    with pytest.raises(UserError, match="use fewer workers") as error:
        list(prefetch(end, range(3), 1))
    assert "\n" not in str(error.value)


@pytest.mark.timeout(60)
def test_workers_start_beside_the_threads_of_opencv():
    """A forked process would wait for ever for threads that it does not have."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 5)
    time.sleep(0.5)  # until they sleep
    assert list(prefetch(square, range(3), 1)) == [0, 1, 4]
    assert cv2.getNumThreads() == 4
    cv2.setNumThreads(threads)


def test_how_many_workers_there_are():
    assert [worker_count(workers, 3) for workers in (1, 2, 9)] == [1, 2, 3]
    assert worker_count(0, 3) == 1
    assert 1 <= worker_count(0, 10**6) <= os.cpu_count()
    with pytest.raises(UserError, match="-1 workers"):
        in_processes(square, range(3), -1)


def slow(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(0.2)
    return bytes(2**20)  # more than a pipe holds


@pytest.fixture
def working(request, tmp_path):
    """A command with two workers, each at work: (its process, the workers' ids)."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from shared.cli import run
        from shared.processes import {request.param}
        from test_processes import slow

        def main(argv=None):
            list({request.param}(slow, [{str(tmp_path / "ids")!r}] * 1000, 2))

        if __name__ == "__main__":
            run(main)
        """)
    )
    ids = tmp_path / "ids"
    ids.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A background job is started with Ctrl-C ignored, and so would be its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(ids.iterdir())) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    yield process, [int(path.name) for path in ids.iterdir()]
    process.kill()
    process.wait()


def is_alive(pid):
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("working", "by"),
    [("prefetch", "the user"), ("in_processes", "the system")],
    indirect=["working"],
)
def test_workers_end_with_the_process_that_started_them(working, by):
    process, workers = working
    assert all(map(is_alive, workers))
    if by == "the user":
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert b"Traceback" not in process.stderr.read()
    else:
        process.kill()
    deadline = time.monotonic() + 30
    while any(map(is_alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- faults of workers ----------------------------------------------------------------------------


def zeros(megabytes):
    return {
        "images": [torch.zeros(megabytes * 2**20, dtype=torch.uint8)],
        "none": torch.zeros(0, 4),
    }


FAULTS = """
import multiprocessing, os, signal, sys, time
sys.path.insert(0, {folder!r})
from shared.cli import run
from shared.processes import prefetch
from test_processes import zeros

def main(argv=None):
    results, kept = prefetch(zeros, [{megabytes}] * 99, 2, timeout={timeout}), []
    kept.append(next(results))
    if {number}:
        os.kill(multiprocessing.active_children()[0].pid, {number})
    if {number} == signal.SIGKILL:
        time.sleep(60)  # the main process is elsewhere, as in a step
    kept += results

run(main)
"""


def fault(tmp_path, *before, megabytes=1, timeout=0, number=0):
    """The exit code and the last line of a command whose worker meets a fault."""
    folder = str(Path(__file__).parent)
    script = FAULTS.format(folder=folder, megabytes=megabytes, timeout=timeout, number=number)
    (tmp_path / "script.py").write_text(script)
    command = [*before, sys.executable, "-W", "ignore", str(tmp_path / "script.py")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.returncode, ended.stderr


def test_a_worker_that_the_system_kills_is_one_line_wherever_the_main_process_is(tmp_path):
    code, line = fault(tmp_path, number=int(signal.SIGKILL))
    assert code == 2 and "lack of memory" in line and "DATALOADER.NUM_WORKERS" in line


def test_a_worker_that_gives_nothing_is_not_waited_for_for_ever(tmp_path):
    code, line = fault(tmp_path, number=int(signal.SIGSTOP), timeout=3)
    assert code == 2 and "gave nothing for 3 s" in line and "DATALOADER.TIMEOUT" in line


def small_shared_memory() -> list[str]:
    """The beginning of a command that has 16 MB of it; skips where the system allows none."""
    command = ["unshare", "--mount", "--", "sh", "-c"]
    mounted = 'mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"'
    try:
        subprocess.run([*command, mounted, "sh", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small /dev/shm")
    return [*command, mounted, "sh"]


@pytest.mark.parametrize("megabytes", [5, 30], ids=["after a while", "at once"])
def test_no_room_for_the_results_of_workers_is_one_line(tmp_path, megabytes):
    """It was a hang: the worker's thread that hands over has nobody who hears of its error."""
    code, line = fault(tmp_path, *small_shared_memory(), megabytes=megabytes)
    assert code == 2 and "no room in /dev/shm" in line and "--shm-size" in line
