"""The appearance of a frame, drawn from the table of a domain's looks or at random."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from shared.toy.domains import LOOKS, TINTS, Cell
from shared.toy.palettes import PALETTES, PART_INDEX, PARTS
from shared.toy.textures import ABSTRACT_KINDS, PHOTO_KINDS

_LEAF_INDICES = [
    PART_INDEX[part] for part in ("crown", "crown light", "crown dark", "hedge", "far crown")
]

# Texture, texels per meter and strength of the parts of the painted domains, …
_ABSTRACT = """
road, sidewalk, terrain, parking: smooth 6 0.35
crown, crown light, crown dark, hedge: coarse 10 0.5
far crown: coarse 4 0.4
fence: stripes 90 0.9
"""
# … of their trees in winter, branches in front of the sky (of a fixed strength and color), …
_BARE = """
crown, crown light, crown dark, hedge: ridges 26 1
far crown: ridges 8 1
"""
_BARE_STRENGTH, _BARE_COLOR = 0.9, (0.38, 0.34, 0.32)
# … and of the photographic ones.
_PHOTO = """
sky: cloud 0.02 0.35
cloud: cloud 0.05 0.5
road: asphalt 34 0.75
patch: asphalt 34 0.8
lane: asphalt 45 0.6
parking: slabs 110 0.7
sidewalk: slabs 75 0.8
far facade: slabs 16 0.6
terrain: grass 45 0.9
crown, crown light, crown dark: leaf 40 0.95
hedge: leaf 55 0.95
far crown: leaf 12 0.95
roof: brick 50 0.8
wall: stone 45 0.85
fence: bars 95 0.95
facade: plaster 22 0.6
cargo: plaster 30 0.45
bus body, tram body: plaster 25 0.35
board: plaster 60 0.3
car body: crumpled 25 0.45
glass: crumpled 50 0.6
trunk: crumpled 80 0.8
top, trousers: crumpled 120 0.6
curb: speckle 60 0.7
ground: speckle 40 0.8
wall cap: speckle 50 0.6
door, sign back: speckle 60 0.5
pole: speckle 60 0.55
static: speckle 60 0.6
sign: speckle 60 0.3
tyre, bumper: speckle 60 0.4
bike wheel: speckle 80 0.8
ego: cloud 60 0.6
"""
# Texture, texels per meter and strength that a photographed facade chooses from.
_FACADES = tuple(
    (PHOTO_KINDS.index(texture), scale, strength)
    for texture, scale, strength in (
        *(("plaster", 14.0, 0.75), ("brick", 56.0, 0.8), ("speckle", 30.0, 0.6)),
        *(("brick", 40.0, 0.7), ("plaster", 26.0, 0.5)),
    )
)


@dataclass(frozen=True)
class Style:
    """One frame's appearance. Lengths in pixels are those at 256 rows."""

    palette: np.ndarray  # (parts, 8, 3) colors, 0..255
    second: np.ndarray  # (parts, 3) second color of a texture as a factor of the first
    family: str  # texture bank
    kind: np.ndarray  # (parts,) texture of the bank
    scale: np.ndarray  # (parts,) texels per meter
    strength: np.ndarray  # (parts,) of the texture, 0..1
    matrix: np.ndarray  # (3, 4) color transform of the finished picture, on 0..255 values
    jitter: float = 0.04  # brightness and color variation of objects, fraction
    turn: float = 1.0  # how much darker sides that face away are, as an exponent (0: flat)
    sky_fade: float = 0.3  # how much brighter the sky gets towards the horizon, 0..1
    occlusion: float = 0.0  # darkening near the ground, 0..1
    sun: float = 0.0  # darkness of cast shadows, 0..1
    contact: float = 0.3  # darkness of contact shadows, 0..1
    shadow_blur: float = 0.0  # pixels
    glass: tuple[int, int, int] = (3, 1, 0)  # weights of dark, bright (reflecting), lit windows
    field: float = 0.0  # amplitude of the slow illumination field
    blur: float = 0.0  # Gaussian, pixels
    noise: float = 0.0  # of the sensor, gray levels
    noise_blur: float = 0.0  # pixels of the noise itself
    jpeg: int = 0  # quality, 0 for none
    outline: float = 0.0  # pixels, 0 for none
    levels: int = 0  # gray levels per channel, 0 for all
    wash: float = 0.0  # water-color diffusion, 0..1
    facades: tuple[tuple[int, float, float], ...] = ()  # kind, scale, strength choices of a facade
    frame: int = 90  # gray level added to a halved wall color for window frames


