"""Pedestrians, riders, bicycles and motorcycles, in metres."""

import math

from shared.toy.draws import Draws
from shared.toy.scene import Scene
from shared.toy.vehicles import CIRCLE, Outline, box, flat_shadow


def _rod(a: tuple[float, float], b: tuple[float, float], thickness: float) -> Outline:
    """A bar between two points."""
    length = math.hypot(b[0] - a[0], b[1] - a[1])
    u = -(b[1] - a[1]) / length * thickness / 2
    v = (b[0] - a[0]) / length * thickness / 2
    return [(a[0] + u, a[1] + v), (b[0] + u, b[1] + v), (b[0] - u, b[1] - v), (a[0] - u, a[1] - v)]


class Slanted:
    """Draws in a vertical plane through (x, 0, z) that is turned by `angle` from the picture."""

    def __init__(self, scene: Scene, x: float, z: float, angle: float) -> None:
        self.scene = scene
        self.origin = (x, z)
        self.direction = (math.cos(angle), abs(math.sin(angle)))

    def draw(self, part: str, outline: Outline, detail: bool = False, shade: float = 1.0) -> None:
        (x, z), (c, s) = self.origin, self.direction
        # One depth for the whole thin shape keeps its textures simple; positions stay exact.
        points = [(x + a * c, v, z + a * s) for a, v in outline]
        self.scene.face(part, points, shade=shade, detail=detail)


def bicycle(plane: Slanted, *, fine: bool) -> None:
    """A bicycle 1.7 m long; the caller has begun the object."""
    radius = 0.35
    hubs = ((-0.54, radius), (0.54, radius))
    frame = [(-0.54, radius), (-0.1, 0.3), (0.38, 0.82), (-0.2, 0.82)]
    for hub in hubs:
        plane.draw("tyre", [(hub[0] + radius * c, hub[1] + radius * s) for c, s in CIRCLE])
        inner = radius - 0.07
        disc = [(hub[0] + inner * c, hub[1] + inner * s) for c, s in CIRCLE]
        plane.draw("bike wheel", disc, detail=True)
    plane.draw("bike wheel", frame)
    bars = [((-0.54, 0.35), (-0.1, 0.3)), ((-0.1, 0.3), (0.38, 0.8)), ((-0.2, 0.84), (0.38, 0.8))]
    bars += [
        ((-0.24, 0.92), (-0.1, 0.3)),
        ((0.36, 0.98), (0.54, 0.35)),
        ((-0.54, 0.35), (-0.2, 0.82)),
    ]
    for a, b in bars if fine else bars[1:5]:
        plane.draw("bike frame", _rod(a, b, 0.075))
    plane.draw("saddle", box(-0.36, 0.9, -0.1, 0.99))
    plane.draw("saddle", _rod((0.26, 1.04), (0.46, 1.0), 0.08))


def motorcycle(plane: Slanted, *, fine: bool) -> None:
    """A motorcycle or scooter 2.1 m long; the caller has begun the object."""
    r = 0.32
    for hub in (-0.7, 0.7):
        plane.draw("tyre", [(hub + r * c, r + r * s) for c, s in CIRCLE])
        if fine:
            plane.draw(
                "rim", [(hub + 0.5 * r * c, r + 0.5 * r * s) for c, s in CIRCLE], detail=True
            )
    plane.draw("moto dark", [(-0.6, 0.35), (0.5, 0.25), (0.5, 0.7), (-0.5, 0.75)])
    plane.draw("moto body", [(-0.95, 0.72), (-0.3, 0.62), (0.3, 0.55), (0.55, 0.9), (0.2, 1.0)])
    plane.draw("saddle", [(-0.9, 0.78), (0.05, 0.76), (0.0, 0.88), (-0.85, 0.9)])
    plane.draw("moto dark", _rod((0.7, 0.32), (0.42, 1.08), 0.13))
    plane.draw("moto dark", _rod((0.3, 1.12), (0.52, 1.05), 0.1))
    if fine:
        plane.draw("head light", box(0.52, 0.86, 0.64, 1.0), detail=False)


def _oval(x: float, y: float, half_width: float, half_height: float) -> Outline:
    return [(x + half_width * c, y + half_height * s) for c, s in CIRCLE]


