"""From faces and a style to colours: palette, textures, windows, light and shadow."""

import functools

import cv2
import numpy as np

from shared.toy.palettes import CHOICES, PART_INDEX, PARTS
from shared.toy.scene import GROUND, LONG_SHADOW, Raster, Scene
from shared.toy.style import Style
from shared.toy.textures import LEVELS, SIZE, bank, light_field

_FACADES = (PART_INDEX["facade"], PART_INDEX["far facade"])
_BAY = 24  # texels of one window bay
_DEEP = 131072.0  # keeps texture coordinates positive: truncation is then a floor
WALL_TEXEL, GLASS_TEXEL, FRAME_TEXEL, DARK_TEXEL = 0, 1, 2, 3


@functools.cache
def _bays() -> np.ndarray:
    """(designs, _BAY, _BAY) uint8 texel codes of one bay, row 0 at the floor."""
    designs = []
    for left, right, low, high, mullion, balcony in (
        (6, 18, 7, 20, True, False),
        (8, 16, 6, 20, False, False),
        (2, 22, 8, 20, True, False),
        (5, 19, 3, 20, True, True),
        (0, 24, 8, 18, False, False),
        (7, 17, 8, 17, True, False),
    ):
        bay = np.zeros((_BAY, _BAY), np.uint8)
        bay[max(low - 1, 0) : high + 1, max(left - 1, 0) : right + 1] = FRAME_TEXEL
        bay[low:high, left:right] = GLASS_TEXEL
        if mullion:
            bay[low:high, 12] = FRAME_TEXEL
        if balcony:
            bay[1:6, 3:21] = DARK_TEXEL
        designs.append(bay)
    shop = np.zeros((_BAY, _BAY), np.uint8)
    shop[1:18, 2:22] = GLASS_TEXEL
    shop[18:21, 0:24] = DARK_TEXEL
    return np.stack([*designs, shop])


