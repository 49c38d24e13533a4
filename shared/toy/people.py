"""Pedestrians, riders, bicycles and motorcycles, in meters."""

import math
from collections.abc import Callable

from shared.toy.scene import Outline, Scene, box, oval


def _rod(a: tuple[float, float], b: tuple[float, float], thickness: float) -> Outline:
    """A bar between two points."""
    length = math.hypot(b[0] - a[0], b[1] - a[1])
    u = -(b[1] - a[1]) / length * thickness / 2
    v = (b[0] - a[0]) / length * thickness / 2
    return [(a[0] + u, a[1] + v), (b[0] + u, b[1] + v), (b[0] - u, b[1] - v), (a[0] - u, a[1] - v)]


def _bicycle(paint: Callable[..., None], fine: bool) -> None:
    """A bicycle 1.7 m long."""
    rear, front, pedals, seat, bar = (-0.54, 0.35), (0.54, 0.35), (-0.1, 0.3), (-0.2, 0.82), 0.38
    for hub in (rear, front):
        paint("tyre", oval(*hub, 0.35))
        paint("bike wheel", oval(*hub, 0.35 - 0.07), detail=True)
    paint("bike wheel", [rear, pedals, (bar, 0.82), seat])
    tubes = [(rear, pedals), (pedals, (bar, 0.8)), ((-0.2, 0.84), (bar, 0.8))]
    tubes += [((-0.24, 0.92), pedals), ((0.36, 0.98), front), (rear, seat)]
    for a, b in tubes if fine else tubes[1:5]:
        paint("bike frame", _rod(a, b, 0.075))
    paint("saddle", box(-0.36, 0.9, -0.1, 0.99))
    paint("saddle", _rod((0.26, 1.04), (0.46, 1.0), 0.08))


def _motorcycle(paint: Callable[..., None], fine: bool) -> None:
    """A motorcycle or scooter 2.1 m long."""
    r = 0.32
    for hub in (-0.7, 0.7):
        paint("tyre", oval(hub, r, r))
        if fine:
            paint("rim", oval(hub, r, 0.5 * r), detail=True)
    paint("moto dark", [(-0.6, 0.35), (0.5, 0.25), (0.5, 0.7), (-0.5, 0.75)])
    paint("moto body", [(-0.95, 0.72), (-0.3, 0.62), (0.3, 0.55), (0.55, 0.9), (0.2, 1.0)])
    paint("saddle", [(-0.9, 0.78), (0.05, 0.76), (0.0, 0.88), (-0.85, 0.9)])
    paint("moto dark", _rod((0.7, 0.32), (0.42, 1.08), 0.13))
    paint("moto dark", _rod((0.3, 1.12), (0.52, 1.05), 0.1))
    if fine:
        paint("head light", box(0.52, 0.86, 0.64, 1.0))


