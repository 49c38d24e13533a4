"""The command `street-adapt`: all scripts under one name, from any folder."""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from street_adapt import __version__, check_shared

try:
    check_shared()
except ImportError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

from shared.cli import EXIT_USER_ERROR, call
from shared.errors import UserError
from shared.registry import nearest


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code, 2 for a user's error."""
    return call(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else EXIT_USER_ERROR
    name, *rest = argv
    if name == "--version":
        print(f"street-adapt {__version__}")
        return 0
    if name not in COMMANDS:
        raise UserError(
            f"unknown command '{name}': {nearest(name, COMMANDS)}available: {', '.join(COMMANDS)}"
        )
    sys.argv = [f"street-adapt {name}", *rest]  # for usage lines and a run's environment.json
    _, module = COMMANDS[name]
    *others, last = [module] if isinstance(module, str) else module(rest)
    for other in others:  # only where help is asked for, which ends the process
        with suppress(SystemExit):
            import_module(other).main(rest)
        print()
    return import_module(last).main(rest)


def _help() -> str:
    lines = "\n".join(f"  {name:10}{summary}" for name, (summary, _) in COMMANDS.items())
    return (
        "usage: street-adapt COMMAND ...\n\n"
        "Unsupervised domain adaptation of street scenes: segmentation and detection.\n\n"
        f"{lines}\n\n"
        "  street-adapt train                               the toy pair, on a CPU\n"
        "  street-adapt train --config-file road_gta5       an experiment, by name or path\n"
        "  street-adapt predict --checkpoint RUN INPUT --output DIR\n\n"
        "`street-adapt COMMAND --help` lists a command's options, --version prints the version."
    )


def _training(argv: Sequence[str]) -> list[str]:
    """The half that has the option --method or --engine, or that the experiment's keys are of."""
    # Not at the top: their imports take a second.
    from shared.config import find_config
    from shared.run.command import half_of

    segmentation, detection = "seg_adapt.train", "det_adapt.train_net"
    config = _value("--config-file", argv)
    if _value("--method", argv):
        return [segmentation]
    if _value("--engine", argv):
        return [detection]
    if config is None:
        return [segmentation, detection] if _asks_for_help(argv) else [segmentation]
    half = half_of(find_config(config))
    if half is None:
        raise UserError(
            f"{config} has keys of segmentation and detection alike: choose by --method or --engine"
        )
    return [segmentation if half == "segmentation" else detection]


def _prediction(argv: Sequence[str]) -> list[str]:
    """The half that trained the checkpoint."""
    from shared.run.folder import checkpoint_at
    from street_adapt.api import is_segmentation

    segmentation, detection = "seg_adapt.predict", "det_adapt.predict"
    run = _value("--checkpoint", argv)
    if run is None:
        return [segmentation, detection] if _asks_for_help(argv) else [segmentation]
    return [segmentation if is_segmentation(checkpoint_at(Path(run))) else detection]


def _value(option: str, argv: Sequence[str]) -> str | None:
    """The value of one option among arguments that only a command itself knows."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(option, dest="value", nargs="?")
    return parser.parse_known_args(argv)[0].value


def _asks_for_help(argv: Sequence[str]) -> bool:
    return not {"-h", "--help"}.isdisjoint(argv)


# What a command does, and the module whose `main` does it – or, of two halves, what chooses it.
COMMANDS: dict[str, tuple[str, str | Callable[[Sequence[str]], list[str]]]] = {
    "train": ("trains, adapts and evaluates a model", _training),
    "predict": ("predicts an image, a folder or a video with a run's model", _prediction),
    "check": ("looks for faults in data sets", "shared.data.checker"),
    "toy": ("makes the toy data sets", "shared.toy.command"),
    "convert": ("converts published weights of segmentation", "seg_adapt.convert_weights"),
}
