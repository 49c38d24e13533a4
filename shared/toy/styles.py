"""Appearance: what a domain draws its colours, textures, light and camera from, frame by frame."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shared.toy.palettes import CHOICES, PALETTES
from shared.toy.parts import PART_INDEX, PARTS
from shared.toy.textures import ABSTRACT_KINDS, PHOTO_KINDS


@dataclass(frozen=True)
class Style:
    """One frame's appearance.

    Args:
        palette: (parts, 8, 3) colours, 0..255.
        jitter: per-object brightness and colour variation, fraction.
        second: (parts, 3) second colour of a texture as a factor of the first.
        family: texture bank.
        kind, scale, strength: (parts,) tile index, texels per metre, 0..1.
        turn: how much darker sides that face away are, as an exponent (0: flat).
        sky_fade: how much brighter the sky gets towards the horizon, 0..1.
        occlusion: darkening near the ground, 0..1.
        sun, contact: darkness of cast and of contact shadows, 0..1.
        shadow_blur: pixels at 256 rows.
        glass: (3,) int weights of dark, bright (reflecting) and lit windows.
        field: amplitude of the slow illumination field.
        matrix: (3, 4) colour transform of the finished picture, on 0..255 values.
        blur: Gaussian, pixels at 256 rows.
        noise, noise_blur: sensor noise, grey levels and pixels.
        jpeg: quality, 0 for none.
        outline: pixels at 256 rows, 0 for none.
        levels: grey levels per channel, 0 for all.
        wash: water-colour diffusion, 0..1.
        glow: whether lamps and windows shine.
        facades: (tile index, texels per metre, strength) choices of a building, or none.
        frame: grey level added to a halved wall colour for window frames.
    """

    palette: np.ndarray
    second: np.ndarray
    family: str
    kind: np.ndarray
    scale: np.ndarray
    strength: np.ndarray
    jitter: float = 0.04
    turn: float = 1.0
    sky_fade: float = 0.3
    occlusion: float = 0.0
    sun: float = 0.0
    contact: float = 0.3
    shadow_blur: float = 0.0
    glass: tuple[int, int, int] = (3, 1, 0)
    field: float = 0.0
    matrix: np.ndarray | None = None
    blur: float = 0.0
    noise: float = 0.0
    noise_blur: float = 0.0
    jpeg: int = 0
    outline: float = 0.0
    levels: int = 0
    wash: float = 0.0
    glow: bool = False
    facades: tuple[tuple[int, float, float], ...] = ()
    frame: int = 90


_LEAVES = ("crown", "crown light", "crown dark", "hedge", "far crown")

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


def materials(
    table: dict[str, tuple[str, float, float]], kinds: tuple[str, ...], gain: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tile index, texels per metre and strength of every part."""
    kind = np.zeros(len(PARTS), np.int32)
    scale = np.ones(len(PARTS), np.float32)
    strength = np.zeros(len(PARTS), np.float32)
    for part, (name, texels, amount) in table.items():
        index = PART_INDEX[part]
        kind[index], scale[index] = kinds.index(name), texels
        strength[index] = min(amount * gain, 1.0)
    return kind, scale, strength


def _second(darkness: float) -> np.ndarray:
    """Second colours: a shade of the first, deeper in foliage."""
    factors = np.full((len(PARTS), 3), 1.0 - darkness, np.float32)
    for part in _LEAVES:
        factors[PART_INDEX[part]] = (1 - 1.35 * darkness, 1 - 1.2 * darkness, 1 - 1.3 * darkness)
    factors[PART_INDEX["bike wheel"]] = 1.0 - 0.5 * darkness
    return np.clip(factors, 0.1, 2.0)


def _matrix(
    saturation: float, gain: np.ndarray | tuple[float, float, float], contrast: float, lift: float
) -> np.ndarray:
    """Saturation around the luma, then contrast around mid grey, then per-channel gain."""
    luma = np.array([0.299, 0.587, 0.114])
    colour = saturation * np.eye(3) + (1.0 - saturation) * luma[None, :]
    linear = np.asarray(gain)[:, None] * contrast * colour
    offset = 128.0 * (1.0 - contrast) * np.asarray(gain) + lift
    return np.column_stack([linear, offset]).astype(np.float32)


def _flat_materials(generator: np.random.Generator, gain: float) -> tuple:
    table = dict.fromkeys(("road", "sidewalk", "terrain", "parking"), ("smooth", 6.0, 0.35))
    table |= dict.fromkeys(_LEAVES, ("coarse", 10.0, 0.5))
    table["fence"] = ("stripes", 90.0, 0.9)
    table["far facade"] = ("flat", 1.0, 0.0)
    table["far crown"] = ("coarse", 4.0, 0.4)
    return materials(table, ABSTRACT_KINDS, gain * generator.uniform(0.8, 1.1))


