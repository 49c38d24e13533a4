"""What every command line does alike: one line for a user's error, exit code 2, no traceback."""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NoReturn

from shared.errors import UserError, of_lost_worker
from shared.registry import nearest

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def call(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """`main(argv)`; a `UserError`, or what the system refuses, is one line and exit code 2.

    Anything else is a bug of ours and keeps its traceback.
    """
    try:
        return main(argv)
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return EXIT_USER_ERROR
    except OSError as error:
        # A name, a permission or a disk: the system says which, and no traceback says it better.
        where = f": {str(error.filename)[:200]}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}; correct that and repeat", file=sys.stderr)
        return EXIT_USER_ERROR
    except RuntimeError as error:
        lost = of_lost_worker(error)
        if lost is None:
            raise
        print(f"error: {lost}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def run(main: Callable[[Sequence[str] | None], int]) -> None:
    """Ends the process with the exit code of `call(main)`."""
    sys.exit(call(main))


class Parser(argparse.ArgumentParser):
    """Answers an unknown option with the nearest one there is; abbreviates none."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """UserError for an option that is not known, or lacks its value."""
        # Before argparse looks: it would miss what the misspelled option was to give.
        options = [name for action in self._actions for name in action.option_strings]
        for word in takewhile(lambda word: word != "--", sys.argv[1:] if argv is None else argv):
            option = word.split("=")[0]
            if option.startswith("--") and option not in options:
                self.error(f"unknown option '{option}': {nearest(option, options)}")
        return self.parse_intermixed_args(argv)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.strip().removesuffix('?')}; --help lists all options")
