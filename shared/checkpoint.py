"""Checkpoints on disk: written whole or not at all, read without executing anything."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from shared.errors import MissingFileError, UserError
from shared.files import replacing


def save(state: dict[str, Any], path: str | Path) -> None:
    """Writes `state` beside `path` first and renames it: an interrupted run leaves the old file.

    Args:
        state: tensors, numbers, strings and containers of them; nothing else can be read back.
    """
    with replacing(Path(path)) as partial, partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load(path: str | Path) -> Any:
    """What `save` wrote, on the CPU.

    Raises:
        MissingFileError: no such file.
        UserError: not a checkpoint, cut short, or one that would run code when read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no checkpoint '{path}' (looked in {path.absolute().parent})")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"cannot read '{path}' as a checkpoint ({reason[:120]}): it is damaged, or holds "
            "more than tensors; fetch or write it again"
        ) from error


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
