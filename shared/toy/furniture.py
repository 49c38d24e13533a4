"""Poles, lights, signs, trees and other things that stand on the ground, in meters."""

import functools
import math
from collections.abc import Callable

import numpy as np

from shared.toy.scene import CIRCLE, Draws, Outline, Scene, box, oval

_SIGN_SHAPES = {
    "circle": CIRCLE,
    "triangle": [(-1.0, -0.8), (1.0, -0.8), (0.0, 0.95)],
    "square": box(-0.9, -0.9, 0.9, 0.9),
    "diamond": [(-1.0, 0.0), (0.0, -1.0), (1.0, 0.0), (0.0, 1.0)],
}


@functools.cache
def _blobs() -> tuple[Outline, ...]:
    """Unit outlines of leafy masses."""
    generator = np.random.default_rng(5)
    turn = math.tau * np.arange(27) / 27
    shapes = []
    for _ in range(24):
        lobes = np.repeat(generator.standard_normal(9), 3)
        radius = 1.0 + 0.1 * lobes + 0.09 * generator.standard_normal(27)
        shapes.append(np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1).tolist())
    return tuple(shapes)


def blob(draws: Draws, y: float, rx: float, ry: float) -> Outline:
    """The outline of a cloud or of foliage around height y."""
    return [(rx * u, y + ry * v) for u, v in draws.pick(_blobs())]


def tree(scene: Scene, x: float, z: float) -> None:
    paint, draws = scene.begin("vegetation", x, z), scene.draws
    height = draws.between(4.5, 9.5)
    radius = height * draws.between(0.2, 0.32)
    girth, base = 0.035 * height, height - 1.7 * radius
    scene.narrow_shadow(x, z, radius * 0.6, height * 0.6)
    trunk = [(-girth * 0.6, 0), (girth * 0.6, 0), (girth * 0.35, base + 0.6 * radius)]
    paint("trunk", [*trunk, (-girth * 0.35, base + 0.6 * radius)])
    if draws.chance(0.15):
        for level in range(3):
            low = base * 0.5 + level * height * 0.2
            wide = radius * (1.0 - 0.25 * level)
            tier = [(-wide, low), (wide, low), (0.0, low + height * 0.36)]
            paint("crown", tier, shade=0.85 + 0.1 * level)
        return
    top, spread = base + 0.9 * radius, 0.55 * radius
    paint("crown", blob(draws, top, radius, radius * 0.95))
    for _ in range(4 if z < 50 else 2):
        dx, dy = draws.between(-spread, spread), draws.between(-spread, spread)
        part = "crown dark" if dy < 0 else "crown light"
        leaves = blob(draws, top + dy, radius * 0.5, radius * 0.45)
        scene.upright(x + dx, z)(part, leaves, detail=dy < 0)


def bush(scene: Scene, x: float, z: float) -> None:
    paint, draws = scene.begin("vegetation", x, z), scene.draws
    size = draws.between(0.5, 1.4)
    wide = size * draws.between(0.8, 1.4)
    paint("hedge", blob(draws, size * 0.5, wide, size * 0.7))
    paint("crown dark", blob(draws, size * 0.3, size * 0.6, size * 0.3), detail=True)


def lamp_post(scene: Scene, x: float, z: float) -> None:
    paint, draws = scene.begin("pole", x, z), scene.draws
    height = draws.between(5.0, 8.5)
    half = draws.between(0.07, 0.12)
    scene.narrow_shadow(x, z, half * 1.2, height)
    paint("pole", box(-half, 0.0, half, height))
    paint("pole", box(-half * 1.7, 0.0, half * 1.7, 0.9))
    reach = draws.between(0.8, 2.2) * (-1 if x > 0 else 1)
    if draws.chance(0.7):
        arm = [(0.0, height - 0.2), (0.0, height), (reach, height + 0.25), (reach, height + 0.1)]
        paint("pole", arm)
        low, high = sorted((reach * 0.7, reach * 1.25))
        paint("lamp", box(low, height + 0.05, high, height + 0.25))


def bollard(scene: Scene, x: float, z: float) -> None:
    paint = scene.begin("pole", x, z)
    scene.narrow_shadow(x, z, 0.1, 0.9)
    paint("pole", box(-0.09, 0.0, 0.09, 0.95))
    paint("sign", box(-0.09, 0.7, 0.09, 0.82), detail=True)


