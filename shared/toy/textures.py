"""Periodic texture tiles with mip levels, made from noise once per process and family."""

import functools

import cv2
import numpy as np

SIZE = 256
LEVELS = 5
# Texture 0 of both families is flat: no second color at all.
PHOTO_KINDS = (
    *("flat", "asphalt", "plaster", "leaf", "brick", "grass", "slabs", "bars", "stone", "cloud"),
    *("crumpled", "speckle"),
)
ABSTRACT_KINDS = (
    *("flat", "fine", "smooth", "cells", "dots", "stripes", "checks", "waves", "ridges", "bricks"),
    *("coarse", "salt"),
)


def power_noise(
    generator: np.random.Generator, exponent: float, low: float = 0.0, stretch: float = 1.0
) -> np.ndarray:
    """(SIZE, SIZE) float32 periodic noise in 0..1 whose amplitude falls as frequency^-exponent.

    Args:
        low: frequencies below this (cycles per tile) are removed.
        stretch: > 1 makes the grain vertical.
    """
    frequency = np.fft.fftfreq(SIZE) * SIZE
    radius = np.hypot(frequency[:, None] * stretch, frequency[None, :])
    gain = np.where(radius > low, np.maximum(radius, 1.0) ** -exponent, 0.0)
    gain[0, 0] = 0.0
    spectrum = np.fft.fft2(generator.standard_normal((SIZE, SIZE))) * gain
    noise = np.real(np.fft.ifft2(spectrum))
    return np.clip(0.5 + 0.22 * noise / noise.std(), 0.0, 1.0).astype(np.float32)


