"""YAML and JSON files as dictionaries; every fault is one line that names the file."""

import json
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from shared.errors import MissingFileError, UserError
from shared.registry import nearest

SUFFIXES = (".yaml", ".yml", ".json")


class _RepeatedKeyError(Exception):
    """PyYAML and json would keep the last of equal keys without a word."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        # Merge keys (<<) are allowed to be overridden, and they are flattened by the parent.
        _unique(
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        )
        return super().construct_mapping(node, deep)


def _unique(keys: Iterable[Hashable]) -> None:
    seen = set()
    for key in keys:
        if isinstance(key, Hashable):
            if key in seen:
                raise _RepeatedKeyError(key)
            seen.add(key)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        _unique(key for key, _ in pairs)
    return entry


def is_document(name: str | Path) -> bool:
    """Whether a name's ending is that of a YAML or JSON file."""
    return Path(name).suffix.lower() in SUFFIXES


def read_document(path: Path, keys: Sequence[str] | None = None) -> dict[Any, Any]:
    """The mapping that a YAML or JSON file holds.

    Args:
        keys: those that it may have; None: any.

    Raises:
        MissingFileError: no such file.
        UserError: not readable, not a mapping, an unknown key, or one key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            document = json.loads(text, object_pairs_hook=_pairs)
        else:
            # The loader is a SafeLoader.
            document = yaml.load(text, _Loader)
    except FileNotFoundError:
        raise MissingFileError(
            f"no file {path} (looked in {path.absolute().parent}); expected a description of a "
            "data set, see docs/own_data.md"
        ) from None
    except _RepeatedKeyError as error:
        raise UserError(f"{path}: key {error.args[0]!r} stands there twice; remove one") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not valid {kind}: {reason}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(document, dict):
        raise UserError(
            f"{path} holds a {type(document).__name__}, expected 'key: value' lines; "
            "see docs/own_data.md"
        )
    for key in document if keys is not None else ():
        if key not in keys:
            raise UserError(
                f"{path}: unknown key '{key}': {nearest(str(key), keys)}known: {', '.join(keys)}"
            )
    return document
