"""Files that are written whole or not at all."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import UserError

_HOST = platform.node()  # processes of several machines may write to one disk


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes that name when the block ends without an error.

    Whatever happens in between, `path` holds what it held before. The suffix is kept, since some
    writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{_HOST}.{os.getpid()}.part{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Removes what processes of this machine that have ended left half written below `folder`."""
    for partial in folder.rglob(f".*.{_HOST}.*.part*"):
        process = re.search(rf"\.{re.escape(_HOST)}\.(\d+)\.part", partial.name)
        if process is not None and not _is_running(int(process[1])):
            partial.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def check_writable(folder: Path, named_by: str) -> None:
    """UserError where results could not be written to `folder`; makes those above it, not itself.

    Args:
        named_by: the argument or key that names another.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        existing = folder if folder.exists() else folder.parent
        if not (existing.is_dir() and os.access(existing, os.W_OK)):
            raise PermissionError(f"{existing} is no folder that can be written to")
    except OSError as error:
        raise UserError(
            f"cannot write to the folder {folder} ({error}): name another with {named_by}"
        ) from error
