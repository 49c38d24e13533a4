"""Experiment files: fvcore's CfgNode, `_BASE_`, `KEY VALUE` overrides, no unknown keys."""

import contextlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from shared.errors import MissingFileError, UserError
from shared.registry import nearest

_PACKAGE = Path(__file__).parent
# The experiments: an installed package holds them, a checkout has them at its top.
CONFIGS = next(p for p in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if p.is_dir())


def find_config(name_or_path: str | Path) -> Path:
    """A file, or the experiment of that name in `CONFIGS`, with or without its ending.

    Raises:
        MissingFileError: neither; the message has the nearest name.
    """
    path = Path(name_or_path)
    experiments = {file.stem: file for file in CONFIGS.glob("*.yaml")}
    if path.is_file():
        return path
    if path.name == str(path) and path.name.removesuffix(".yaml") in experiments:
        return experiments[path.name.removesuffix(".yaml")]
    raise MissingFileError(
        f"no config file '{path}' (looked in {path.absolute().parent}) and no experiment of that "
        f"name: {nearest(path.stem, experiments)}the experiments are in {CONFIGS}"
    )


def load_config(
    defaults: CfgNode,
    path: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    *,
    hint: Callable[[str], str] = lambda key: "every key is explained where its default is declared",
) -> CfgNode:
    """A frozen copy of `defaults`, updated by a YAML file and then by `KEY VALUE` pairs.

    Args:
        path: or the name of an experiment, see `find_config`; or what such a file holds.
        hint: ends the message about an unknown key.

    Raises:
        MissingFileError: `path` does not exist.
        UserError: a key that `defaults` lacks, a value of another type, or an odd override list.
    """
    cfg = defaults.clone()
    if isinstance(path, Mapping):
        pairs = [item for pair in flatten(path).items() for item in pair]
        _merge_pairs(cfg, pairs, "the checkpoint", hint)
    elif path is not None:
        path = find_config(path)
        pairs = [item for pair in _read_with_base(path).items() for item in pair]
        _merge_pairs(cfg, pairs, str(path), hint)
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, got {' '.join(overrides)!r}")
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        _merge_pairs(cfg, [key, value], "the command line", hint)
    cfg.freeze()
    return cfg


def read_experiment(name_or_path: str | Path) -> dict[str, object]:
    """Every `KEY.WITH.DOTS` of an experiment file and its bases, unchecked; see `load_config`."""
    return _read_with_base(find_config(name_or_path))


def flatten(cfg: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """`{"SOLVER.MODEL.LR": 2.5e-4, …}`, in declaration order."""
    flat: dict[str, object] = {}
    for key, value in cfg.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nested(flat: Mapping[str, object]) -> dict[str, object]:
    """The inverse of `flatten`, in plain dictionaries."""
    tree: dict = {}
    for key, value in flat.items():
        *nodes, name = key.split(".")
        branch = tree
        for node in nodes:
            branch = branch.setdefault(node, {})
        branch[name] = value
    return tree


def differences(cfg: CfgNode, defaults: CfgNode) -> dict[str, object]:
    """Keys that `defaults` lacks or has another value for, and their `plain` values."""
    before = flatten(defaults)
    now = {key: plain(value) for key, value in flatten(cfg).items()}
    return {k: v for k, v in now.items() if k not in before or v != plain(before[k])}


def plain(value: object) -> object:
    """A value with lists for tuples, at any depth: YAML has no tuples."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def changed(cfg: CfgNode, key: str, value: object) -> CfgNode:
    """A frozen copy of `cfg` in which `key`, with dots, has another value."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list([key, value])
    cfg.freeze()
    return cfg


def read_mapping(path: Path) -> dict[Any, Any]:
    """The keys and values of a YAML or JSON file; every fault is one line that names the file.

    Raises:
        MissingFileError: no such file.
        UserError: not readable, no mapping, or one key twice.
    """
    kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8")
        if kind == "JSON":
            document = json.loads(text, object_pairs_hook=_unique_pairs)
        else:
            document = yaml.load(text, _UniqueKeyLoader)  # a SafeLoader
    except FileNotFoundError:
        raise MissingFileError(f"no file {path} (looked in {path.absolute().parent})") from None
    except _RepeatedKeyError as error:
        raise UserError(f"{path}: key {error.args[0]!r} stands there twice; remove one") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not valid {kind}: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(document, dict):
        content = "nothing" if document is None else f"a {type(document).__name__}"
        raise UserError(f"{path} holds {content}, expected 'key: value' lines")
    return document


class _RepeatedKeyError(Exception):
    """PyYAML and json would keep the last of equal keys without a word."""


class _UniqueKeyLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        # Merge keys (<<) may be overridden, and the parent flattens them.
        _refuse_repeated(
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        )
        return super().construct_mapping(node, deep)


def _refuse_repeated(keys: Iterable[object]) -> None:
    seen = set()
    for key in keys:
        if isinstance(key, Hashable):
            if key in seen:
                raise _RepeatedKeyError(key)
            seen.add(key)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        _refuse_repeated(key for key, _ in pairs)
    return entry


def _read_with_base(path: Path, children: tuple[Path, ...] = ()) -> dict[str, object]:
    """Every `KEY.WITH.DOTS` of a file, over those of the file or files that `_BASE_` names."""
    if path.resolve() in children:
        raise UserError(f"_BASE_ of {children[-1]} leads back to itself")
    document = read_mapping(path)
    named = document.pop("_BASE_", [])
    merged: dict[str, object] = {}
    for name in named if isinstance(named, list) else [named]:
        if not isinstance(name, str):
            raise UserError(f"_BASE_ of {path} is {name!r}, expected the name of a file")
        base = path.parent / Path(name).expanduser()
        if not base.is_file():
            raise MissingFileError(f"_BASE_ of {path} not found: {base}")
        merged |= _read_with_base(base, (*children, path.resolve()))
    return merged | flatten(document)


def _merge_pairs(
    cfg: CfgNode, pairs: Sequence[object], where: str, hint: Callable[[str], str]
) -> None:
    known = flatten(cfg)
    for key in pairs[::2]:
        if key not in known:
            raise UserError(
                f"unknown key '{key}' in {where}: {nearest(str(key), known)}{hint(key)}"
            )
    merged: list[object] = []
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        declared = _as_declared(value, known[key])
        if declared is None and known[key] is not None:
            raise UserError(f"key '{key}' in {where} has no value: leave it out for its default")
        merged += [key, declared]
    try:
        cfg.merge_from_list(merged)
    except ValueError as error:
        raise UserError(f"wrong value in {where}: {error}") from error


def _as_declared(value: object, default: object) -> object:
    """A command line's text read as YAML, so that `[a, b]` is a list; `1` for a float is `1.0`."""
    if isinstance(value, str) and isinstance(default, str):
        return repr(value)  # yacs would read "7" as a number
    if isinstance(value, str):
        with contextlib.suppress(yaml.YAMLError):
            value = yaml.safe_load(value)
    if isinstance(default, float) and not isinstance(value, bool):
        # YAML reads 1e-4, without a point, as text.
        with contextlib.suppress(TypeError, ValueError):
            value = float(value)
    return value
