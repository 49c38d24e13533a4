"""Command lines in this process, as a user meets them."""

from shared.cli import call
from shared.events import read_metrics


def run(main, *arguments) -> int:
    """The exit code of a command with these arguments, of any type."""
    return call(main, [str(argument) for argument in arguments])


def error_line(capture) -> str:
    """The one line of a user's error, among all that `capsys` or `capfd` has captured."""
    lines = [line for line in capture.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return lines[0]


def fails(capture, main, *arguments) -> str:
    """The one line of the error that a command ends with."""
    capture.readouterr()
    assert run(main, *arguments) == 2
    return error_line(capture)


CLOCK = ("seconds_per_iteration", "peak_memory_mb")


def comparable(folder) -> list[dict]:
    """The events of a run without what depends on the machine."""
    return [{k: v for k, v in event.items() if k not in CLOCK} for event in read_metrics(folder)]
