"""What scripts import first: `run`, or the end with one line where `shared` is not ours."""

import sys

from street_adapt.siblings import check_shared

try:
    check_shared()
except ImportError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

from shared.cli import EXIT_USER_ERROR, call, run

__all__ = ["EXIT_USER_ERROR", "call", "run"]
