"""`render`: one frame of one domain."""

from dataclasses import replace

import numpy as np

from shared.errors import UserError
from shared.registry import nearest
from shared.toy.domains import CONTENTS, DOMAINS
from shared.toy.effects import finish, fog
from shared.toy.frame import ToyFrame
from shared.toy.raster import rasterize
from shared.toy.scene import Scene
from shared.toy.shade import color
from shared.toy.styles import Style, at_dusk, domain_style
from shared.toy.world import build

MIN_HEIGHT, MIN_WIDTH = 64, 128
_WORLD, _STYLE, _LIGHT, _FOG = range(4)


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
        domain: one of DOMAINS; domains of one world have equal labels at equal indices. "foggy" is
            "real" through fog.
        height, width: pixels, at least 64×128; the scene scales with them.
        fog_beta: attenuation of "foggy", 1 / meter.
    """
    _check(domain, index, seed, height, width)
    world, look = DOMAINS[domain]

    def generator(purpose: int, name: str) -> np.random.Generator:
        return np.random.default_rng([seed, index, list(DOMAINS).index(name), purpose])

    scene = build(generator(_WORLD, world), CONTENTS[world], height / width)
    style = domain_style(look, generator(_STYLE, look))
    if domain == "dusk":
        style = at_dusk(style)
    frame = draw(scene, style, generator(_LIGHT, look), height, width)
    if domain != "foggy":
        return frame
    airlight = generator(_FOG, domain).uniform(175, 225) * np.array([0.99, 1.0, 1.01], np.float32)
    return replace(frame, image=fog(frame.image, frame.depth, fog_beta, airlight))


def draw(
    scene: Scene, style: Style, generator: np.random.Generator, height: int, width: int
) -> ToyFrame:
    """A scene in a style."""
    raster = rasterize(scene, height, width)
    image = finish(color(raster, style, generator), raster, style, generator)
    return ToyFrame(image, raster.label_ids, raster.instance_ids, raster.depth, raster.objects)


def _check(domain: str, index: int, seed: int, height: int, width: int) -> None:
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
