"""Poles, lights, signs, trees and other things that stand on the ground, in metres."""

import functools
import math

import numpy as np

from shared.toy.draws import Draws
from shared.toy.scene import Scene
from shared.toy.vehicles import CIRCLE, Outline, box, flat_shadow


@functools.cache
def _blobs() -> tuple[Outline, ...]:
    """Unit outlines of leafy masses."""
    generator = np.random.default_rng(5)
    shapes = []
    for _ in range(24):
        lobes = np.repeat(generator.standard_normal(9), 3)
        radius = 1.0 + 0.1 * lobes + 0.09 * generator.standard_normal(27)
        turn = math.tau * np.arange(27) / 27
        shapes.append(list(zip(radius * np.cos(turn), radius * np.sin(turn), strict=True)))
    return tuple([(float(a), float(b)) for a, b in shape] for shape in shapes)


def blob(
    scene: Scene,
    draws: Draws,
    part: str,
    x: float,
    y: float,
    z: float,
    rx: float,
    ry: float,
    detail: bool = False,
) -> None:
    outline = [(rx * u, y + ry * v) for u, v in draws.pick(_blobs())]
    scene.flat(part, x, z, outline, detail=detail)


def tree(scene: Scene, draws: Draws, x: float, z: float) -> None:
    scene.begin("vegetation", z)
    height = draws.between(4.5, 9.5)
    radius = height * draws.between(0.2, 0.32)
    girth = 0.035 * height
    base = height - 1.7 * radius
    flat_shadow(scene, x, z, radius * 0.6, height * 0.6)
    trunk = [(-girth * 0.6, 0), (girth * 0.6, 0), (girth * 0.35, base + 0.6 * radius)]
    scene.flat("trunk", x, z, [*trunk, (-girth * 0.35, base + 0.6 * radius)])
    if draws.chance(0.15):
        for level in range(3):
            low = base * 0.5 + level * height * 0.2
            wide = radius * (1.0 - 0.25 * level)
            tier = [(-wide, low), (wide, low), (0.0, low + height * 0.36)]
            scene.flat("crown", x, z, tier, shade=0.85 + 0.1 * level)
        return
    top = base + 0.9 * radius
    blob(scene, draws, "crown", x, top, z, radius, radius * 0.95)
    spread = 0.55 * radius
    for _ in range(4 if z < 50 else 2):
        dx, dy = draws.between(-spread, spread), draws.between(-spread, spread)
        part = "crown dark" if dy < 0 else "crown light"
        blob(scene, draws, part, x + dx, top + dy, z, radius * 0.5, radius * 0.45, detail=dy < 0)


def bush(scene: Scene, draws: Draws, x: float, z: float) -> None:
    scene.begin("vegetation", z)
    size = draws.between(0.5, 1.4)
    blob(scene, draws, "hedge", x, size * 0.5, z, size * draws.between(0.8, 1.4), size * 0.7)
    blob(scene, draws, "crown dark", x, size * 0.3, z, size * 0.6, size * 0.3, detail=True)


def lamp_post(scene: Scene, draws: Draws, x: float, z: float) -> None:
    scene.begin("pole", z)
    height = draws.between(5.0, 8.5)
    half = draws.between(0.07, 0.12)
    flat_shadow(scene, x, z, half * 1.2, height)
    scene.flat("pole", x, z, box(-half, 0.0, half, height))
    scene.flat("pole", x, z, box(-half * 1.7, 0.0, half * 1.7, 0.9))
    reach = draws.between(0.8, 2.2) * (-1 if x > 0 else 1)
    if draws.chance(0.7):
        arm = [(0.0, height - 0.2), (0.0, height), (reach, height + 0.25), (reach, height + 0.1)]
        scene.flat("pole", x, z, arm)
        low, high = sorted((reach * 0.7, reach * 1.25))
        scene.flat("lamp", x, z, box(low, height + 0.05, high, height + 0.25))


def bollard(scene: Scene, draws: Draws, x: float, z: float) -> None:
    scene.begin("pole", z)
    flat_shadow(scene, x, z, 0.1, 0.9)
    scene.flat("pole", x, z, box(-0.09, 0.0, 0.09, 0.95))
    scene.flat("sign", x, z, box(-0.09, 0.7, 0.09, 0.82), detail=True)


