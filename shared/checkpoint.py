"""Checkpoints on disk: written whole or not at all, read without executing anything."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shared.errors import MissingFileError, UserError
from shared.files import replacing


def save(state: dict[str, Any], path: str | Path, *, keep: int = 1) -> None:
    """Writes `state` beside `path` first and renames it: an interrupted run leaves the old file.

    Args:
        state: tensors, numbers, strings and containers of them; nothing else can be read back.
        keep: how many of the last files of that name are there afterwards; see `previous`.
    """
    path = Path(path)
    with replacing(path) as partial:
        try:
            with partial.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            free = shutil.disk_usage(path.parent).free / 2**20
            raise UserError(
                f"cannot write {path} ({_first_line(error)}; {free:.0f} MB are free on that disk): "
                "the checkpoint before it is whole; make room, and --resume"
            ) from error
        _keep(path, keep - 1)


def check_finite(tensors: Mapping[str, torch.Tensor], iteration: int) -> None:
    """UserError where the weights after an iteration are not finite."""
    name = not_finite(tensors)
    if name is not None:
        raise UserError(
            f"the weights are not finite after iteration {iteration} ({name}), and are neither "
            "saved nor scored: lower the learning rate or lengthen the warm-up, and --resume from "
            "the last checkpoint"
        )


def not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The first of `tensors` that holds a NaN or an infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return name
    return None


def previous(path: Path, number: int = 1) -> Path:
    """Where the checkpoint that is `number` older than the one at `path` is kept."""
    older = "previous" if number == 1 else f"previous{number}"
    return path.with_name(f"{path.stem}_{older}{path.suffix}")


def _keep(path: Path, count: int) -> None:
    """Makes `path` the first of `count` older files and removes those beyond them; it keeps its
    name until it is replaced."""
    for number in range(count, 1, -1):
        if previous(path, number - 1).is_file():
            previous(path, number - 1).replace(previous(path, number))
    beyond = count + 1
    while previous(path, beyond).is_file():
        previous(path, beyond).unlink()
        beyond += 1
    if not count or not path.is_file():
        return
    kept = previous(path)
    kept.unlink(missing_ok=True)
    try:
        os.link(path, kept)
    except OSError:  # a file system without links
        shutil.copyfile(path, kept)


def load(path: str | Path) -> Any:
    """What `save` wrote, on the CPU.

    Raises:
        MissingFileError: no such file.
        UserError: not a checkpoint, cut short, or one that would run code when read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no checkpoint '{path}' (looked in {path.absolute().parent})")
    older = previous(path)
    remedy = (
        f"rename {older.name} to it to go on from there" if older.is_file() else "fetch it again"
    )
    try:
        _check_sums(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError),
        *(zipfile.BadZipFile, NotImplementedError),
    ) as error:
        raise UserError(
            f"cannot read '{path}' as a checkpoint ({_first_line(error)}): it is damaged, or holds "
            f"more than tensors; {remedy}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _check_sums(path: Path) -> None:
    """PyTorch's files are ZIP archives with a sum of every entry, which it does not look at."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")


def peek(path: str | Path) -> Any:
    """What `load` gives, for a look at what is no tensor: these stay on the disk, unchecked."""
    if not zipfile.is_zipfile(path):
        return load(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError):
        return load(path)  # whose message says what is wrong


def load_run(path: str | Path, kind: str, script: str) -> dict[str, Any]:
    """The checkpoint of a run; `load`, and UserError where its entry `format` is not `kind`.

    Args:
        script: which one writes such checkpoints.
    """
    state = load(path)
    if not isinstance(state, dict) or state.get("format") != kind:
        raise UserError(
            f"'{path}' is no checkpoint of a run of {script}, which writes them as "
            "<run>/checkpoints/last.pt; weight files go into MODEL.WEIGHTS"
        )
    return state
