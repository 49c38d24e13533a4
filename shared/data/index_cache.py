"""Indexes of data sets that are slow to make (thousands of XML files), kept until a file changes.

An index lies in a hidden folder beside the data, where every machine that sees the data finds it,
or in the user's cache folder where the data cannot be written to.
"""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.files import write_atomically

logger = logging.getLogger(__name__)

VERSION = 1
FOLDER = ".street_adapt_index"


def cached(name: str, watched: Sequence[Path], build: Callable[[], Any]) -> Any:
    """`build()`, or what it returned before if no file has changed since.

    Args:
        name: part of the file name; a data set's name and split, say.
        watched: all files and folders that `build` reads, folders with all that is below them.
        build: returns dicts with string keys, lists, strings, numbers, booleans and None. Tuples
            come back as lists, the first time too.
    """
    state = fingerprint(watched)
    places = _places(name, watched)
    for place in places:
        with suppress(OSError, UnicodeDecodeError):
            head, _, body = place.read_text(encoding="utf-8").partition("\n")
            if head == _head(state, body):
                return json.loads(body)
    body = json.dumps(build())
    # Files that are still being unpacked: the index may hold neither the old state nor the new.
    if fingerprint(watched) == state:
        _write(places, f"{_head(state, body)}\n{body}")
    return json.loads(body)


def fingerprint(watched: Sequence[Path]) -> str:
    """Changes when a file at or below `watched` is added, removed, renamed or written to.

    Hidden files and folders do not count, and what is missing counts as missing. No file is opened.
    """
    folders: set[tuple[int, int]] = set()
    return _digest([_stamp(path, folders) for path in watched])


def _stamp(entry: Path | os.DirEntry, folders: set[tuple[int, int]]) -> Any:
    """Size and times of a file; of a folder, which joins `folders`, the stamps of what is in it."""
    try:
        status = entry.stat()
        if not stat.S_ISDIR(status.st_mode):
            # The change time shows edits whose author put the modification time back.
            return status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if (status.st_dev, status.st_ino) in folders:
            return "link"  # one to a folder above would never end
        folders.add((status.st_dev, status.st_ino))
        with os.scandir(entry) as entries:
            return sorted((e.name, _stamp(e, folders)) for e in entries if e.name[0] != ".")
    except OSError as error:
        return error.errno


def _places(name: str, watched: Sequence[Path]) -> list[Path]:
    """Where the index may lie, the best place first."""
    absolute = [os.path.abspath(path) for path in watched]  # noqa: PTH100 (keeps links as they are)
    folders = []
    with suppress(ValueError):  # different drives
        beside = Path(os.path.commonpath([Path(path).parent for path in absolute]))
        if beside != beside.parent:
            folders.append(beside / FOLDER)
    with suppress(RuntimeError):  # no home folder
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folders.append(user / "street_adapt")
    # The paths as given count too: an index made through relative paths may hold relative paths.
    file_name = f"{name}-{_digest(absolute, [str(path) for path in watched])}.json"
    return [folder / file_name for folder in folders]


def _digest(*parts: object) -> str:
    content = repr(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _head(state: str, body: str) -> str:
    return json.dumps({"version": VERSION, "files": state, "index": _digest(body)})


def _write(places: Sequence[Path], content: str) -> None:
    for place in places:
        try:
            write_atomically(place, content.encode())
            return
        except OSError as error:
            logger.debug("no index at %s: %s", place, error)
