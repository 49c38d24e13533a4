"""Options declared once: a frozen dataclass is a node of the configuration, a field is a key.

    @dataclass(frozen=True)
    class DastOptions(Options, node="DAST"):
        attention: bool = True  # False: two discriminators without it
        corrector_weight: NonNegativeFloat = 0.01  # lambda c

declares DAST.ATTENTION and DAST.CORRECTOR_WEIGHT: name, default and meaning stand in one line, and
the type says which values are allowed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_origin, get_type_hints

from fvcore.common.config import CfgNode

from shared.errors import UserError


class Rule(NamedTuple):
    """Which values are allowed, and how an error says so: `Annotated[int, Rule(…)]`."""

    holds: Callable[[Any], bool]
    expected: str


def at_least(low: float) -> Rule:
    return Rule(lambda value: low <= value < math.inf, f"at least {low}")


def _are_ints(values: tuple, low: float = -math.inf) -> bool:
    return all(type(value) is int and value >= low for value in values)


def _is_pair(values: tuple) -> bool:
    return len(values) == 2 and all(type(value) in (int, float) for value in values)


NonNegativeInt = Annotated[int, at_least(0)]
PositiveInt = Annotated[int, at_least(1)]
NonNegativeFloat = Annotated[float, at_least(0)]
PositiveFloat = Annotated[float, Rule(lambda value: 0 < value < math.inf, "more than 0")]
Share = Annotated[float, Rule(lambda value: 0 <= value <= 1, "a number from 0 to 1")]
Decay = Annotated[float, Rule(lambda value: 0 <= value < 1, "a number from 0, below 1")]
DecayPair = Annotated[
    tuple[float, float],
    Rule(lambda pair: _is_pair(pair) and all(0 <= b < 1 for b in pair), "two numbers below 1"),
]
FloatPair = Annotated[tuple[float, float], Rule(_is_pair, "two numbers, e.g. [0.5, 0.9]")]
NonNegativeInts = Annotated[
    tuple[int, ...], Rule(lambda values: _are_ints(values, 0), "whole numbers, e.g. [6, 12]")
]
PositiveInts = Annotated[
    tuple[int, ...],
    Rule(lambda values: values and _are_ints(values, 1), "whole numbers >= 1, e.g. [6, 12]"),
]
Size = Annotated[
    tuple[int, ...],
    Rule(lambda size: len(size) in (0, 2) and _are_ints(size, 1), "[width, height] or []"),
]


@dataclass(frozen=True)
class Options:
    """The options of one node. A field whose default is `Options` itself is a node below it.

    Class argument:
        node: its full name, e.g. `SOLVER.MODEL`; that of the parent class where it is left out.
    """

    node: ClassVar[str] = ""

    def __init_subclass__(cls, node: str | None = None) -> None:
        if node is not None:
            cls.node = node

    def __post_init__(self) -> None:
        """UserError that names the key of a value that is not allowed."""
        hints = get_type_hints(type(self), include_extras=True)
        for name, value in self._values().items():
            expected = _violated(hints[name], value)
            if expected is not None:
                key = f"{self.node}.{name.upper()}".lstrip(".")
                value = list(value) if isinstance(value, tuple) else value
                raise UserError(f"{key} is {value!r}, expected {expected}")

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def add_keys(self, cfg: CfgNode) -> None:
        """Declares the keys in the configuration `cfg`; these values are their defaults."""
        node = cfg
        for part in filter(None, self.node.split(".")):
            node = node.setdefault(part, type(cfg)())
        for name, value in self._values().items():
            if isinstance(value, Options):
                value.add_keys(cfg)
            else:
                node[name.upper()] = list(value) if isinstance(value, tuple) else value

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Self:
        """The options that the configuration `cfg` holds."""
        for part in filter(None, cls.node.split(".")):
            cfg = cfg[part]
        return cls.from_node(cfg)

    @classmethod
    def from_node(cls, node: CfgNode) -> Self:
        """The options that `node` holds, which may be a changed copy of that in the config."""
        values = {}
        for field in fields(cls):
            value = node[field.name.upper()]
            if isinstance(value, CfgNode):
                value = type(field.default).from_node(value)
            values[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


def _violated(hint: Any, value: Any) -> str | None:
    """What a type hint expects instead of `value`; None where it allows it."""
    if get_origin(hint) is Literal:
        names = ", ".join(choice or "''" for choice in hint.__args__)
        return None if value in hint.__args__ else f"one of {names}"
    rules = getattr(hint, "__metadata__", ())
    return next((rule.expected for rule in rules if not rule.holds(value)), None)
