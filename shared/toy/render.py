"""`render`: one frame of one domain."""

import numpy as np

from shared.errors import UserError
from shared.registry import nearest
from shared.toy.effects import finish, fog
from shared.toy.frame import ToyFrame
from shared.toy.scene import Scene
from shared.toy.shade import colour
from shared.toy.statistics import STATISTICS
from shared.toy.style import Style
from shared.toy.styles import STYLES
from shared.toy.world import build

DOMAINS = tuple(STATISTICS)
MIN_HEIGHT, MIN_WIDTH = 64, 128

# Domains that share a number see the same worlds.
_WORLDS = {"foggy": "real", "fall": "summer", "winter": "summer"}
_NO_TERRAIN = ("synthia",)
_WORLD_KEY, _STYLE_KEY, _LIGHT_KEY, _FOG_KEY = 0, 1, 2, 3


def _generator(purpose: int, domain: str, seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, DOMAINS.index(domain), purpose])


def render(
    domain: str,
    index: int,
    *,
    seed: int = 0,
    height: int = 256,
    width: int = 512,
    fog_beta: float = 0.02,
) -> ToyFrame:
    """Frame `index` of a domain; the same arguments give the same bytes.

    Args:
        domain: one of DOMAINS. "foggy" is "real" through fog, "fall" and "winter" are "summer" in
            another season: the labels of equal indices are equal.
        height, width: pixels, at least 64×128; the scene scales with them.
        fog_beta: attenuation of "foggy", 1 / metre.
    """
    check(domain, index, seed, height, width)
    world = _WORLDS.get(domain, domain)
    scene = build(
        _generator(_WORLD_KEY, world, seed, index),
        STATISTICS[domain],
        height / width,
        has_terrain=domain not in _NO_TERRAIN,
    )
    looks = "real" if domain == "foggy" else domain
    style = STYLES[looks](_generator(_STYLE_KEY, looks, seed, index))
    light = _generator(_LIGHT_KEY, looks, seed, index)
    frame = draw(scene, style, light, height, width)
    if domain != "foggy":
        return frame
    airlight = _generator(_FOG_KEY, domain, seed, index).uniform(175, 225)
    tint = airlight * np.array([0.99, 1.0, 1.01], np.float32)
    hazy = fog(frame.image, frame.depth, fog_beta, tint)
    return ToyFrame(hazy, frame.label_ids, frame.instance_ids, frame.depth, frame.objects)


def draw(
    scene: Scene, style: Style, generator: np.random.Generator, height: int, width: int
) -> ToyFrame:
    """A scene in a style."""
    raster = scene.rasterise(height, width)
    image, lit = colour(scene, raster, style, generator)
    image = finish(image, scene, raster, style, lit, generator)
    return ToyFrame(image, raster.label_ids, raster.instance_ids, raster.depth, raster.objects)


def check(domain: str, index: int, seed: int, height: int, width: int) -> None:
    if domain not in DOMAINS:
        raise UserError(
            f"unknown toy domain '{domain}': {nearest(domain, DOMAINS)}"
            f"available: {', '.join(DOMAINS)}"
        )
    if height < MIN_HEIGHT or width < MIN_WIDTH:
        raise UserError(
            f"toy frames of {height}×{width} (height × width) asked for: "
            f"at least {MIN_HEIGHT}×{MIN_WIDTH} are needed to show anything"
        )
    if index < 0 or seed < 0:
        raise UserError(f"toy frame index {index} and seed {seed} must not be negative")
