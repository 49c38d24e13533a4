"""Indexes of data sets that are slow to make (thousands of XML files), kept until a file changes.

An index lies in a hidden folder beside the data, where every machine that sees the data finds it,
or in the user's cache folder where the data cannot be written to.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared.files import write_atomically

logger = logging.getLogger(__name__)

VERSION = 1
FOLDER = ".street_adapt_index"


def _digest(*parts: object) -> str:
    return hashlib.blake2b(
        repr(parts).encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    # The change time shows edits whose author put the modification time back, as archivers do.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _rows(path: str, seen: set[tuple[int, int]]) -> list:
    """Name and stamp of every visible file below `path`, folders by their content alone."""
    status = Path(path).stat()
    if (status.st_dev, status.st_ino) in seen:
        return ["seen"]  # a link to a folder above would never end
    seen.add((status.st_dev, status.st_ino))
    rows = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            try:
                content = _rows(entry.path, seen) if entry.is_dir() else _stamp(entry.stat())
            except OSError as error:
                content = error.errno
            rows.append((entry.name, content))
    return sorted(rows, key=lambda row: row[0])


def fingerprint(watched: Sequence[Path]) -> str:
    """Changes when a file at or below `watched` is added, removed, renamed or written to.

    Hidden files and folders do not count, and what is missing counts as missing. No file is opened.
    """
    seen: set[tuple[int, int]] = set()
    rows = []
    for path in watched:
        try:
            rows.append(_rows(str(path), seen) if path.is_dir() else _stamp(path.stat()))
        except OSError as error:
            rows.append(error.errno)
    return _digest(rows)


def _places(name: str, watched: Sequence[Path]) -> list[Path]:
    """Where the index may lie, the best place first."""
    absolute = [os.path.abspath(path) for path in watched]  # noqa: PTH100 (keeps links as they are)
    # The paths as given count too: an index made through relative paths may hold relative paths.
    file_name = f"{name}-{_digest(absolute, [str(path) for path in watched])}.json"
    places = []
    try:
        beside = Path(os.path.commonpath([Path(path).parent for path in absolute]))
        if beside != beside.parent:
            places.append(beside / FOLDER / file_name)
    except ValueError:
        pass  # different drives
    try:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        places.append(user / "street_adapt" / file_name)
    except RuntimeError:
        pass  # no home folder
    return places


def _read(place: Path, state: str) -> str | None:
    """The index in JSON, where `place` holds a whole one of this state of the files."""
    try:
        head, _, body = place.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return body if head == _head(state, body) else None


def _head(state: str, body: str) -> str:
    return json.dumps({"version": VERSION, "files": state, "index": _digest(body)})


def _write(places: list[Path], content: str) -> None:
    for place in places:
        try:
            write_atomically(place, content.encode())
            return
        except OSError as error:
            logger.debug("no index at %s: %s", place, error)


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
        body = _read(place, state)
        if body is not None:
            return json.loads(body)
    body = json.dumps(build())
    # Files that are still being unpacked: the index may hold neither the old state nor the new.
    if fingerprint(watched) == state:
        _write(places, f"{_head(state, body)}\n{body}")
    return json.loads(body)