def traffic_light(scene: Scene, x: float, z: float) -> None:
    paint, draws = scene.begin("pole", x, z), scene.draws
    half = draws.between(0.07, 0.1)
    base = draws.between(2.1, 2.9)
    scene.narrow_shadow(x, z, half * 1.2, 3.2)
    heads = [(0.0, base)]
    if draws.chance(0.35):
        reach = -draws.between(2.5, 4.5) * (1 if x > 0 else -1)
        paint("pole", box(-half, 0.0, half, 6.0))
        low, high = sorted((0.0, reach))
        paint("pole", box(low, 5.85, high, 6.0))
        heads.append((reach, 5.1))
    else:
        paint("pole", box(-half, 0.0, half, base + 0.1))
    state = draws.pick(("red", "green", "amber", "red", "green"))
    for u, v in heads:
        scene.begin("traffic light", x, z)
        paint("light box", box(u - 0.21, v, u + 0.21, v + 1.05))
        for k, lens in enumerate(("green", "amber", "red")):
            circle = oval(u, v + 0.2 + 0.33 * k, 0.13)
            paint(lens if lens == state else "unlit", circle, detail=True)


def sign(scene: Scene, x: float, z: float) -> None:
    paint, draws = scene.begin("pole", x, z), scene.draws
    base = draws.between(1.9, 2.5)
    size = draws.between(0.34, 0.48)
    scene.narrow_shadow(x, z, 0.06, 2.6)
    paint("pole", box(-0.055, 0.0, 0.055, base + 2 * size))
    for _ in range(2 if draws.chance(0.25) else 1):
        scene.begin("traffic sign", x, z)
        _sign_face(paint, draws, base + size, size)
        base += 2.1 * size


def _sign_face(paint: Callable[..., None], draws: Draws, y: float, size: float) -> None:
    kind = draws.pick(("circle", "circle", "triangle", "square", "diamond", "back"))
    if kind == "back":
        paint("sign back", oval(0.0, y, size))
        return
    part, inner, shape = "board" if kind == "square" else "sign", 0.68 * size, _SIGN_SHAPES[kind]
    paint("sign border", [(size * u, y + size * v) for u, v in shape])
    paint(part, [(inner * u, y + inner * v) for u, v in shape], detail=True)
    if draws.chance(0.7):
        bar = box(-0.35 * size, y - 0.12 * size, 0.35 * size, y + 0.14 * size)
        paint("sign symbol", bar, detail=True)


def direction_board(scene: Scene, x: float, z: float) -> None:
    """A large board on two posts."""
    draws = scene.draws
    wide, low = draws.between(1.0, 1.7), draws.between(2.0, 2.6)
    paint = scene.begin("pole", x, z)
    for u in (-0.7 * wide, 0.7 * wide):
        paint("pole", box(u - 0.06, 0.0, u + 0.06, low + 0.2))
    scene.begin("traffic sign", x, z)
    paint("board", box(-wide, low, wide, low + draws.between(0.9, 1.5)))
    for v in (low + 0.2, low + 0.2 + 0.42):
        paint("sign", box(-0.8 * wide, v, draws.between(0.1, 0.8) * wide, v + 0.16), detail=True)


def static_clutter(scene: Scene, x: float, z: float) -> None:
    """Bins and boxes: the void class 'static'."""
    paint, draws = scene.begin("static", x, z), scene.draws
    wide, high = draws.between(0.3, 0.7), draws.between(0.7, 1.4)
    scene.narrow_shadow(x, z, wide, high)
    paint("static", box(-wide, 0.0, wide, high))
    paint("static", box(-wide, high * 0.85, wide, high), shade=1.25, detail=True)


def dynamic_clutter(scene: Scene, x: float, z: float) -> None:
    """Prams and trolleys: the void class 'dynamic'."""
    paint = scene.begin("dynamic", x, z)
    scene.narrow_shadow(x, z, 0.35, 0.9)
    paint("dynamic", [(-0.4, 0.35), (0.4, 0.35), (0.5, 0.9), (-0.3, 0.8)])
    for u in (-0.25, 0.25):
        paint("tyre", oval(u, 0.13, 0.13))
