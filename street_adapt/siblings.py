"""`shared` is a common name: another package of that name may come first on the Python path."""

from importlib.util import find_spec
from pathlib import Path

_OURS = Path(__file__).resolve().parents[1] / "shared"


def check_shared() -> None:
    """ImportError, in one line, where `import shared` would give another package than ours."""
    spec = find_spec("shared")
    if spec is None:
        return  # its import says so
    folders = spec.submodule_search_locations or [spec.origin]
    if not any(Path(folder).resolve() == _OURS for folder in folders):
        raise ImportError(
            f"another package 'shared', {next(iter(folders))}, hides that of street-adapt, "
            f"{_OURS}: take it off PYTHONPATH, or work in another folder"
        )
