"""Bicycles and motorcycles, in metres, in an upright plane at any angle to the picture."""

import math

from shared.toy.scene import Scene
from shared.toy.vehicles import CIRCLE, Outline, box


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