@cache
def _materials(text: str, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(parts,) texture, texels per meter and strength; no texture where the text names none."""
    kind = np.zeros(len(PARTS), np.int32)
    scale = np.ones(len(PARTS), np.float32)
    strength = np.zeros(len(PARTS), np.float64)
    for line in filter(None, text.splitlines()):
        parts, material = line.split(": ")
        name, texels, amount = material.split()
        for index in (PART_INDEX[part] for part in parts.split(", ")):
            kind[index] = kinds.index(name)
            scale[index], strength[index] = float(texels), float(amount)
    return kind, scale, strength


def _second_colors(darkness: float) -> np.ndarray:
    """Second colors: a shade of the first, deeper in foliage."""
    factors = np.full((len(PARTS), 3), 1.0 - darkness, np.float32)
    factors[_LEAF_INDICES] = (1 - 1.35 * darkness, 1 - 1.2 * darkness, 1 - 1.3 * darkness)
    factors[PART_INDEX["bike wheel"]] = 1.0 - 0.5 * darkness
    return np.clip(factors, 0.1, 2.0)


def color_matrix(
    gain: np.ndarray | tuple[float, float, float], saturation: float, contrast: float, lift: float
) -> np.ndarray:
    """Saturation around the luma, then contrast around mid gray, then per-channel gain."""
    luma = np.array([0.299, 0.587, 0.114])
    color = saturation * np.eye(3) + (1.0 - saturation) * luma[None, :]
    linear = np.asarray(gain)[:, None] * contrast * color
    offset = 128.0 * (1.0 - contrast) * np.asarray(gain) + lift
    return np.column_stack([linear, offset]).astype(np.float32)


def _value(cell: Cell, generator: np.random.Generator) -> Cell:
    """A range's value: an integer below the upper end of a range of integers."""
    if not isinstance(cell, tuple) or len(cell) != 2:
        return cell
    if all(isinstance(end, int) for end in cell):
        return int(generator.integers(*cell))
    return generator.uniform(*cell)


def domain_style(name: str, generator: np.random.Generator) -> Style:
    """A frame's style from the column `name` of the table of looks."""
    look = dict(LOOKS[name])
    palette, family = look.pop("palette"), look.pop("family", "abstract")
    texture = _value(look.pop("texture", 0.0), generator)
    if family == "photo":
        kind, scale, strength = _materials(_PHOTO, PHOTO_KINDS)
        strength = np.minimum(strength * texture, 1.0).astype(np.float32)
        scale = scale * generator.uniform(0.75, 1.3, len(PARTS)).astype(np.float32)
        strength *= generator.uniform(0.7, 1.05, len(PARTS)).astype(np.float32)
        look["facades"] = _FACADES
    else:
        text = _ABSTRACT + _BARE if name == "winter" else _ABSTRACT
        kind, scale, strength = _materials(text, ABSTRACT_KINDS)
        gain = texture * generator.uniform(0.8, 1.1) if texture else 0.0
        strength = np.minimum(strength * gain, 1.0).astype(np.float32)
    light = _value(look.pop("light", 1.0), generator)
    cast = generator.normal(0.0, look.pop("cast"), 3) if "cast" in look else 0.0
    values = {key: _value(cell, generator) for key, cell in look.items()}
    gain = (np.array(TINTS.get(name, (1.0, 1.0, 1.0))) + cast) * light * values.pop("exposure", 1.0)
    graded = (values.pop(key) for key in ("saturation", "contrast", "lift"))
    matrix = color_matrix(gain, *graded)
    second = _second_colors(values.pop("second"))
    if name == "winter":
        strength[_LEAF_INDICES] = _BARE_STRENGTH
        second[_LEAF_INDICES] = _BARE_COLOR
    return Style(PALETTES[palette], second, family, kind, scale, strength, matrix, **values)


def at_dusk(style: Style) -> Style:
    """Dark and bluish, with light in half of the windows."""
    return replace(style, glass=(3, 0, 3), matrix=color_matrix((0.6, 0.56, 0.75), 0.8, 1.2, -4.0))
