"""Modules of a user's own: importing one registers the networks, methods and data sets in it."""

import importlib
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import yaml

from shared.cli import Parser
from shared.errors import MissingFileError, UserError

KEY = "IMPORTS"  # where a run records them


def add_import_option(parser: Parser, default: str) -> None:
    """--import, as `imports` of the arguments.

    Args:
        default: what holds where it is not given.
    """
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a .py file or an installed module with networks, methods or data sets of your own; "
        f"can be repeated; default: {default}",
    )


def import_named(
    experiment: Mapping[str, object], overrides: Sequence[str], imports: Iterable[str] = ()
) -> list[str]:
    """`import_extensions` of what an experiment names, before its other keys are known: the modules
    may declare some.

    Args:
        experiment: its keys, unchecked.
        overrides: `KEY VALUE` pairs over these.
        imports: modules beside those that the key IMPORTS names.
    """
    unchecked = {**experiment, **dict(zip(overrides[::2], overrides[1::2], strict=False))}
    named = unchecked.get(KEY, [])
    named = yaml.safe_load(named) if isinstance(named, str) else named
    names = named if isinstance(named, list) else [named]
    return import_extensions([*map(str, names), *imports])


def import_extensions(names: Iterable[str]) -> list[str]:
    """Imports modules and files, each once; returns how a run records them: files absolute.

    Raises:
        MissingFileError: a file or a module is not there.
        UserError: it fails, or its name is taken.
    """
    recorded = []
    for name in dict.fromkeys(names):
        is_file = name.endswith(".py")
        recorded.append(str(Path(name).expanduser().absolute()) if is_file else name)
        try:
            _import_file(Path(recorded[-1])) if is_file else importlib.import_module(name)
        except UserError:
            raise
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0]:
                raise _failed(name, error) from error
            raise MissingFileError(
                f"no module '{name}' to import: install it, or name a .py file (--import)"
            ) from None
        except Exception as error:
            raise _failed(name, error) from error
    return recorded


def _failed(name: str, error: Exception) -> UserError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}"
    return UserError(f"importing {name} failed: {what} ({last.filename}, line {last.lineno})")


def _import_file(path: Path) -> None:
    name = path.stem
    if not path.is_file():
        raise MissingFileError(f"no file {path}: --import names its new place")
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return
    other = loaded or find_spec(name)
    if other is not None and getattr(other, "origin", None) != str(path):
        raise UserError(f"{path} is called like another module, '{name}': rename the file")
    spec = spec_from_file_location(name, path)
    module = module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(path.parent))  # for what lies beside it, and for loader processes
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
