"""What happens after the light: camera, drawing hand, weather."""

import functools

import cv2
import numpy as np

from shared.toy.palettes import PARTS
from shared.toy.raster import Raster
from shared.toy.styles import Style
from shared.toy.textures import SIZE, power_noise, sensor_noise


def finish(
    image: np.ndarray, raster: Raster, style: Style, generator: np.random.Generator
) -> np.ndarray:
    """(H, W, 3) uint8 radiance to picture."""
    unit = image.shape[0] / 256
    image = cv2.transform(image, style.matrix)
    if style.wash:
        image = _wash(image, style.wash, generator)
    if style.outline:
        image = _outline(image, raster, max(1, round(style.outline * unit)))
    if style.levels:
        step = 255 / (style.levels - 1)
        image = cv2.LUT(image, np.rint(np.rint(np.arange(256) / step) * step).astype(np.uint8))
    if style.blur:
        image = cv2.GaussianBlur(image, (0, 0), style.blur * unit)
    if style.noise:
        image = _noise(image, style, generator)
    if style.jpeg:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, style.jpeg])
        image = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return image


def _noise(image: np.ndarray, style: Style, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    tile = sensor_noise(style.noise_blur)
    if height > tile.shape[0] or width > tile.shape[1]:
        tile = np.tile(tile, (-(-height // tile.shape[0]), -(-width // tile.shape[1]), 1))
    y = generator.integers(0, tile.shape[0] - height + 1)
    x = generator.integers(0, tile.shape[1] - width + 1)
    patch = tile[y : y + height, x : x + width].astype(np.float32)
    noisy = cv2.scaleAdd(patch, style.noise / 32.0, image.astype(np.float32))
    return noisy.clip(0, 255).astype(np.uint8)


def _outline(image: np.ndarray, raster: Raster, thickness: int) -> np.ndarray:
    """Ink where two faces meet, except far away, where it would flood everything."""
    code = (raster.owners * len(PARTS) + raster.parts).take(raster.face)
    ink = np.zeros(code.shape, np.uint8)
    ink[:, 1:] = code[:, 1:] != code[:, :-1]
    ink[1:] |= code[1:] != code[:-1]
    ink[raster.depth > 45.0] = 0
    if thickness > 1:
        ink = cv2.dilate(ink, np.ones((thickness, thickness), np.uint8))
    image[ink > 0] = (24, 20, 28)
    return image


@functools.cache
def _paper() -> tuple[np.ndarray, np.ndarray]:
    """Displacement and pigment noise of water-color: (SIZE, SIZE) float32 each."""
    generator = np.random.default_rng(61)
    return power_noise(generator, 1.2, low=3) - 0.5, power_noise(generator, 0.9)


def _wash(image: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    unit, size = height / 256, (width, height)
    wobble, grain = _paper()
    y, x = (int(k) for k in generator.integers(0, SIZE, 2))
    wobble = np.tile(np.roll(wobble, (y, x), axis=(0, 1)), (1, 2))
    shift = cv2.resize(wobble, size) * (9.0 * strength * unit)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    maps = (columns + shift, rows + shift[::-1])
    image = cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    odd = 2 * int(1.5 * unit) + 3
    image = cv2.medianBlur(image, min(odd, 5))
    # Pigment gathers at the rim of a wash: darken where the surroundings are brighter.
    rim = cv2.subtract(cv2.blur(image, (odd + 4, odd + 4)), image)
    image = cv2.subtract(image, cv2.add(rim, rim))
    pigment = cv2.resize(np.tile(np.roll(grain, (x, y), axis=(0, 1)), (1, 2)), size)
    pale = (0.42 * strength * pigment)[..., None]
    return (image * (1.0 - pale) + 250.0 * pale).astype(np.uint8)


def fog(image: np.ndarray, depth: np.ndarray, beta: float, airlight: np.ndarray) -> np.ndarray:
    """I = J·t + A·(1 − t) with t = exp(−β·d), the model of Foggy Cityscapes.

    Args:
        depth: (H, W) meters.
        beta: attenuation, 1 / meter.
        airlight: (3,) float32 atmospheric light A.
    """
    transmission = cv2.exp(-beta * depth)
    rgba = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    veil = np.empty_like(rgba)
    veil[:] = np.append(airlight, 0).astype(np.uint8)
    hazy = cv2.blendLinear(rgba, veil, transmission, 1.0 - transmission)
    return cv2.cvtColor(hazy, cv2.COLOR_RGBA2RGB)
