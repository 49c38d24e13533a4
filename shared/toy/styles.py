"""What each domain draws its appearance from, frame by frame."""

from collections.abc import Callable

import numpy as np

from shared.toy.palettes import CHOICES, PALETTES, PART_INDEX, PARTS
from shared.toy.photo_styles import dusk, real
from shared.toy.style import LEAVES, Style, colour_matrix, materials, second_colours
from shared.toy.textures import ABSTRACT_KINDS


def _flat_materials(generator: np.random.Generator, gain: float) -> tuple:
    table = dict.fromkeys(("road", "sidewalk", "terrain", "parking"), ("smooth", 6.0, 0.35))
    table |= dict.fromkeys(LEAVES, ("coarse", 10.0, 0.5))
    table["fence"] = ("stripes", 90.0, 0.9)
    table["far facade"] = ("flat", 1.0, 0.0)
    table["far crown"] = ("coarse", 4.0, 0.4)
    return materials(table, ABSTRACT_KINDS, gain * generator.uniform(0.8, 1.1))


def game(generator: np.random.Generator) -> Style:
    kind, scale, strength = _flat_materials(generator, generator.uniform(0.5, 1.2))
    # Hours of the day: a game's light and colours change from scene to scene.
    light = generator.uniform(0.7, 1.1) * (1.0 + generator.normal(0.0, 0.05, 3))
    return Style(
        palette=PALETTES["game"],
        second=second_colours(0.3),
        family="abstract",
        kind=kind,
        scale=scale,
        strength=strength,
        jitter=0.12,
        turn=generator.uniform(0.8, 1.4),
        sky_fade=generator.uniform(0.2, 0.7),
        sun=generator.uniform(0.15, 0.5),
        contact=0.5,
        matrix=colour_matrix(
            generator.uniform(0.85, 1.25), light, generator.uniform(0.85, 1.1), 4.0
        ),
    )


def synthia(generator: np.random.Generator) -> Style:
    kind, scale, strength = _flat_materials(generator, 0.9)
    gain = np.array([0.95, 0.99, 1.06]) * generator.uniform(0.85, 1.08)
    return Style(
        palette=PALETTES["synthia"],
        second=second_colours(0.35),
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
        matrix=colour_matrix(generator.uniform(0.75, 1.0), gain, 0.95, 4.0),
    )


def _bare(kind: np.ndarray, scale: np.ndarray, strength: np.ndarray, second: np.ndarray) -> None:
    """Trees without leaves: branches in front of the sky, in place."""
    for part in LEAVES:
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
        factors = second_colours(second)
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
            matrix=colour_matrix(
                generator.uniform(0.8, 1.05), gain, generator.uniform(0.9, 1.05), 2.0
            ),
            noise=2.0,
        )

    return draw


def clipart(generator: np.random.Generator) -> Style:
    zero = np.zeros(len(PARTS), np.int32)
    return Style(
        palette=PALETTES["drawn"],
        second=second_colours(0.2),
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
        second=second_colours(0.3),
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
        matrix=colour_matrix(generator.uniform(0.45, 0.7), gain, 0.7, generator.uniform(24, 42)),
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
        matrix=colour_matrix(
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