def _masonry(generator: np.random.Generator, wide: int, high: int, joint: int) -> np.ndarray:
    """Courses of blocks, each with its own tone; joints at 1."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    course = y // high
    shifted = (x + (course % 2) * (wide // 2)) % SIZE
    tone = generator.random((SIZE // high + 1, SIZE // wide + 1)) * 0.55
    blocks = tone[course, shifted // wide]
    joints = (y % high < joint) | (shifted % wide < joint)
    return np.where(joints, 1.0, blocks).astype(np.float32)


def _cells(generator: np.random.Generator, count: int) -> np.ndarray:
    """Periodic Voronoi cells: 0 in the middle of a cell, 1 at its border."""
    points = generator.random((count, 2)) * SIZE
    copies = SIZE * np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    seeds = (points[None] + copies[:, None]).reshape(-1, 2)
    mask = np.full((3 * SIZE, 3 * SIZE), 255, np.uint8)
    index = (seeds + SIZE).astype(int)
    mask[index[:, 1], index[:, 0]] = 0
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)[SIZE : 2 * SIZE, SIZE : 2 * SIZE]
    return np.clip(distance / np.percentile(distance, 98), 0.0, 1.0).astype(np.float32)


def _sharp(noise: np.ndarray, middle: float, width: float) -> np.ndarray:
    return np.clip((noise - middle) / width + 0.5, 0.0, 1.0)


def _photo(generator: np.random.Generator) -> list[np.ndarray]:
    x = np.arange(SIZE)[None, :]
    fine = power_noise(generator, 0.3, low=20)
    broad = power_noise(generator, 1.4)
    crack = np.abs(power_noise(generator, 1.3, low=3) - 0.5) < 0.006
    asphalt = np.clip(0.55 * fine + 0.5 * broad - 0.05 + 0.6 * crack, 0, 1)
    stain = power_noise(generator, 1.1, stretch=0.35)
    plaster = np.clip(0.25 * fine + 0.75 * stain, 0, 1)
    clump, twig = power_noise(generator, 0.9, low=5), power_noise(generator, 0.35, low=24)
    leaf = np.clip(0.55 * _sharp(clump, 0.5, 0.3) + 0.6 * _sharp(twig, 0.52, 0.5) - 0.08, 0, 1)
    brick = np.clip(_masonry(generator, 32, 16, 3) * 0.8 + 0.3 * fine + 0.15 * broad - 0.1, 0, 1)
    blade = power_noise(generator, 0.5, low=10, stretch=0.4)
    grass = np.clip(0.6 * _sharp(blade, 0.5, 0.5) + 0.5 * broad - 0.05, 0, 1)
    slabs = np.clip(0.75 * _masonry(generator, 64, 64, 3) + 0.25 * fine + 0.2 * broad - 0.1, 0, 1)
    bars = ((x % 32) < 11).astype(np.float32) * 0.85 + 0.15 * fine
    stone = np.clip(0.8 * _sharp(_cells(generator, 130), 0.75, 0.35) + 0.3 * fine, 0, 1)
    cloud = _sharp(power_noise(generator, 1.7), 0.52, 0.7)
    crumpled = np.clip(0.8 * power_noise(generator, 1.3, stretch=0.6) + 0.2 * fine, 0, 1)
    speckle = np.clip(0.6 * fine + 0.4 * power_noise(generator, 0.8), 0, 1)
    return [asphalt, plaster, leaf, brick, grass, slabs, bars, stone, cloud, crumpled, speckle]


def _abstract(generator: np.random.Generator) -> list[np.ndarray]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    turn = 2 * np.pi / SIZE
    fine = power_noise(generator, 0.0)
    smooth = power_noise(generator, 2.0)
    cells = _cells(generator, 90)
    dots = (np.hypot(x % 32 - 16, y % 32 - 16) < 8).astype(np.float32)
    stripes = (x % 24 < 10).astype(np.float32)
    checks = ((x // 32 + y // 32) % 2).astype(np.float32)
    waves = (0.5 + 0.5 * np.sin(turn * 9 * x + 3 * np.sin(turn * 4 * y))).astype(np.float32)
    ridges = 1.0 - np.clip(np.abs(power_noise(generator, 1.6) - 0.5) * 6, 0, 1)
    bricks = _masonry(generator, 64, 32, 6)
    coarse = power_noise(generator, 1.0, low=2)
    salt = (generator.random((SIZE, SIZE)) < 0.06).astype(np.float32)
    return [fine, smooth, cells, dots, stripes, checks, waves, ridges, bricks, coarse, salt]


@functools.cache
def bank(family: str) -> np.ndarray:
    """(LEVELS, kinds, SIZE, SIZE) uint8: how much of a surface's second color shows.

    Level l is averaged over 2^l texels. "photo" tiles are for the photographic domains, "abstract"
    ones for every other: pre-training on the latter shows nothing of the former.
    """
    seed, make = {"photo": (11, _photo), "abstract": (23, _abstract)}[family]
    flat = np.zeros((SIZE, SIZE), np.float32)
    tiles = [np.tile(tile, (3, 3)) for tile in (flat, *make(np.random.default_rng(seed)))]
    inner = slice(SIZE, 2 * SIZE)
    levels = [[cv2.blur(tile, (2**k, 2**k))[inner, inner] for tile in tiles] for k in range(LEVELS)]
    return np.rint(np.array(levels) * 255).astype(np.uint8)


@functools.cache
def sensor_noise(smoothing: float) -> np.ndarray:
    """(1024 + 64, 2048 + 64, 3) int8 unit-variance noise in steps of 1/32, mostly luminance."""
    generator = np.random.default_rng(31)
    shape = (1088, 2112)
    noise = generator.standard_normal((*shape, 1), np.float32)
    noise = 0.8 * noise + 0.6 * generator.standard_normal((*shape, 3), np.float32)
    if smoothing > 0:
        noise = cv2.GaussianBlur(noise, (0, 0), smoothing)
    return np.clip(noise / noise.std() * 32, -127, 127).astype(np.int8)


@functools.cache
def light_field() -> np.ndarray:
    """(SIZE, SIZE) float32 very smooth noise around 0 with unit range."""
    return power_noise(np.random.default_rng(41), 3.0) * 2.0 - 1.0
