"""Several processes on this machine: the command once more in each, with torchrun's environment."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from tempfile import TemporaryFile

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5


def is_launched() -> bool:
    """Whether this process is one of several that torchrun or `launch` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch(command: Sequence[str], processes: int) -> int:
    """Runs `python *command` in each process; ends all where one fails.

    Returns:
        The exit code of the first that failed, 0 where none did.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    with ExitStack() as stack:
        # What is wrong for all, the first alone shall say.
        words = [None] + [stack.enter_context(TemporaryFile()) for _ in range(processes - 1)]
        children = [
            subprocess.Popen(
                [sys.executable, *command],
                env=os.environ | together | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=words[rank],
            )
            for rank in range(processes)
        ]
        try:
            while _failed(children) is None and None in [child.poll() for child in children]:
                time.sleep(_POLL_SECONDS)
            failed = _failed(children)  # asked again: the last may have failed since
            if failed is None:
                return 0
            with suppress(subprocess.TimeoutExpired):
                children[0].wait(_GRACE_SECONDS)
            if children[0].returncode != children[failed].returncode:
                words[failed].seek(0)
                sys.stderr.write(words[failed].read().decode(errors="replace"))
            return children[failed].returncode
        finally:
            for child in children:
                if child.poll() is None:
                    child.terminate()
            for child in children:
                child.wait()


def _failed(children: Sequence[subprocess.Popen]) -> int | None:
    """The place of the first that ended with an error."""
    return next((place for place, child in enumerate(children) if child.poll()), None)
