"""The check of a copy of the toys that a test may damage."""

from pathlib import Path

from shared.data.checker import Options, check

QUIET = Options(workers=1, progress=False)
HEIGHT, WIDTH = 96, 192  # of the toys


def lines(root: Path, name: str, *severities: str, options: Options = QUIET) -> list[str]:
    printed = str(check(name, root, options)).splitlines()[:-1]
    chosen = tuple(f"{s}: " for s in severities or ("error", "warning"))
    return [line for line in printed if line.startswith(chosen) and "published" not in line]


def the_line(root: Path, name: str, *severities: str) -> str:
    found = lines(root, name, *severities)
    assert len(found) == 1, found
    return found[0]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
