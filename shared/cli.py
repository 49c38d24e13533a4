"""What every command line does alike: one line for a user's error, exit code 2, no traceback."""

import sys
from collections.abc import Callable, Sequence

from shared.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def call(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """`main(argv)`; a `UserError` becomes one line on stderr and exit code 2.

    Anything else is a bug of ours and keeps its traceback.
    """
    try:
        return main(argv)
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def run(main: Callable[[Sequence[str] | None], int]) -> None:
    """Ends the process with the exit code of `call(main)`."""
    sys.exit(call(main))
