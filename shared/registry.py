"""Names to objects, with an answer for the wrong name."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from shared.errors import UserError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` for the known name closest to `name`, or an empty string."""
    originals = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), originals, n=1)
    return f"did you mean '{originals[close[0]]}'? " if close else ""


class Registry(Generic[T]):
    """A dictionary that refuses duplicates and answers a miss with the names it has.

    Args:
        kind: what an entry is, in the singular; used in messages ("method", "dataset").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        if name in self._entries:
            raise KeyError(f"{self.kind} '{name}' is registered twice")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of `add`."""
        return lambda entry: self.add(name, entry)

    def get(self, name: str) -> T:
        """Raises UserError, listing what there is, where `name` is not registered."""
        if name not in self._entries:
            raise UserError(
                f"unknown {self.kind} '{name}': {nearest(name, self._entries)}"
                f"available: {', '.join(sorted(self._entries)) or 'none'}"
            )
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
