"""Experiment files: fvcore's CfgNode, `_BASE_`, `KEY VALUE` overrides, no unknown keys."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import yaml
from fvcore.common.config import CfgNode

from shared.errors import MissingFileError, UserError
from shared.registry import nearest


def load_config(
    defaults: CfgNode, path: str | Path | None = None, overrides: Sequence[str] = ()
) -> CfgNode:
    """A frozen copy of `defaults`, updated by a YAML file and then by `KEY VALUE` pairs.

    Raises:
        MissingFileError: `path` does not exist.
        UserError: a key that `defaults` lacks, a value of another type, or an odd override list.
    """
    cfg = defaults.clone()
    if path is not None:
        path = Path(path)
        if not path.is_file():
            raise MissingFileError(
                f"no config file '{path}' (looked in {path.absolute().parent}); "
                "the experiments are in configs/"
            )
        _merge_file(cfg, path)
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, got {' '.join(overrides)!r}")
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        _merge_pairs(cfg, [key, value], "the command line")
    cfg.freeze()
    return cfg


def flatten(cfg: CfgNode, prefix: str = "") -> dict[str, object]:
    """`{"SOLVER.MODEL.LR": 2.5e-4, …}`, in declaration order."""
    flat: dict[str, object] = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def changed(cfg: CfgNode, key: str, value: object) -> CfgNode:
    """A frozen copy of `cfg` in which `key`, with dots, has another value."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list([key, value])
    cfg.freeze()
    return cfg


def _merge_file(cfg: CfgNode, path: Path) -> None:
    try:
        loaded = CfgNode.load_yaml_with_base(str(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    except FileNotFoundError as error:
        raise MissingFileError(f"_BASE_ of {path} not found: {error.filename}") from error
    except RecursionError as error:
        raise UserError(f"_BASE_ of {path} leads back to itself") from error
    except (TypeError, AttributeError, AssertionError, UnicodeDecodeError) as error:
        # fvcore's own reader: an empty file or a list, a _BASE_ that is no file name, no text.
        raise UserError(
            f"{path} (or its _BASE_) is not a YAML file of `KEY: value` lines: {error}"
        ) from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds a {type(loaded).__name__}, expected `KEY: value` lines")
    pairs = [item for pair in flatten(CfgNode(loaded)).items() for item in pair]
    _merge_pairs(cfg, pairs, str(path))


def _merge_pairs(cfg: CfgNode, pairs: Sequence[object], where: str) -> None:
    known = flatten(cfg)
    for key in pairs[::2]:
        if key not in known:
            raise UserError(
                f"unknown key '{key}' in {where}: {nearest(str(key), known)}"
                "every key is explained where its default is declared"
            )
    merged: list[object] = []
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        declared = _as_declared(value, known[key])
        if declared is None:
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
