"""Unsupervised domain adaptation of street-scene perception: the command `street-adapt`.

street-adapt train --config-file road_gta5        an experiment, by name or path
street-adapt predict --checkpoint RUN INPUT --output DIR
street-adapt check all                            looks through the data sets
street-adapt toy                                  makes the toy data sets
street-adapt convert IN OUT                       a published checkpoint into one of ours

`train` and `predict` see from the experiment or the checkpoint whether it is segmentation or
detection; `--task seg` or `--task det` says so. `street-adapt COMMAND --help` lists the options.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

try:
    from shared.cli import EXIT_USER_ERROR, call, run
except ImportError:
    # Not only a ModuleNotFoundError: a module of that name may be there, without the function.
    raise SystemExit(
        f"the package 'shared' of street-adapt is hidden by {sys.modules.get('shared')}: take that "
        "off the Python path"
    ) from None

from shared.errors import UserError
from shared.registry import nearest

# `run` is what the scripts end with; from here, so that a foreign `shared` is noticed.
__all__ = ["main", "run"]

_TASKS = {"seg": "segmentation", "det": "detection"}
_MODULES = {
    ("train", "segmentation"): "seg_adapt.train",
    ("train", "detection"): "det_adapt.train_net",
    ("predict", "segmentation"): "seg_adapt.predict",
    ("predict", "detection"): "det_adapt.predict",
}
_SCRIPTS = {"check": "check.py", "toy": "make_toy.py"}
_COMMANDS = ("train", "predict", "check", "toy", "convert")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code, 2 where the user can mend what is wrong."""
    return call(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if argv else EXIT_USER_ERROR
    command, *rest = argv
    if command not in _COMMANDS:
        raise UserError(
            f"unknown command '{command}': {nearest(command, _COMMANDS)}"
            f"available: {', '.join(_COMMANDS)}"
        )
    sys.argv = [f"street-adapt {command}", *rest]  # for usage lines and the run's environment.json
    if command == "convert":
        return import_module("seg_adapt.convert_weights").main(rest)
    if command in _SCRIPTS:
        return _script(_SCRIPTS[command]).main(rest)
    task, rest = _take("--task", rest)
    if task is not None and task not in _TASKS:
        raise UserError(f"unknown task '{task}': expected {' or '.join(_TASKS)}")
    half = _TASKS[task] if task else _half_of(command, rest)
    if half is not None:
        return import_module(_MODULES[command, half]).main(rest)
    for half in _TASKS.values():
        print(f"\n{half.upper()}\n")
        with suppress(SystemExit):
            import_module(_MODULES[command, half]).main(["--help"])
    return 0


def _half_of(command: str, argv: Sequence[str]) -> str | None:
    """segmentation or detection, whichever the arguments mean; None where only help is wanted."""
    # Not at the top: these need PyTorch, whose import takes a second.
    from shared.config import find_config
    from shared.run.command import half_of, half_of_checkpoint

    option = "--config-file" if command == "train" else "--checkpoint"
    path, _ = _take(option, argv)
    if path is None and not {"-h", "--help"}.isdisjoint(argv):
        return None
    if path is None:
        return "detection" if _take("--engine", argv)[0] else "segmentation"
    half = half_of(find_config(path)) if command == "train" else half_of_checkpoint(Path(path))
    if half is None:
        raise UserError(f"{path} does not say whether it is segmentation or detection: add --task")
    return half


def _take(option: str, argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of an option, None where it is not given, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value")
    args, rest = parser.parse_known_args(argv)
    return args.value, rest


def _script(name: str) -> ModuleType:
    """A script of datasets/; installed, they lie in `shared/datasets`."""
    here = Path(__file__).parent
    path = next(
        p for p in (here / "shared/datasets" / name, here / "datasets" / name) if p.exists()
    )
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
