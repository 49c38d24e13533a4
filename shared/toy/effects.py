"""What happens after the light: camera, drawing hand, weather."""

import functools

import cv2
import numpy as np

from shared.toy.palettes import PARTS
from shared.toy.scene import Raster, Scene
from shared.toy.style import Style
from shared.toy.textures import SIZE, power_noise, sensor_noise

_EMITTERS = ("lamp", "head light", "tail light", "red", "amber", "green")


def finish(
    image: np.ndarray,
    scene: Scene,
    raster: Raster,
    style: Style,
    lit: np.ndarray | None,
    generator: np.random.Generator,
) -> np.ndarray:
    """(H, W, 3) uint8 radiance to picture."""
    unit = image.shape[0] / 256
    source = image
    if style.matrix is not None:
        image = cv2.transform(image, style.matrix)
    if style.glow:
        image = _glow(image, source, scene, raster, lit)
    if style.wash:
        image = _wash(image, style, generator)
    if style.outline:
        image = _outline(image, scene, raster, max(1, round(style.outline * unit)))
    if style.levels:
        step = 255 / (style.levels - 1)
        table = np.rint(np.rint(np.arange(256) / step) * step).astype(np.uint8)
        image = cv2.LUT(image, table)
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
        repeats = (-(-height // tile.shape[0]), -(-width // tile.shape[1]), 1)
        tile = np.tile(tile, repeats)
    y = generator.integers(0, tile.shape[0] - height + 1)
    x = generator.integers(0, tile.shape[1] - width + 1)
    patch = np.ascontiguousarray(tile[y : y + height, x : x + width])
    noisy = cv2.scaleAdd(patch.astype(np.float32), style.noise / 32.0, image.astype(np.float32))
    return noisy.clip(0, 255).astype(np.uint8)


def _outline(image: np.ndarray, scene: Scene, raster: Raster, thickness: int) -> np.ndarray:
    """Ink where two faces meet, except far away, where it would flood everything."""
    parts = np.array(scene.parts, np.int32)
    code = (np.array(scene.tint_of, np.int32) * len(PARTS) + parts).take(raster.face)
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
    """Displacement and pigment noise of water-colour: (SIZE, SIZE) float32 each."""
    generator = np.random.default_rng(61)
    return power_noise(generator, 1.2, low=3) - 0.5, power_noise(generator, 0.9)


def _wash(image: np.ndarray, style: Style, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    unit = height / 256
    wobble, grain = _paper()
    y, x = (int(k) for k in generator.integers(0, SIZE, 2))
    wobble = np.roll(wobble, (y, x), axis=(0, 1))
    size = (width, height)
    shift = cv2.resize(np.tile(wobble, (1, 2)), size) * (9.0 * style.wash * unit)
    grid_x, grid_y = _grid(height, width)
    image = cv2.remap(
        image,
        grid_x + shift,
        grid_y + shift[::-1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    odd = 2 * int(1.5 * unit) + 3
    image = cv2.medianBlur(image, min(odd, 5))
    soft = cv2.blur(image, (odd + 4, odd + 4))
    # Pigment gathers at the rim of a wash: darken where the surroundings are brighter.
    rim = cv2.subtract(soft, image)
    image = cv2.subtract(image, cv2.add(rim, rim))
    pigment = cv2.resize(np.tile(np.roll(grain, (x, y), axis=(0, 1)), (1, 2)), size)
    pale = (0.42 * style.wash * pigment)[..., None]
    return (image * (1.0 - pale) + 250.0 * pale).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return x, y


def _glow(
    image: np.ndarray, source: np.ndarray, scene: Scene, raster: Raster, lit: np.ndarray | None
) -> np.ndarray:
    """Lights keep their brightness in the dark and shine on their surroundings."""
    emits = np.array([PARTS[p] in _EMITTERS for p in scene.parts]).take(raster.face)
    if lit is not None:
        emits.reshape(-1)[lit] = True
    light = np.where(emits[..., None], source, 0).astype(np.uint8)
    height, width = emits.shape
    small = cv2.resize(light, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    halo = cv2.add(cv2.GaussianBlur(small, (0, 0), height / 100), cv2.blur(small, (3, 3)))
    return cv2.add(cv2.max(image, light), cv2.resize(halo, (width, height)))


def fog(image: np.ndarray, depth: np.ndarray, beta: float, airlight: np.ndarray) -> np.ndarray:
    """I = J·t + A·(1 − t) with t = exp(−β·d), the model of Foggy Cityscapes.

    Args:
        depth: (H, W) metres.
        beta: attenuation, 1 / metre.
        airlight: (3,) float32 atmospheric light A.
    """
    transmission = cv2.exp(-beta * depth)
    rgba = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    veil = np.empty_like(rgba)
    veil[:] = np.append(airlight, 0).astype(np.uint8)
    hazy = cv2.blendLinear(rgba, veil, transmission, 1.0 - transmission)
    return cv2.cvtColor(hazy, cv2.COLOR_RGBA2RGB)