def traffic_light(scene: Scene, draws: Draws, x: float, z: float) -> None:
    scene.begin("pole", z)
    half = draws.between(0.07, 0.1)
    base = draws.between(2.1, 2.9)
    flat_shadow(scene, x, z, half * 1.2, 3.2)
    heads = [(0.0, base)]
    if draws.chance(0.35):
        reach = -draws.between(2.5, 4.5) * (1 if x > 0 else -1)
        scene.flat("pole", x, z, box(-half, 0.0, half, 6.0))
        low, high = sorted((0.0, reach))
        scene.flat("pole", x, z, box(low, 5.85, high, 6.0))
        heads.append((reach, 5.1))
    else:
        scene.flat("pole", x, z, box(-half, 0.0, half, base + 0.1))
    state = draws.pick(("red", "green", "amber", "red", "green"))
    for u, v in heads:
        scene.begin("traffic light", z)
        scene.flat("light box", x, z, box(u - 0.21, v, u + 0.21, v + 1.05))
        for k, colour in enumerate(("green", "amber", "red")):
            lens = [(u + 0.13 * c, v + 0.2 + 0.33 * k + 0.13 * s) for c, s in CIRCLE]
            scene.flat(colour if colour == state else "unlit", x, z, lens, detail=True)


def sign(scene: Scene, draws: Draws, x: float, z: float) -> None:
    scene.begin("pole", z)
    base = draws.between(1.9, 2.5)
    size = draws.between(0.34, 0.48)
    flat_shadow(scene, x, z, 0.06, 2.6)
    scene.flat("pole", x, z, box(-0.055, 0.0, 0.055, base + 2 * size))
    for _ in range(2 if draws.chance(0.25) else 1):
        scene.begin("traffic sign", z)
        _sign_face(scene, draws, x, z, base + size, size)
        base += 2.1 * size


def _sign_face(scene: Scene, draws: Draws, x: float, z: float, y: float, size: float) -> None:
    kind = draws.pick(("circle", "circle", "triangle", "square", "diamond", "back"))
    if kind == "back":
        scene.flat("sign back", x, z, [(size * c, y + size * s) for c, s in CIRCLE])
        return
    if kind == "circle":
        shape = CIRCLE
    elif kind == "triangle":
        shape = [(-1.0, -0.8), (1.0, -0.8), (0.0, 0.95)]
    elif kind == "square":
        shape = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
    else:
        shape = [(-1.0, 0.0), (0.0, -1.0), (1.0, 0.0), (0.0, 1.0)]
    scene.flat("sign border", x, z, [(size * u, y + size * v) for u, v in shape])
    inner = 0.68 * size
    part = "sign" if kind != "square" else "board"
    scene.flat(part, x, z, [(inner * u, y + inner * v) for u, v in shape], detail=True)
    if draws.chance(0.7):
        bar = box(-0.35 * size, y - 0.12 * size, 0.35 * size, y + 0.14 * size)
        scene.flat("sign symbol", x, z, bar, detail=True)


def direction_board(scene: Scene, draws: Draws, x: float, z: float) -> None:
    """A large board on two posts."""
    wide, low = draws.between(1.0, 1.7), draws.between(2.0, 2.6)
    scene.begin("pole", z)
    for u in (-0.7 * wide, 0.7 * wide):
        scene.flat("pole", x, z, box(u - 0.06, 0.0, u + 0.06, low + 0.2))
    scene.begin("traffic sign", z)
    top = low + draws.between(0.9, 1.5)
    scene.flat("board", x, z, box(-wide, low, wide, top))
    for k in range(2):
        v = low + 0.2 + 0.42 * k
        right = draws.between(0.1, 0.8) * wide
        scene.flat("sign", x, z, box(-0.8 * wide, v, right, v + 0.16), detail=True)


def static_clutter(scene: Scene, draws: Draws, x: float, z: float) -> None:
    """Bins and boxes: the void class 'static'."""
    scene.begin("static", z)
    wide, high = draws.between(0.3, 0.7), draws.between(0.7, 1.4)
    flat_shadow(scene, x, z, wide, high)
    scene.flat("static", x, z, box(-wide, 0.0, wide, high))
    scene.flat("static", x, z, box(-wide, high * 0.85, wide, high), shade=1.25, detail=True)


def dynamic_clutter(scene: Scene, draws: Draws, x: float, z: float) -> None:
    """Prams and trolleys: the void class 'dynamic'."""
    scene.begin("dynamic", z)
    flat_shadow(scene, x, z, 0.35, 0.9)
    scene.flat("dynamic", x, z, [(-0.4, 0.35), (0.4, 0.35), (0.5, 0.9), (-0.3, 0.8)])
    for u in (-0.25, 0.25):
        wheel = [(u + 0.13 * c, 0.13 + 0.13 * s) for c, s in CIRCLE]
        scene.flat("tyre", x, z, wheel)
