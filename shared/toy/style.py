"""The appearance of one frame, and how its parts are put together."""

from dataclasses import dataclass

import numpy as np

from shared.toy.palettes import PART_INDEX, PARTS

LEAVES = ("crown", "crown light", "crown dark", "hedge", "far crown")


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


def second_colours(darkness: float) -> np.ndarray:
    """Second colours: a shade of the first, deeper in foliage."""
    factors = np.full((len(PARTS), 3), 1.0 - darkness, np.float32)
    for part in LEAVES:
        factors[PART_INDEX[part]] = (1 - 1.35 * darkness, 1 - 1.2 * darkness, 1 - 1.3 * darkness)
    factors[PART_INDEX["bike wheel"]] = 1.0 - 0.5 * darkness
    return np.clip(factors, 0.1, 2.0)


def colour_matrix(
    saturation: float, gain: np.ndarray | tuple[float, float, float], contrast: float, lift: float
) -> np.ndarray:
    """Saturation around the luma, then contrast around mid grey, then per-channel gain."""
    luma = np.array([0.299, 0.587, 0.114])
    colour = saturation * np.eye(3) + (1.0 - saturation) * luma[None, :]
    linear = np.asarray(gain)[:, None] * contrast * colour
    offset = 128.0 * (1.0 - contrast) * np.asarray(gain) + lift
    return np.column_stack([linear, offset]).astype(np.float32)