def person(scene: Scene, draws: Draws, x: float, z: float, *, instance: bool = True) -> None:
    """A standing or walking pedestrian.

    Args:
        instance: False draws into the object that was begun before (a group).
    """
    if instance:
        scene.begin("person", z)
    h = draws.between(1.5, 1.92) if draws.chance(0.88) else draws.between(1.0, 1.4)
    flat_shadow(scene, x, z, 0.22, h)
    stride = draws.between(-0.15, 0.15) * h
    wide = draws.between(0.115, 0.15) * h
    side = 1 if draws.chance(0.5) else -1

    def draw(part: str, outline: Outline, detail: bool = False, shade: float = 1.0) -> None:
        scene.flat(part, x, z, [(side * u, v) for u, v in outline], shade=shade, detail=detail)

    hip, shoulder = 0.5 * h, 0.83 * h
    for step, shade in ((-stride, 0.82), (stride, 1.0)):
        leg = [(-0.085 * h, hip), (0.06 * h, hip), (step + 0.035 * h, 0.0)]
        draw("trousers", [*leg, (step - 0.045 * h, 0.0)], shade=shade)
        draw("shoes", [(step - 0.05 * h, 0), (step + 0.08 * h, 0), (step + 0.04 * h, 0.045 * h)])
    coat = draws.between(0.36, 0.48) * h
    arm = draws.between(-0.1, 0.12) * h
    for swing, sign in ((-arm, -1), (arm, 1)):
        hand = sign * (wide + 0.03 * h) + swing
        sleeve = [(sign * wide * 0.6, shoulder), (sign * (wide + 0.035 * h), shoulder - 0.02 * h)]
        sleeve += [(hand + 0.03 * h, 0.47 * h), (hand - 0.03 * h, 0.47 * h)]
        draw("top", sleeve, shade=0.85)
    torso = [(-wide, coat), (-wide, 0.74 * h), (-0.6 * wide, shoulder), (0.6 * wide, shoulder)]
    draw("top", [*torso, (wide, 0.74 * h), (0.85 * wide, coat)])
    if draws.chance(0.3):
        draw("bag", [(wide * 0.5, 0.5 * h), (wide * 1.7, 0.5 * h), (wide * 1.6, 0.7 * h)])
    draw("skin", _oval(0.0, 0.915 * h, 0.058 * h, 0.085 * h))
    draw("hair", [(-0.06 * h, 0.9 * h), (-0.06 * h, h), (0.06 * h, h), (0.055 * h, 0.94 * h)])


def _two_wheeler(
    scene: Scene, draws: Draws, x: float, z: float, angle: float, height: float, motor: bool
) -> Slanted:
    """Begins and draws a machine, turned either way; returns the plane that it stands in."""
    plane = Slanted(scene, x, z, angle if draws.chance(0.5) else math.pi - angle)
    scene.begin("motorcycle" if motor else "bicycle", z)
    flat_shadow(scene, x, z, 0.4, height)
    (motorcycle if motor else bicycle)(plane, fine=z < 30.0)
    return plane


def cyclist(scene: Scene, draws: Draws, x: float, z: float, *, motor: bool = False) -> None:
    """A rider on a bicycle or a motorcycle: two instances."""
    plane = _two_wheeler(scene, draws, x, z, draws.between(0.2, 1.15), 1.6, motor)
    scene.begin("rider", z)
    seat = 0.9 if motor else 1.0
    plane.draw(
        "trousers", [(-0.32, seat), (0.0, seat + 0.1), (0.22, 0.62), (0.06, 0.52)], shade=0.85
    )
    shin = [(0.06, 0.66), (0.22, 0.66), (0.1, 0.24), (-0.04, 0.24)]
    plane.draw("trousers", shin)
    plane.draw("shoes", [(-0.06, 0.2), (0.18, 0.2), (0.1, 0.3), (-0.04, 0.3)])
    lean = draws.between(0.05, 0.3)
    top = [
        (-0.36, seat),
        (-0.02, seat - 0.02),
        (lean + 0.16, seat + 0.56),
        (lean - 0.1, seat + 0.64),
    ]
    plane.draw("top", [*top, (-0.3, seat + 0.35)])
    arm = [(lean - 0.04, seat + 0.52), (lean + 0.12, seat + 0.54), (0.42, 1.12), (0.36, 1.0)]
    plane.draw("top", arm, shade=0.85)
    head = (lean + 0.07, seat + 0.76)
    plane.draw("skin", _oval(*head, 0.13, 0.16))
    cover = "helmet" if motor or draws.chance(0.55) else "hair"
    low = head[1] - (0.1 if motor else 0.0)
    crown = [(head[0] - 0.15, low), (head[0] - 0.12, head[1] + 0.14), (head[0], head[1] + 0.18)]
    plane.draw(cover, [*crown, (head[0] + 0.13, head[1] + 0.12), (head[0] + 0.12, head[1] + 0.02)])


def parked_two_wheeler(scene: Scene, draws: Draws, x: float, z: float, *, motor: bool) -> None:
    _two_wheeler(scene, draws, x, z, draws.between(0.0, 1.0), 1.0, motor)
