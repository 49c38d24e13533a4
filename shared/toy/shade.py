"""From faces and a style to colors: palette, textures, windows, light and shadow."""

import functools

import cv2
import numpy as np

from shared.toy.palettes import CHOICES, PART_INDEX
from shared.toy.raster import Raster
from shared.toy.scene import GROUND, LONG_SHADOW
from shared.toy.styles import Style
from shared.toy.textures import LEVELS, SIZE, bank, light_field

_BAY = 24  # texels of one window bay
_DEEP = 131072.0  # keeps texture coordinates positive: truncation is then a floor
_GLASS, _FRAME, _DARK = 1, 2, 3  # in a bay; 0 is the wall
_LIT = (255, 214, 130)


def color(raster: Raster, style: Style, generator: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 radiance before the camera."""
    first = _face_colors(raster, style)
    image = _gather(first, raster.face)
    other = _gather(first * style.second[raster.parts], raster.face)
    weight = _texture_weight(raster, style)
    _paint_windows(raster, style, image, weight)
    light = _light(raster, style, generator)
    # Two weighted sums in one: (1 - w)·first + w·second, times the light (black fills up).
    mixed = cv2.blendLinear(image, other, 1.0 - weight, weight)
    lighted = cv2.blendLinear(mixed, np.zeros_like(mixed), light, 1.0 - light)
    return cv2.cvtColor(lighted, cv2.COLOR_RGBA2RGB)


def _face_colors(raster: Raster, style: Style) -> np.ndarray:
    """(faces, 3) float32, the first color of every face."""
    choice = (raster.tints[:, 0] * CHOICES).astype(np.int64)
    swing = 2.0 * raster.tints[:, 1:4] - 1.0
    colors = style.palette[raster.parts, choice]
    colors = colors * (1.0 + style.jitter * (0.7 * swing[:, :1] + 0.3 * swing))
    return colors * (raster.shades**style.turn)[:, None]


def _gather(colors: np.ndarray, face: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8; packed into one uint32 per color, a gather moves whole pixels."""
    rgba = np.zeros((len(colors), 4), np.uint8)
    rgba[:, :3] = np.clip(colors, 0, 255)
    return rgba.view(np.uint32)[:, 0].take(face).view(np.uint8).reshape(*face.shape, 4)


def _texture_weight(raster: Raster, style: Style) -> np.ndarray:
    """(H, W) float32 share of the second color."""
    face, parts, tints = raster.face, raster.parts, raster.tints
    kind, scale, strength = style.kind[parts], style.scale[parts], style.strength[parts]
    if style.facades:
        facade = np.flatnonzero(parts == PART_INDEX["facade"])
        choice = (tints[facade, 2] * len(style.facades)).astype(np.int64)
        for array, values in zip((kind, scale, strength), np.array(style.facades).T, strict=True):
            array[facade] = values[choice]
    texels = scale.take(face)
    footprint = raster.depth * texels
    footprint *= 1.0 / (raster.camera.focal * face.shape[1])
    # Ground is seen at a grazing angle: its rows cover more texels than its columns.
    footprint *= np.where(raster.planes == GROUND, 3.0, 1.0).astype(np.float32).take(face)
    level = (footprint.view(np.int32) >> 23) - 127  # floor of the binary logarithm
    tiles = bank(style.family)
    index = np.clip(level, 0, LEVELS - 1) * tiles.shape[1] + kind.take(face)
    shift = (_DEEP + np.floor(tints[:, 2:4] * SIZE)).astype(np.float32)
    for coordinate, column in ((raster.up, 1), (raster.across, 0)):
        texel = coordinate * texels + shift[:, column].take(face)
        index = index * SIZE + (texel.astype(np.int32) & (SIZE - 1))
    weight = tiles.reshape(-1).take(index).astype(np.float32)
    return weight * (strength / 255.0).astype(np.float32).take(face)


@functools.cache
def _bays() -> np.ndarray:
    """(designs, _BAY, _BAY) uint8 codes of one bay, row 0 at the floor; the last is a shop."""
    bays = np.zeros((7, _BAY, _BAY), np.uint8)
    for bay, (left, right, low, high, mullion, balcony) in zip(
        bays[:-1],
        (
            (6, 18, 7, 20, True, False),
            (8, 16, 6, 20, False, False),
            (2, 22, 8, 20, True, False),
            (5, 19, 3, 20, True, True),
            (0, 24, 8, 18, False, False),
            (7, 17, 8, 17, True, False),
        ),
        strict=True,
    ):
        bay[low - 1 : high + 1, max(left - 1, 0) : right + 1] = _FRAME
        bay[low:high, left:right] = _GLASS
        if mullion:
            bay[low:high, 12] = _FRAME
        if balcony:
            bay[1:6, 3:21] = _DARK
    bays[-1, 1:18, 2:22] = _GLASS
    bays[-1, 18:21] = _DARK
    return bays


def _paint_windows(raster: Raster, style: Style, image: np.ndarray, weight: np.ndarray) -> None:
    """Windows on all facades of `image` (H, W, 4), in place; on glass the texture is weaker."""
    facades = [PART_INDEX["facade"], PART_INDEX["far facade"]]
    pixels = np.flatnonzero(np.isin(raster.parts, facades).take(raster.face))
    face = raster.face.reshape(-1)[pixels]
    tints = raster.tints
    column = raster.across.reshape(-1)[pixels] / (1.8 + 1.8 * tints[:, 2])[face] + 512.0
    row = raster.up.reshape(-1)[pixels] / (2.8 + 0.9 * tints[:, 3])[face] + 0.02
    bay, floor = column.astype(np.int32), row.astype(np.int32)
    bays = _bays()
    design = (tints[:, 1] * 977 % 1 * (len(bays) - 1)).astype(np.int32)[face]
    design[(tints[:, 0] * 531 % 1 < 0.35)[face] & (floor == 0)] = len(bays) - 1
    across = ((column - bay) * _BAY).astype(np.int32)
    along = (np.clip(row - floor, 0, 0.999) * _BAY).astype(np.int32)
    code = bays[design, along, across]
    owners = raster.owners.astype(np.int64)[face]
    salt = (bay * 73856093) ^ (floor * 19349663) ^ (owners * 83492791)
    dark, bright = style.palette[PART_INDEX["glass"], 0], style.palette[PART_INDEX["sky"], 0]
    panes = np.array([dark, 0.35 * dark + 0.6 * bright, _LIT]).repeat(style.glass, axis=0)
    shades = 0.75 + 0.5 * ((salt >> 3) & 15) / 15.0
    colors = np.zeros((len(pixels), 4), np.uint8)
    colors[:, :3] = np.clip(panes[(salt >> 7) % len(panes)] * shades[:, None], 0, 255)
    flat, glass = image.reshape(-1, 4), code == _GLASS
    flat[pixels[glass]] = colors[glass]
    weight.reshape(-1)[pixels[glass]] *= 0.25
    frame, gloom = pixels[code == _FRAME], pixels[code == _DARK]
    flat[frame] = flat[frame] // 2 + style.frame
    flat[gloom] = flat[gloom] // 2


def _light(raster: Raster, style: Style, generator: np.random.Generator) -> np.ndarray:
    """(H, W) float32 factor of the illumination."""
    height, width = raster.face.shape
    light = np.ones((height, width), np.float32)
    if style.field:
        y, x = generator.integers(0, SIZE - 64), generator.integers(0, SIZE - 128)
        patch = np.ascontiguousarray(light_field()[y : y + 64, x : x + 128])
        light += style.field * cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
    if style.occlusion:
        near_ground = raster.up * (-style.occlusion / 1.6) + style.occlusion
        light *= 1.0 - np.clip(near_ground, 0.0, style.occlusion)
    if style.sky_fade:
        sky = np.isin(raster.parts, [PART_INDEX["sky"], PART_INDEX["cloud"]]).take(raster.face)
        horizon = raster.camera.horizon * height
        fade = style.sky_fade * np.clip(np.arange(height) / max(horizon, 1.0), 0, 1)
        light += sky * fade.astype(np.float32)[:, None]
    if style.sun or style.contact:
        shadow = raster.shadow
        if style.shadow_blur:
            shadow = cv2.GaussianBlur(shadow, (0, 0), style.shadow_blur * height / 256)
        darkest = max(style.sun, style.contact)
        factors = (1.0, 1.0 - style.sun, 1.0 - darkest)
        table = np.interp(np.arange(256), (0, LONG_SHADOW, 255), factors).astype(np.float32)
        ground = (raster.planes == GROUND).take(raster.face)
        np.multiply(light, table.take(shadow), out=light, where=ground)
    return light