def game(generator: np.random.Generator) -> Style:
    kind, scale, strength = _flat_materials(generator, 0.6)
    return Style(
        palette=PALETTES["game"],
        second=_second(0.3),
        family="abstract",
        kind=kind,
        scale=scale,
        strength=strength,
        jitter=0.05,
        turn=1.2,
        sky_fade=generator.uniform(0.3, 0.6),
        sun=generator.uniform(0.35, 0.5),
        contact=0.5,
        matrix=_matrix(
            generator.uniform(1.0, 1.2), (1.02, 1.0, 0.96), 1.05, generator.uniform(-6, 8)
        ),
    )


def synthia(generator: np.random.Generator) -> Style:
    kind, scale, strength = _flat_materials(generator, 0.9)
    gain = np.array([0.95, 0.99, 1.06]) * generator.uniform(0.85, 1.08)
    return Style(
        palette=PALETTES["synthia"],
        second=_second(0.35),
        family="abstract",
        kind=kind,
        scale=scale,
        strength=strength,
        jitter=0.06,
        turn=1.6,
        sky_fade=0.2,
        sun=generator.uniform(0.0, 0.35),
        contact=0.35,
        shadow_blur=1.5,
        matrix=_matrix(generator.uniform(0.75, 1.0), gain, 0.95, 4.0),
    )


def _photo_materials(generator: np.random.Generator, gain: float) -> tuple:
    table = dict(_PHOTO)
    table |= {part: ("leaf", _LEAF_SCALE.get(part, 40.0), 0.95) for part in _LEAVES}
    table["facade"] = ("plaster", 22.0, 0.6)
    kind, scale, strength = materials(table, PHOTO_KINDS, gain)
    scale *= generator.uniform(0.75, 1.3, len(PARTS)).astype(np.float32)
    strength *= generator.uniform(0.7, 1.05, len(PARTS)).astype(np.float32)
    return kind, scale, strength


def real(generator: np.random.Generator) -> Style:
    kind, scale, strength = _photo_materials(generator, 1.0)
    cast = 1.0 + generator.normal(0.0, 0.035, 3)
    cast[1] += 0.02
    return Style(
        facades=_FACADES,
        frame=int(generator.integers(60, 110)),
        palette=PALETTES["real"],
        second=_second(generator.uniform(0.45, 0.62)),
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
        matrix=_matrix(
            generator.uniform(0.7, 1.0),
            cast * generator.uniform(0.95, 1.4),
            generator.uniform(0.85, 1.05),
            generator.uniform(-4, 12),
        ),
        blur=generator.uniform(0.4, 0.75),
        noise=generator.uniform(3.0, 6.5),
        noise_blur=0.5,
        jpeg=int(generator.integers(60, 88)),
    )


def dusk(generator: np.random.Generator) -> Style:
    kind, scale, strength = _photo_materials(generator, 0.9)
    gain = np.array([0.92, 0.8, 1.02]) * generator.uniform(0.8, 1.2)
    return Style(
        facades=_FACADES,
        palette=PALETTES["dusk"],
        second=_second(0.5),
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
        matrix=_matrix(0.85, gain, 0.95, 0.0),
        blur=0.5,
        noise=generator.uniform(5.0, 9.0),
        noise_blur=0.6,
        jpeg=75,
        glow=True,
    )


def _bare(kind: np.ndarray, scale: np.ndarray, strength: np.ndarray, second: np.ndarray) -> None:
    """Trees without leaves: branches in front of the sky, in place."""
    for part in _LEAVES:
        index = PART_INDEX[part]
        kind[index] = ABSTRACT_KINDS.index("ridges")
        scale[index] = 8.0 if part == "far crown" else 26.0
        strength[index] = 0.9
        second[index] = (0.38, 0.34, 0.32)


def season(
    name: str, gain: tuple[float, float, float], second: float, sun: float
) -> Callable[[np.random.Generator], Style]:
    def draw(generator: np.random.Generator) -> Style:
        kind, scale, strength = _flat_materials(generator, 1.3)
        factors = _second(second)
        if name == "winter":
            _bare(kind, scale, strength, factors)
        return Style(
            palette=PALETTES[name],
            second=factors,
            family="abstract",
            kind=kind,
            scale=scale,
            strength=strength,
            jitter=0.08,
            occlusion=0.15,
            sky_fade=generator.uniform(0.2, 0.5),
            sun=sun * generator.uniform(0.7, 1.2),
            contact=0.4,
            shadow_blur=1.0,
            field=0.08,
            matrix=_matrix(generator.uniform(0.8, 1.05), gain, generator.uniform(0.9, 1.05), 2.0),
            noise=2.0,
        )

    return draw


