"""Signals that end a training after the iteration it is in, with that iteration saved."""

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, what SLURM, Docker and spot machines send, and a terminal that closes.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_SECONDS = 1.0


@contextmanager
def held_back(first: Callable[[int], None]) -> Iterator[None]:
    """Within, the first of `SIGNALS` only calls `first` with its number; a later one acts at once.

    Those that come within `SAME_SECONDS` are the first once more: a job's signal reaches a process
    from the system and from the one that launched it. In another thread than the main one, signals
    act as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    began: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if not began:
            began.append(time.monotonic())
            first(number)
        elif time.monotonic() - began[0] > SAME_SECONDS:
            restore()
            os.kill(os.getpid(), number)

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    former = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        restore()


def resume_command() -> str:
    """This process's command, with --resume."""
    command, *words = [word for word in sys.argv if word != "--resume"]
    command = f"python {command}" if command.endswith(".py") else command
    return f"{command} --resume {shlex.join(words)}"
