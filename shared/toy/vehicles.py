"""Cars, trucks, buses and trams, in metres."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from shared.toy.draws import Draws
from shared.toy.scene import CONTACT_SHADOW, FRONT, LONG_SHADOW, WALL, Points, Scene

Outline = list[tuple[float, float]]
CIRCLE = [(math.cos(math.tau * k / 10), math.sin(math.tau * k / 10)) for k in range(10)]
SIDE_SHADE, TOP_SHADE = 0.8, 1.12


@dataclass(frozen=True)
class Body:
    """One kind of box-shaped vehicle. Outlines run along the length (or width) and up.

    Args:
        length, width, height: metres.
        side: outline of the side, 0 at the rear.
        rear: outline of the rear, centred.
        side_windows, rear_windows: glass.
        wheels: positions along the length.
        rear_slope, front_slope: how far the windows stand back at the waist, and further at the
            roof.
    """

    label: str
    paint: str
    length: float
    width: float
    height: float
    side: Outline
    rear: Outline
    side_windows: list[Outline]
    rear_windows: list[Outline]
    wheels: tuple[float, ...]
    wheel_radius: float
    rear_slope: tuple[float, float] = (0.0, 0.0)
    front_slope: tuple[float, float] = (0.0, 0.0)

    @property
    def waist(self) -> float:
        return 0.62 * self.height

    @property
    def is_car(self) -> bool:
        return self.label == "car"


def box(left: float, bottom: float, right: float, top: float) -> Outline:
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def _car(length: float, height: float, boot: float) -> Body:
    """A passenger car; `boot` is the length of the three-box tail, 0 for a hatchback."""
    h, n = height, length
    waist = 0.62 * h
    side = [(0.0, 0.28), (0.0, waist), (0.15 + boot, waist + 0.04), (0.45 + boot, h)]
    side += [(n * 0.56, h), (n * 0.74, waist + 0.04), (n, waist), (n, 0.28)]
    window = [(0.28 + boot, waist + 0.05), (0.52 + boot, h - 0.08), (n * 0.47, h - 0.08)]
    window += [(n * 0.47, waist + 0.05)]
    front = [(n * 0.49, waist + 0.05), (n * 0.49, h - 0.08), (n * 0.55, h - 0.08)]
    front += [(n * 0.69, waist + 0.05)]
    ledge = waist + 0.04
    rear = [(-0.9, 0.28), (-0.9, waist), (-0.88, ledge), (-0.64, h), (0.64, h), (0.88, ledge)]
    rear += [(0.9, waist), (0.9, 0.28)]
    glass = [(-0.74, waist + 0.03), (-0.56, h - 0.1), (0.56, h - 0.1), (0.74, waist + 0.03)]
    wheels = (0.85, n - 0.85)
    return Body(
        "car",
        "car body",
        n,
        1.8,
        h,
        side,
        rear,
        [window, front],
        [glass],
        wheels,
        0.33,
        rear_slope=(0.12 + boot, 0.33),
        front_slope=(0.26 * n, 0.18 * n),
    )


def _coach(label: str, paint: str, length: float, width: float, height: float) -> Body:
    """A bus or a tram: a box with a row of windows."""
    pane = 1.25
    count = int((length - 0.8) / (pane + 0.15))
    low, high = 0.45 * height, 0.82 * height
    panes = [box(0.5 + k * 1.4, low, 0.5 + k * 1.4 + pane, high) for k in range(count)]
    half = width / 2
    glass = box(-half + 0.15, low - 0.15, half - 0.15, high + 0.12)
    train = label == "train"
    wheels = (2.5, 4.3, length - 4.3, length - 2.5) if train else (2.6, length - 2.4)
    rear = [(-half, 0.3), (-half, height - 0.3), (-half + 0.3, height), (half - 0.3, height)]
    rear += [(half, height - 0.3), (half, 0.3)]
    side = box(0.0, 0.22 if train else 0.32, length, height)
    radius = 0.35 if train else 0.48
    return Body(label, paint, length, width, height, side, rear, panes, [glass], wheels, radius)


def _truck(length: float, height: float) -> Body:
    """Cab at the front, a taller cargo box behind it."""
    half = 1.22
    cab = length - 2.0
    side = [(0.0, 0.6), (0.0, height), (cab - 0.15, height), (cab - 0.15, 1.0), (cab, 1.0)]
    side += [(cab, 2.75), (length - 0.5, 2.75), (length, 1.6), (length, 0.45), (cab, 0.45)]
    side += [(cab, 0.6)]
    glass = [(cab + 0.5, 1.6), (cab + 0.5, 2.5), (length - 0.6, 2.5), (length - 0.2, 1.6)]
    rear = box(-half, 0.6, half, height)
    wheels = (1.2, 2.3, length - 1.3)
    return Body("truck", "cargo", length, 2.44, height, side, rear, [glass], [], wheels, 0.5)


CARS = (_car(4.0, 1.48, 0.0), _car(4.5, 1.44, 0.55), _car(4.4, 1.7, 0.0), _car(3.6, 1.52, 0.0))
VAN = _car(5.2, 2.15, 0.0)
BUSES = (_coach("bus", "bus body", 12.0, 2.5, 3.1), _coach("bus", "bus body", 9.0, 2.4, 2.9))
TRAM = _coach("train", "tram body", 24.0, 2.6, 3.5)
TRUCKS = (_truck(8.5, 3.5), _truck(6.5, 3.1), _truck(11.5, 3.8))
LARGE = {"truck": TRUCKS, "bus": BUSES, "train": (TRAM,)}


def car_body(draws: Draws) -> Body:
    return VAN if draws.chance(0.1) else draws.pick(CARS)


def vehicle(
    scene: Scene, body: Body, x: float, z: float, *, facing: str, instance: bool = True
) -> None:
    """A vehicle whose nearest point is at depth z, centred on x.

    Args:
        facing: "away" (we see its rear), "towards" (its front), "left" or "right" (its side).
        instance: False draws into the object that was begun before.
    """
    if instance:
        scene.begin(body.label, z)
    if facing in ("away", "towards"):
        _along(scene, body, x, z, facing)
    else:
        _across(scene, body, x, z, facing)


def _along(scene: Scene, body: Body, x: float, z: float, facing: str) -> None:
    half = body.width / 2
    fine = z < 45.0
    inner = x - half if x > 0 else x + half
    _shadows(scene, x - half, x + half, z, z + body.length, body.height)
    if scene.camera.height > body.height:
        roof = [(x - half + 0.2, body.height, z + 0.5), (x + half - 0.2, body.height, z + 0.5)]
        roof += [(x + half - 0.2, body.height, z + body.length * 0.6)]
        roof += [(x - half + 0.2, body.height, z + body.length * 0.6)]
        scene.face(body.paint, roof, shade=TOP_SHADE)
    if abs(x) > half:
        reverse = facing == "towards"

        tuck = (0.26 if x < 0 else -0.26) / (body.height - body.waist) if body.is_car else 0.0

        def place(along: float, up: float) -> tuple[float, float, float]:
            side = inner - tuck * max(up - body.waist, 0.0)
            return (side, up, z + (body.length - along if reverse else along))

        _side(scene, body, place, WALL, SIDE_SHADE, fine)
    lean = _lean(body, facing)
    if body.label == "truck" and facing == "towards":
        cargo = box(-half, 1.0, half, body.height)
        scene.face(body.paint, [(x + u, v, z + 2.0) for u, v in cargo])
        scene.flat("cab", x, z, box(-half, 0.45, half, 2.78))
    else:
        scene.face(body.paint, [(x + u, v, z + lean(v)) for u, v in body.rear])
    bottom = body.rear[0][1]
    for u in (-half + 0.08, half - 0.3):
        scene.flat("tyre", x, z, box(u, 0.0, u + 0.24, bottom + 0.05))
    if z < 80.0:
        for window in body.rear_windows:
            scene.face("glass", [(x + u, v, z + lean(v)) for u, v in window], detail=True)
    if fine:
        _rear_trim(scene, body, x, z, facing)


def _lean(body: Body, facing: str) -> Callable[[float], float]:
    """How far back the near end stands at a height: the slope of the window above the waist."""
    base, slope = body.rear_slope if facing == "away" else body.front_slope
    rise = body.height - body.waist
    return lambda up: base + slope * (up - body.waist) / rise if up > body.waist else 0.0


def _rear_trim(scene: Scene, body: Body, x: float, z: float, facing: str) -> None:
    half = body.width / 2
    lamp = "tail light" if facing == "away" else "head light"
    if body.label == "truck" and facing == "towards":
        scene.flat("glass", x, z, box(-half + 0.15, 1.6, half - 0.15, 2.5), detail=True)
    scene.flat("bumper", x, z, box(-half, body.rear[0][1], half, 0.46), detail=True)
    if body.label in ("bus", "train"):
        scene.flat("stripe", x, z, box(-half, 0.7, half, 0.95), detail=True)
    base = 0.55 if facing == "towards" else 0.64
    for u in (-half + 0.04, half - 0.32):
        scene.flat(lamp, x, z, box(u, base, u + 0.28, base + 0.2), detail=True)
    if z < 25.0:
        scene.flat("plate", x, z, box(-0.26, 0.48, 0.26, 0.6), detail=True)
        if body.label == "truck" and facing == "away":
            scene.flat("bumper", x, z, box(-0.03, 0.7, 0.03, body.height), detail=True)


def _across(scene: Scene, body: Body, x: float, z: float, facing: str) -> None:
    half = body.length / 2
    _shadows(scene, x - half, x + half, z, z + body.width, body.height)
    left, right = x - half, x + half
    if left > 0.3 or right < -0.3:
        end = left if left > 0 else right
        low = body.side[0][1]
        top = body.waist if body.is_car else body.height
        corners = [(end, low, z), (end, top, z), (end, top, z + body.width)]
        scene.face(body.paint, [*corners, (end, low, z + body.width)], plane=WALL, shade=SIDE_SHADE)

    def place(along: float, up: float) -> tuple[float, float, float]:
        return (left + along if facing == "right" else right - along, up, z)

    _side(scene, body, place, FRONT, 1.0, z < 45.0)


def _side(
    scene: Scene,
    body: Body,
    place: Callable[[float, float], tuple[float, float, float]],
    plane: int,
    shade: float,
    fine: bool,
) -> None:
    def paint(part: str, outline: Outline, detail: bool = True) -> None:
        points: Points = [place(a, v) for a, v in outline]
        scene.face(part, points, plane=plane, shade=shade, detail=detail)

    paint(body.paint, body.side, detail=False)
    r = body.wheel_radius
    for at in body.wheels:
        paint("tyre", [(at + r * c, r + r * s) for c, s in CIRCLE], detail=False)
        if fine:
            paint("rim", [(at + 0.55 * r * c, r + 0.55 * r * s) for c, s in CIRCLE])
    if body.label in ("bus", "train"):
        paint("stripe", box(0.0, 0.7, body.length, 0.95))
        if not fine:
            low, high = 0.45 * body.height, 0.82 * body.height
            paint("glass", box(0.4, low, body.length - 0.4, high))
            return
    if body.label == "truck":
        cab = body.length - 2.0
        paint("cab", box(cab, 0.45, body.length, 2.8))
        paint("bumper", box(0.0, 0.6, cab, 0.85))
    for window in body.side_windows:
        paint("glass", window)


def _shadows(
    scene: Scene, left: float, right: float, near: float, far: float, height: float
) -> None:
    near = max(near, 1.2)
    contact = [(left, 0.0, near - 0.15), (right, 0.0, near - 0.15), (right, 0.0, far)]
    scene.shadow([*contact, (left, 0.0, far)], CONTACT_SHADOW)
    throw = 0.8 * height
    cast = [(left, 0.0, near), (right, 0.0, near), (right + throw, 0.0, near + 0.4 * throw)]
    cast += [(right + throw, 0.0, far + 0.4 * throw), (left + throw, 0.0, far + 0.4 * throw)]
    scene.shadow([*cast, (left, 0.0, far)], LONG_SHADOW)


def flat_shadow(scene: Scene, x: float, z: float, half: float, height: float) -> None:
    """Contact and cast shadow of a narrow upright thing."""
    _shadows(scene, x - half, x + half, z - half * 0.5, z + half * 0.5, height)