def clipart(generator: np.random.Generator) -> Style:
    zero = np.zeros(len(PARTS), np.int32)
    return Style(
        palette=PALETTES["drawn"],
        second=_second(0.2),
        family="abstract",
        kind=zero,
        scale=zero + np.float32(1),
        strength=zero * np.float32(0),
        jitter=0.0,
        turn=0.6,
        sky_fade=0.0,
        contact=0.2,
        glass=(0, 1, 0),
        outline=generator.uniform(1.0, 1.8),
        levels=int(generator.integers(5, 8)),
    )


def watercolor(generator: np.random.Generator) -> Style:
    kind, scale, strength = _flat_materials(generator, 1.6)
    gain = 1.0 + generator.normal(0.0, 0.03, 3)
    return Style(
        palette=PALETTES["drawn"],
        second=_second(0.3),
        family="abstract",
        kind=kind,
        scale=scale,
        strength=strength,
        jitter=0.12,
        turn=0.8,
        sky_fade=0.5,
        contact=0.25,
        shadow_blur=2.0,
        glass=(2, 1, 0),
        field=0.25,
        matrix=_matrix(generator.uniform(0.45, 0.7), gain, 0.7, generator.uniform(24, 42)),
        wash=generator.uniform(0.7, 1.0),
        blur=0.6,
    )


STYLES: dict[str, Callable[[np.random.Generator], Style]] = {
    "game": game,
    "synthia": synthia,
    "real": real,
    "foggy": real,
    "summer": season("summer", (1.05, 1.02, 0.92), 0.35, 0.4),
    "fall": season("fall", (1.0, 0.93, 0.85), 0.4, 0.25),
    "winter": season("winter", (0.78, 0.82, 0.9), 0.3, 0.05),
    "dusk": dusk,
    "clipart": clipart,
    "watercolor": watercolor,
}


def random_style(generator: np.random.Generator) -> Style:
    """Domain randomisation: a style far broader than any domain's and none in particular.

    Colours keep a loose tie to the drawn palettes in half of the cases; textures come from the
    abstract bank, which no photographic domain uses.
    """
    count = len(PARTS)
    palette = np.repeat(generator.uniform(10, 245, (count, 1, 3)), CHOICES, axis=1)
    palette += generator.normal(0.0, 30.0, palette.shape)
    known = PALETTES[str(generator.choice(["game", "synthia", "summer", "fall", "drawn"]))]
    tie = generator.choice([0.0, 0.4, 0.8, 1.0])
    palette = np.clip((1 - tie) * palette + tie * known, 0, 255).astype(np.float32)
    strength = generator.uniform(0.0, 1.0, count) ** 1.5 * generator.uniform(0.0, 1.0)
    second = np.clip(generator.normal(0.7, 0.4, (count, 3)), 0.1, 2.0)
    second = 0.5 * second + 0.5 * second.mean(axis=1, keepdims=True)
    drawn = generator.random() < 0.12
    return Style(
        palette=palette,
        second=second.astype(np.float32),
        family="abstract",
        kind=generator.integers(0, len(ABSTRACT_KINDS), count).astype(np.int32),
        scale=np.exp(generator.uniform(np.log(5.0), np.log(120.0), count)).astype(np.float32),
        strength=strength.astype(np.float32),
        jitter=generator.uniform(0.0, 0.3),
        turn=generator.uniform(0.0, 2.0),
        sky_fade=generator.uniform(0.0, 0.6),
        occlusion=generator.uniform(0.0, 0.6),
        sun=generator.uniform(0.0, 0.5),
        contact=generator.uniform(0.0, 0.7),
        shadow_blur=generator.uniform(0.0, 8.0),
        glass=tuple(int(k) for k in generator.integers(1, 5, 3)),
        field=generator.uniform(0.0, 0.5),
        matrix=_matrix(
            generator.uniform(0.2, 1.3),
            generator.uniform(0.5, 1.15, 3),
            generator.uniform(0.5, 1.3),
            generator.uniform(-30, 30),
        ),
        blur=generator.choice([0.0, generator.uniform(0.3, 1.5)]),
        noise=generator.choice([0.0, generator.uniform(1.0, 15.0)]),
        noise_blur=generator.choice([0.0, 1.2]),
        outline=1.0 if drawn else 0.0,
        levels=int(generator.integers(4, 10)) if drawn else 0,
    )