def person(scene: Scene, x: float, z: float, *, instance: bool = True) -> None:
    """A standing or walking pedestrian.

    Args:
        instance: False draws into the object that was begun before (a group).
    """
    upright = scene.begin("person", x, z) if instance else scene.upright(x, z)
    draws = scene.draws
    h = draws.between(1.5, 1.92) if draws.chance(0.88) else draws.between(1.0, 1.4)
    scene.narrow_shadow(x, z, 0.22, h)
    stride = draws.between(-0.15, 0.15) * h
    wide = draws.between(0.115, 0.15) * h
    side = 1 if draws.chance(0.5) else -1

    def paint(part: str, outline: Outline, shade: float = 1.0) -> None:
        upright(part, [(side * u, v) for u, v in outline], shade)

    hip, shoulder = 0.5 * h, 0.83 * h
    for step, shade in ((-stride, 0.82), (stride, 1.0)):
        leg = [(-0.085 * h, hip), (0.06 * h, hip), (step + 0.035 * h, 0.0)]
        paint("trousers", [*leg, (step - 0.045 * h, 0.0)], shade)
        paint("shoes", [(step - 0.05 * h, 0), (step + 0.08 * h, 0), (step + 0.04 * h, 0.045 * h)])
    coat = draws.between(0.36, 0.48) * h
    arm = draws.between(-0.1, 0.12) * h
    for swing, sign in ((-arm, -1), (arm, 1)):
        hand = sign * (wide + 0.03 * h) + swing
        sleeve = [(sign * wide * 0.6, shoulder), (sign * (wide + 0.035 * h), shoulder - 0.02 * h)]
        sleeve += [(hand + 0.03 * h, 0.47 * h), (hand - 0.03 * h, 0.47 * h)]
        paint("top", sleeve, 0.85)
    torso = [(-wide, coat), (-wide, 0.74 * h), (-0.6 * wide, shoulder), (0.6 * wide, shoulder)]
    paint("top", [*torso, (wide, 0.74 * h), (0.85 * wide, coat)])
    if draws.chance(0.3):
        paint("bag", [(wide * 0.5, 0.5 * h), (wide * 1.7, 0.5 * h), (wide * 1.6, 0.7 * h)])
    paint("skin", oval(0.0, 0.915 * h, 0.058 * h, 0.085 * h))
    paint("hair", [(-0.06 * h, 0.9 * h), (-0.06 * h, h), (0.06 * h, h), (0.055 * h, 0.94 * h)])


def person_group(scene: Scene, x: float, z: float) -> None:
    scene.begin("persongroup", x, z)
    for _ in range(4):
        person(scene, x + scene.draws.between(-1.0, 1.0), z, instance=False)


def two_wheeler(
    scene: Scene,
    x: float,
    z: float,
    *,
    motor: bool,
    angles: tuple[float, float] = (0.0, 1.0),
    height: float = 1.0,
) -> float:
    """A bicycle or motorcycle, facing either way.

    Args:
        angles: range of its turn from the picture plane.
        height: of its shadow.

    Returns:
        The angle.
    """
    angle = scene.draws.between(*angles)
    angle = angle if scene.draws.chance(0.5) else math.pi - angle
    paint = scene.begin("motorcycle" if motor else "bicycle", x, z, angle)
    scene.narrow_shadow(x, z, 0.4, height)
    (_motorcycle if motor else _bicycle)(paint, z < 30.0)
    return angle


def rider(scene: Scene, x: float, z: float, *, motor: bool) -> None:
    """A rider on a bicycle or a motorcycle: two instances."""
    angle = two_wheeler(scene, x, z, motor=motor, angles=(0.2, 1.15), height=1.6)
    paint, draws = scene.begin("rider", x, z, angle), scene.draws
    seat = 0.9 if motor else 1.0
    paint("trousers", [(-0.32, seat), (0.0, seat + 0.1), (0.22, 0.62), (0.06, 0.52)], 0.85)
    paint("trousers", [(0.06, 0.66), (0.22, 0.66), (0.1, 0.24), (-0.04, 0.24)])
    paint("shoes", [(-0.06, 0.2), (0.18, 0.2), (0.1, 0.3), (-0.04, 0.3)])
    lean = draws.between(0.05, 0.3)
    back = [(-0.36, seat), (-0.02, seat - 0.02), (lean + 0.16, seat + 0.56)]
    paint("top", [*back, (lean - 0.1, seat + 0.64), (-0.3, seat + 0.35)])
    arm = [(lean - 0.04, seat + 0.52), (lean + 0.12, seat + 0.54), (0.42, 1.12), (0.36, 1.0)]
    paint("top", arm, 0.85)
    u, v = lean + 0.07, seat + 0.76
    paint("skin", oval(u, v, 0.13, 0.16))
    cover = "helmet" if motor or draws.chance(0.55) else "hair"
    crown = [(u - 0.15, v - (0.1 if motor else 0.0)), (u - 0.12, v + 0.14), (u, v + 0.18)]
    paint(cover, [*crown, (u + 0.13, v + 0.12), (u + 0.12, v + 0.02)])
