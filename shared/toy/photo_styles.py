"""The photographic domains: textured surfaces, soft light, a real camera's faults."""

import numpy as np

from shared.toy.palettes import PALETTES, PARTS
from shared.toy.style import LEAVES, Style, colour_matrix, materials, second_colours
from shared.toy.textures import PHOTO_KINDS

_PHOTO = {
    "sky": ("cloud", 0.02, 0.35),
    "cloud": ("cloud", 0.05, 0.5),
    "road": ("asphalt", 34, 0.75),
    "patch": ("asphalt", 34, 0.8),
    "parking": ("slabs", 110, 0.7),
    "lane": ("asphalt", 45, 0.6),
    "sidewalk": ("slabs", 75, 0.8),
    "curb": ("speckle", 60, 0.7),
    "terrain": ("grass", 45, 0.9),
    "ground": ("speckle", 40, 0.8),
    "roof": ("brick", 50, 0.8),
    "wall": ("stone", 45, 0.85),
    "wall cap": ("speckle", 50, 0.6),
    "fence": ("bars", 95, 0.95),
    "pole": ("speckle", 60, 0.55),
    "trunk": ("crumpled", 80, 0.8),
    "top": ("crumpled", 120, 0.6),
    "trousers": ("crumpled", 120, 0.6),
    "car body": ("crumpled", 25, 0.45),
    "glass": ("crumpled", 50, 0.6),
    "cargo": ("plaster", 30, 0.45),
    "static": ("speckle", 60, 0.6),
    "bus body": ("plaster", 25, 0.35),
    "tram body": ("plaster", 25, 0.35),
    "sign": ("speckle", 60, 0.3),
    "sign back": ("speckle", 60, 0.5),
    "board": ("plaster", 60, 0.3),
    "ego": ("cloud", 60, 0.6),
    "far facade": ("slabs", 16, 0.6),
    "door": ("speckle", 60, 0.5),
    "tyre": ("speckle", 60, 0.4),
    "bumper": ("speckle", 60, 0.4),
    "bike wheel": ("speckle", 80, 0.8),
}
_FACADES = tuple(
    (PHOTO_KINDS.index(name), scale, strength)
    for name, scale, strength in (
        ("plaster", 14.0, 0.75),
        ("brick", 56.0, 0.8),
        ("speckle", 30.0, 0.6),
        ("brick", 40.0, 0.7),
        ("plaster", 26.0, 0.5),
    )
)
_LEAF_SCALE = {"far crown": 12.0, "hedge": 55.0}


def _photo_materials(generator: np.random.Generator, gain: float) -> tuple:
    table = dict(_PHOTO)
    table |= {part: ("leaf", _LEAF_SCALE.get(part, 40.0), 0.95) for part in LEAVES}
    table["facade"] = ("plaster", 22.0, 0.6)
    kind, scale, strength = materials(table, PHOTO_KINDS, gain)
    scale *= generator.uniform(0.75, 1.3, len(PARTS)).astype(np.float32)
    strength *= generator.uniform(0.7, 1.05, len(PARTS)).astype(np.float32)
    return kind, scale, strength


def real(generator: np.random.Generator) -> Style:
    kind, scale, strength = _photo_materials(generator, 0.6)
    cast = 1.0 + generator.normal(0.0, 0.035, 3)
    cast[1] += 0.02
    return Style(
        facades=_FACADES,
        frame=int(generator.integers(60, 110)),
        palette=PALETTES["real"],
        second=second_colours(generator.uniform(0.45, 0.62)),
        family="photo",
        kind=kind,
        scale=scale,
        strength=strength,
        jitter=0.13,
        turn=generator.uniform(0.4, 1.2),
        sky_fade=generator.uniform(0.0, 0.3),
        occlusion=generator.uniform(0.25, 0.45),
        sun=generator.uniform(0.0, 0.3),
        contact=generator.uniform(0.4, 0.6),
        shadow_blur=generator.uniform(3.0, 7.0),
        glass=(4, 2, 0),
        field=generator.uniform(0.12, 0.3),
        matrix=colour_matrix(
            generator.uniform(0.7, 1.0),
            cast * generator.uniform(0.95, 1.4),
            generator.uniform(0.85, 1.05),
            generator.uniform(-4, 12),
        ),
        blur=generator.uniform(0.4, 0.75),
        noise=generator.uniform(1.0, 3.0),
        noise_blur=0.5,
        jpeg=int(generator.integers(60, 88)),
    )


def dusk(generator: np.random.Generator) -> Style:
    kind, scale, strength = _photo_materials(generator, 0.9)
    gain = np.array([0.92, 0.8, 1.02]) * generator.uniform(0.8, 1.2)
    return Style(
        facades=_FACADES,
        palette=PALETTES["dusk"],
        second=second_colours(0.5),
        family="photo",
        kind=kind,
        scale=scale,
        strength=strength,
        jitter=0.1,
        turn=0.5,
        sky_fade=generator.uniform(0.5, 0.9),
        occlusion=0.2,
        contact=0.5,
        shadow_blur=4.0,
        glass=(3, 0, 3),
        field=0.3,
        matrix=colour_matrix(0.85, gain, 0.95, 0.0),
        blur=0.5,
        noise=generator.uniform(5.0, 9.0),
        noise_blur=0.6,
        jpeg=75,
        glow=True,
    )
