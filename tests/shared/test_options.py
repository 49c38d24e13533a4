"""Keys that are declared by dataclasses."""

from dataclasses import dataclass
from typing import Literal

import pytest
from fvcore.common.config import CfgNode

from shared.config import changed, flatten, load_config
from shared.errors import UserError
from shared.options import (
    FloatPair,
    NonNegativeFloat,
    NonNegativeInts,
    Options,
    PositiveFloat,
    PositiveInt,
    PositiveInts,
    Share,
    Size,
)


@dataclass(frozen=True)
class Inner(Options, node="PAINT.BRUSH"):
    width: PositiveInt = 3
    shape: Literal["", "round", "flat"] = "round"


@dataclass(frozen=True)
class Paint(Options, node="PAINT"):
    layers: NonNegativeFloat = 1.0
    thinner: PositiveFloat = 0.1
    opacity: Share = 0.5
    pigments: PositiveInts = (1, 2)
    days: NonNegativeInts = ()
    mix: FloatPair = (0.5, 0.5)
    canvas: Size = ()
    brush: Inner = Inner()


@dataclass(frozen=True)
class Varnish(Paint):
    gloss: bool = False


def config(options):
    cfg = CfgNode()
    options.add_keys(cfg)
    return cfg


def test_fields_are_keys_with_these_values_as_defaults():
    assert flatten(config(Varnish(layers=2.0, pigments=(7,)))) == {
        "PAINT.LAYERS": 2.0,
        "PAINT.THINNER": 0.1,
        "PAINT.OPACITY": 0.5,
        "PAINT.PIGMENTS": [7],
        "PAINT.DAYS": [],
        "PAINT.MIX": [0.5, 0.5],
        "PAINT.CANVAS": [],
        "PAINT.BRUSH.WIDTH": 3,
        "PAINT.BRUSH.SHAPE": "round",
        "PAINT.GLOSS": False,
    }


def test_options_come_from_a_config_or_from_a_changed_node_of_it():
    cfg = config(Paint())
    assert Paint.from_config(cfg) == Paint()
    cfg = load_config(cfg, None, ["PAINT.MIX", "[1, 0.5]", "PAINT.BRUSH.WIDTH", "9"])
    assert Paint.from_config(cfg) == Paint(mix=(1, 0.5), brush=Inner(width=9))
    thick = changed(cfg, "PAINT.BRUSH.WIDTH", 20)
    assert Inner.from_node(thick.PAINT.BRUSH) == Inner(width=20)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Paint, {"layers": -1}, "PAINT.LAYERS is -1, expected at least 0"),
        (Paint, {"layers": float("nan")}, "PAINT.LAYERS is nan, expected at least 0"),
        (Paint, {"layers": float("inf")}, "PAINT.LAYERS is inf, expected at least 0"),
        (Paint, {"thinner": 0.0}, "PAINT.THINNER is 0.0, expected more than 0"),
        (Paint, {"opacity": 1.5}, "PAINT.OPACITY is 1.5, expected a number from 0 to 1"),
        (Paint, {"pigments": ()}, "PAINT.PIGMENTS is [], expected whole numbers >= 1"),
        (Paint, {"pigments": (1, 0)}, "PAINT.PIGMENTS is [1, 0], expected whole numbers >= 1"),
        (Paint, {"pigments": (True,)}, "PAINT.PIGMENTS is [True], expected whole numbers >= 1"),
        (Paint, {"days": (1, "x")}, "PAINT.DAYS is [1, 'x'], expected whole numbers"),
        (Paint, {"mix": (1.0,)}, "PAINT.MIX is [1.0], expected two numbers"),
        (Paint, {"mix": (1.0, "x")}, "PAINT.MIX is [1.0, 'x'], expected two numbers"),
        (Paint, {"canvas": (640,)}, "PAINT.CANVAS is [640], expected [width, height] or []"),
        (Paint, {"canvas": (640, 0)}, "PAINT.CANVAS is [640, 0], expected [width, height] or []"),
        (Inner, {"width": 0}, "PAINT.BRUSH.WIDTH is 0, expected at least 1"),
        (Inner, {"shape": "oval"}, "PAINT.BRUSH.SHAPE is 'oval', expected one of '', round, flat"),
        (Varnish, {"opacity": -1}, "PAINT.OPACITY is -1"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_its_key(kind, options, message):
    with pytest.raises(UserError) as caught:
        kind(**options)
    assert str(caught.value).startswith(message)
