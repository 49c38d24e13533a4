"""Several processes: the command once more in each, with torchrun's environment.

Not by torchrun: where all processes refuse the same input, it prints a traceback and an error table
of each, and ends with 1; here it stays one line and exit code 2.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from urllib.parse import urlparse

from shared.errors import UserError
from shared.run.signals import held_back

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5


@dataclass(frozen=True)
class Machines:
    """Which processes of a run this machine starts.

    Args:
        processes: on this machine.
        count, rank: machines, and which of them this one is.
        address: `tcp://host:port` of machine 0; `auto` on a single machine.
    """

    processes: int = 1
    count: int = 1
    rank: int = 0
    address: str = "auto"

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise UserError(f"got --num-gpus {self.processes}, expected at least 1")
        if not 0 <= self.rank < self.count:
            raise UserError(
                f"got --machine-rank {self.rank} of --num-machines {self.count}: machines count "
                "from 0"
            )
        if self.count > 1 and (self.address == "auto" or urlparse(self.address).port is None):
            raise UserError(
                f"got --dist-url {self.address} with --num-machines {self.count}: expected "
                "tcp://host:port of machine 0, the same on every machine"
            )

    @property
    def world_size(self) -> int:
        return self.processes * self.count

    @property
    def to_launch(self) -> bool:
        """Whether the processes are still to be started; torchrun has started its own."""
        return self.world_size > 1 and int(os.environ.get("WORLD_SIZE", "1")) == 1

    def environment(self, local_rank: int) -> dict[str, str]:
        """torchrun's variables for one process."""
        host = urlparse(self.address)
        return {
            "MASTER_ADDR": host.hostname or "127.0.0.1",
            "MASTER_PORT": str(host.port or os.environ.get("MASTER_PORT", "0")),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_WORLD_SIZE": str(self.processes),
            "RANK": str(self.rank * self.processes + local_rank),
            "LOCAL_RANK": str(local_rank),
        }


def launch(command: Sequence[str], machines: Machines) -> int:
    """Runs `python *command` in each process of this machine; ends all where one fails.

    Returns:
        The exit code of the first that failed, 0 where none did.
    """
    port = {} if machines.count > 1 else {"MASTER_PORT": str(_free_port())}
    with ExitStack() as stack:
        # Only the first process prints an error that all of them share.
        errors = [None]
        errors += [stack.enter_context(TemporaryFile()) for _ in range(machines.processes - 1)]
        children = [
            subprocess.Popen(
                [sys.executable, *command],
                env=os.environ | machines.environment(rank) | port,
                stderr=errors[rank],
            )
            for rank in range(machines.processes)
        ]
        try:
            # They save and end by themselves; Ctrl-C reaches them without this process.
            with held_back(lambda number: _forward(number, children)):
                while _failed(children) is None and None in [child.poll() for child in children]:
                    time.sleep(_POLL_SECONDS)
            failed = _failed(children)  # asked again: the last may have failed since
            if failed is None:
                return 0
            with suppress(subprocess.TimeoutExpired):
                children[0].wait(_GRACE_SECONDS)
            if children[0].returncode != children[failed].returncode:
                errors[failed].seek(0)
                sys.stderr.write(errors[failed].read().decode(errors="replace"))
            return children[failed].returncode
        finally:
            for child in children:
                if child.poll() is None:
                    child.terminate()
            for child in children:
                child.wait()


def _forward(number: int, children: Sequence[subprocess.Popen]) -> None:
    if number != signal.SIGINT:
        for child in children:
            child.send_signal(number)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _failed(children: Sequence[subprocess.Popen]) -> int | None:
    """The rank of the first that ended with an error."""
    return next((rank for rank, child in enumerate(children) if child.poll()), None)
