"""Several processes on this machine: the command once more in each, with torchrun's environment."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

_POLL_SECONDS = 0.2


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
    children = [
        subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | together | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]
    try:
        while any(child.poll() is None for child in children):
            failed = [child.returncode for child in children if child.returncode]
            if failed:
                return failed[0]
            time.sleep(_POLL_SECONDS)
        return next((child.returncode for child in children if child.returncode), 0)
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
        for child in children:
            child.wait()