def _face_colours(scene: Scene, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """First and second colour of every face: (faces, 3) float32."""
    parts = np.array(scene.parts)
    tints = np.array(scene.tints, np.float32)[scene.tint_of]
    choice = (tints[:, 0] * CHOICES).astype(np.int64)
    first = style.palette[parts, choice]
    swing = 2.0 * tints[:, 1:4] - 1.0
    first = first * (1.0 + style.jitter * (0.7 * swing[:, :1] + 0.3 * swing))
    shade = np.array(scene.shades, np.float32) ** style.turn
    first = first * shade[:, None]
    return first, first * style.second[parts]


def _pack(colours: np.ndarray) -> np.ndarray:
    """(N, 3) float to one uint32 per colour: a gather then moves whole pixels."""
    rgba = np.zeros((len(colours), 4), np.uint8)
    rgba[:, :3] = np.clip(colours, 0, 255)
    return rgba.view(np.uint32)[:, 0]


def _gather(colours: np.ndarray, face: np.ndarray) -> np.ndarray:
    return _pack(colours).take(face).view(np.uint8).reshape(*face.shape, 4)


def _texture_weight(scene: Scene, raster: Raster, style: Style) -> np.ndarray:
    """(H, W) float32 share of the second colour."""
    parts = np.array(scene.parts)
    tints = np.array(scene.tints, np.float32)[scene.tint_of]
    kind, scale, strength = style.kind[parts], style.scale[parts], style.strength[parts]
    if style.facades:
        facade = np.flatnonzero(parts == PART_INDEX["facade"])
        pick = (tints[facade, 2] * len(style.facades)).astype(np.int64)
        for array, column in ((kind, 0), (scale, 1), (strength, 2)):
            array[facade] = np.array([f[column] for f in style.facades])[pick]
    face = raster.face
    texels = scale.astype(np.float32).take(face)
    footprint = raster.depth * texels
    footprint *= 1.0 / (scene.camera.focal * face.shape[1])
    # Ground is seen at a grazing angle: its rows cover more texels than its columns.
    footprint *= np.where(np.array(scene.planes) == GROUND, 3.0, 1.0).astype(np.float32).take(face)
    level = (footprint.view(np.int32) >> 23) - 127  # floor of the binary logarithm
    np.clip(level, 0, LEVELS - 1, out=level)
    tiles = bank(style.family)
    index = level
    index *= tiles.shape[1]
    index += kind.astype(np.int32).take(face)
    shift = (_DEEP + np.floor(tints[:, 2:4] * SIZE)).astype(np.float32)
    for coordinate, column in ((raster.up, 1), (raster.across, 0)):
        texel = coordinate * texels
        texel += shift[:, column].take(face)
        index *= SIZE
        index += texel.astype(np.int32) & (SIZE - 1)
    weight = tiles.reshape(-1).take(index).astype(np.float32)
    weight *= (strength / 255.0).astype(np.float32).take(face)
    return weight


def _windows(
    scene: Scene, raster: Raster, style: Style, image: np.ndarray, weight: np.ndarray
) -> np.ndarray | None:
    """Paint windows on all facades; returns the flat indices of the lit ones."""
    is_facade = np.isin(np.array(scene.parts), _FACADES)
    pixels = np.flatnonzero(is_facade.take(raster.face))
    if not len(pixels):
        return None
    face = raster.face.reshape(-1)[pixels]
    tints = np.array(scene.tints, np.float32)[scene.tint_of]
    seeds = np.array(scene.tint_of)
    width = 1.8 + 1.8 * tints[:, 2]
    floor_height = 2.8 + 0.9 * tints[:, 3]
    column = raster.across.reshape(-1)[pixels] / width[face] + 512.0
    row = raster.up.reshape(-1)[pixels] / floor_height[face] + 0.02
    bay, storey = column.astype(np.int32), row.astype(np.int32)
    bays = _bays()
    design = (tints[:, 1] * 977 % 1 * (len(bays) - 1)).astype(np.int32)[face]
    shop = (tints[:, 0] * 531 % 1 < 0.35)[face] & (storey == 0)
    design[shop] = len(bays) - 1
    across = ((column - bay) * _BAY).astype(np.int32)
    along = (np.clip(row - storey, 0, 0.999) * _BAY).astype(np.int32)
    code = bays[design, along, across]
    glass = code == GLASS_TEXEL
    salt = (bay * 73856093) ^ (storey * 19349663) ^ (seeds[face] * 83492791)
    total = sum(style.glass)
    roll = (salt >> 7) % total
    colour = np.zeros((len(pixels), 4), np.uint8)
    dark, bright = style.palette[PART_INDEX["glass"], 0], style.palette[PART_INDEX["sky"], 0]
    options = np.array([dark, 0.35 * dark + 0.6 * bright, (255, 214, 130)])
    options = options[np.repeat(np.arange(3), style.glass)]
    shades = 0.75 + 0.5 * ((salt >> 3) & 15) / 15.0
    flat = image.reshape(-1, 4)
    colour[:, :3] = np.clip(options[roll] * shades[:, None], 0, 255)
    flat[pixels[glass]] = colour[glass]
    frame = pixels[code == FRAME_TEXEL]
    flat[frame] = flat[frame] // 2 + style.frame
    gloom = pixels[code == DARK_TEXEL]
    flat[gloom] = flat[gloom] // 2
    weight.reshape(-1)[pixels[glass]] *= 0.25
    return pixels[glass & (roll >= style.glass[0] + style.glass[1])]


def _light(
    scene: Scene, raster: Raster, style: Style, generator: np.random.Generator
) -> np.ndarray:
    """(H, W) float32 factor of the illumination."""
    height, width = raster.face.shape
    light = np.ones((height, width), np.float32)
    if style.field:
        y, x = generator.integers(0, SIZE - 64), generator.integers(0, SIZE - 128)
        patch = np.ascontiguousarray(light_field()[y : y + 64, x : x + 128])
        light += style.field * cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
    if style.occlusion:
        near_ground = raster.up * (-style.occlusion / 1.6)
        near_ground += style.occlusion
        np.clip(near_ground, 0.0, style.occlusion, out=near_ground)
        light *= np.subtract(1.0, near_ground, out=near_ground)
    if style.sky_fade:
        sky = np.array([PARTS[p] in ("sky", "cloud") for p in scene.parts]).take(raster.face)
        horizon = scene.camera.horizon * height
        fade = style.sky_fade * np.clip(np.arange(height) / max(horizon, 1.0), 0, 1)
        light += sky * fade.astype(np.float32)[:, None]
    if style.sun or style.contact:
        shadow = raster.shadow
        if style.shadow_blur:
            shadow = cv2.GaussianBlur(shadow, (0, 0), style.shadow_blur * height / 256)
        anchors = (0, LONG_SHADOW, 255)
        darkest = max(style.sun, style.contact)
        table = np.interp(np.arange(256), anchors, (1.0, 1.0 - style.sun, 1.0 - darkest))
        factor = table.astype(np.float32).take(shadow)
        ground = (np.array(scene.planes) == GROUND).take(raster.face)
        np.multiply(light, factor, out=light, where=ground)
    return light


def colour(
    scene: Scene, raster: Raster, style: Style, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W, 3) uint8 radiance before the camera, and flat indices of lit windows."""
    first, second = _face_colours(scene, style)
    image = _gather(first, raster.face)
    other = _gather(second, raster.face)
    weight = _texture_weight(scene, raster, style)
    lit = _windows(scene, raster, style, image, weight)
    light = _light(scene, raster, style, generator)
    # Two weighted sums in one: (1 - w)·first + w·second, times the light (black fills up).
    mixed = cv2.blendLinear(image, other, 1.0 - weight, weight)
    lighted = cv2.blendLinear(mixed, np.zeros_like(mixed), light, 1.0 - light)
    return cv2.cvtColor(lighted, cv2.COLOR_RGBA2RGB), lit
