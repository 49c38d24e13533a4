"""One command at a time writes into a run's folder."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from shared.errors import UserError
from shared.files import remove_partial_files, write_atomically

LOCK = ".lock"
HOLDER = ".running.json"

logger = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which the system frees when the process ends, however it does.

    What killed processes of this machine had begun to write is removed.

    Raises:
        UserError: another process holds it; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder} is in use{_holder(folder)}: wait until that has ended, stop it, or name "
            "another folder with --output"
        ) from None
    except (OSError, NotImplementedError) as error:
        logger.warning("%s cannot be locked (%s): start nothing else in it", folder, error)
    try:
        remove_partial_files(folder)
        holder = {"host": socket.gethostname(), "pid": os.getpid()}
        holder["since"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_atomically(folder / HOLDER, json.dumps(holder).encode())
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    """` by process 12 on host x since …`, where the file that says so can be read."""
    try:
        holder = json.loads((folder / HOLDER).read_text())
        return f" by process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
