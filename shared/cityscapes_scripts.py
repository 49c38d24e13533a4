"""Runs Cityscapes' official scripts, their arithmetic untouched, with any NumPy."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec, module_from_spec
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from shared.errors import UserError

_EXPORT_DIR = "CITYSCAPES_EXPORT_DIR"


class _ScriptNumpy:
    """NumPy as cityscapesScripts 2.3.0 expects it."""

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)

    @staticmethod
    def in1d(values: ArrayLike, tested: ArrayLike, *, invert: bool = False) -> np.ndarray:
        """Removed in NumPy 2.4."""
        return np.isin(np.ravel(values), tested, invert=invert)

    @staticmethod
    def count_nonzero(values: ArrayLike) -> int:
        """Since NumPy 2.3 a numpy.int64, which JSON does not take."""
        return int(np.count_nonzero(values))


def load_script(name: str) -> ModuleType:
    """A new copy of `cityscapesscripts.evaluation.<name>`, whose `args` are the caller's to set.

    NumPy itself and the copies of other programs stay as they are.
    """
    spec = find_spec(f"cityscapesscripts.evaluation.{name}")
    script = module_from_spec(spec)
    # A script refuses to load where this names no folder; callers say where results go.
    export_dir = os.environ.pop(_EXPORT_DIR, None)
    try:
        spec.loader.exec_module(script)
    finally:
        if export_dir is not None:
            os.environ[_EXPORT_DIR] = export_dir
    script.np = _ScriptNumpy()
    script.args.quiet = True
    return script


@contextmanager
def running_script(subject: object) -> Iterator[None]:
    """Around calls of a script: silences it and turns its failure into one line.

    Args:
        subject: what is scored, for the message.

    Raises:
        UserError: the script ended the program, or failed.
    """
    output = io.StringIO()
    try:
        with redirect_stdout(output):
            yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None  # caught by a bare `except` of the script
        reason = output.getvalue().strip()
        raise UserError(f"the official Cityscapes script refused {subject}: {reason}") from None
    except Exception as error:
        raise UserError(
            f"the official Cityscapes script failed on {subject}: {type(error).__name__}: {error}"
        ) from error
