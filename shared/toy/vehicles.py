"""Cars, trucks, buses and trams, in meters."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.toy.scene import FRONT, WALL, Draws, Outline, Scene, box, oval

SIDE_SHADE, TOP_SHADE = 0.8, 1.12


@dataclass(frozen=True)
class Body:
    """One kind of box-shaped vehicle. Outlines run along the length (or width) and up.

    Args:
        length, width, height: meters.
        side: outline of the side, 0 at the rear.
        rear: outline of the rear, centered.
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

    @property
    def has_stripe(self) -> bool:
        return self.label in ("bus", "train")


def _car(length: float, height: float, boot: float) -> Body:
    """A passenger car; `boot` is the length of the three-box tail, 0 for a hatchback."""
    h, n, waist = height, length, 0.62 * height
    side = [(0.0, 0.28), (0.0, waist), (0.15 + boot, waist + 0.04), (0.45 + boot, h)]
    side += [(n * 0.56, h), (n * 0.74, waist + 0.04), (n, waist), (n, 0.28)]
    window = [(0.28 + boot, waist + 0.05), (0.52 + boot, h - 0.08), (n * 0.47, h - 0.08)]
    window += [(n * 0.47, waist + 0.05)]
    front = [(n * 0.49, waist + 0.05), (n * 0.49, h - 0.08), (n * 0.55, h - 0.08)]
    front += [(n * 0.69, waist + 0.05)]
    half = [(0.9, 0.28), (0.9, waist), (0.88, waist + 0.04), (0.64, h)]
    rear = [*((-u, v) for u, v in half), *reversed(half)]
    glass = [(-0.74, waist + 0.03), (-0.56, h - 0.1), (0.56, h - 0.1), (0.74, waist + 0.03)]
    sizes, wheels = (n, 1.8, h), (0.85, n - 0.85)
    slopes = ((0.12 + boot, 0.33), (0.26 * n, 0.18 * n))
    windows = ([window, front], [glass])
    return Body("car", "car body", *sizes, side, rear, *windows, wheels, 0.33, *slopes)


def _coach(label: str, paint: str, length: float, width: float, height: float) -> Body:
    """A bus or a tram: a box with a row of windows."""
    pane, low, high = 1.25, 0.45 * height, 0.82 * height
    count = int((length - 0.8) / (pane + 0.15))
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
    half, cab = 1.22, length - 2.0
    side = [(0.0, 0.6), (0.0, height), (cab - 0.15, height), (cab - 0.15, 1.0), (cab, 1.0)]
    side += [(cab, 2.75), (length - 0.5, 2.75), (length, 1.6), (length, 0.45), (cab, 0.45)]
    side += [(cab, 0.6)]
    glass = [(cab + 0.5, 1.6), (cab + 0.5, 2.5), (length - 0.6, 2.5), (length - 0.2, 1.6)]
    rear = box(-half, 0.6, half, height)
    wheels = (1.2, 2.3, length - 1.3)
    return Body("truck", "cargo", length, 2.44, height, side, rear, [glass], [], wheels, 0.5)


CARS = (_car(4.0, 1.48, 0.0), _car(4.5, 1.44, 0.55), _car(4.4, 1.7, 0.0), _car(3.6, 1.52, 0.0))
VAN = _car(5.2, 2.15, 0.0)
LARGE = {
    "truck": (_truck(8.5, 3.5), _truck(6.5, 3.1), _truck(11.5, 3.8)),
    "bus": (_coach("bus", "bus body", 12.0, 2.5, 3.1), _coach("bus", "bus body", 9.0, 2.4, 2.9)),
    "train": (_coach("train", "tram body", 24.0, 2.6, 3.5),),
}


def car_body(draws: Draws) -> Body:
    return VAN if draws.chance(0.1) else draws.pick(CARS)


def vehicle(
    scene: Scene, body: Body, x: float, z: float, *, facing: str, instance: bool = True
) -> None:
    """A vehicle whose nearest point is at depth z, centered on x.

    Args:
        facing: "away" (we see its rear), "towards" (its front), "left" or "right" (its side).
        instance: False draws into the object that was begun before.
    """
    if instance:
        scene.begin(body.label, x, z)
    draw = _along if facing in ("away", "towards") else _across
    draw(scene, body, x, z, facing)


def _along(scene: Scene, body: Body, x: float, z: float, facing: str) -> None:
    half, fine, towards = body.width / 2, z < 45.0, facing == "towards"
    scene.cast_shadows(x - half, x + half, z, z + body.length, body.height)
    if scene.camera.height > body.height:
        roof = box(x - half + 0.2, z + 0.5, x + half - 0.2, z + body.length * 0.6)
        scene.face(body.paint, [(u, body.height, w) for u, w in roof], shade=TOP_SHADE)
    if abs(x) > half:
        inner = x - half if x > 0 else x + half
        tuck = (0.26 if x < 0 else -0.26) / (body.height - body.waist) if body.is_car else 0.0

        def place(along: float, up: float) -> tuple[float, float, float]:
            side = inner - tuck * max(up - body.waist, 0.0)
            return (side, up, z + (body.length - along if towards else along))

        _side(scene, body, place, WALL, SIDE_SHADE, fine)
    base, slope = body.front_slope if towards else body.rear_slope
    rise = body.height - body.waist

    def end(part: str, outline: Outline, detail: bool = False) -> None:
        """Above the waist the near end stands back by the slope of its window."""

        def lean(up: float) -> float:
            return base + slope * (up - body.waist) / rise if up > body.waist else 0.0

        scene.face(part, [(x + u, v, z + lean(v)) for u, v in outline], detail=detail)

    paint = scene.upright(x, z)
    if body.label == "truck" and towards:
        scene.upright(x, z + 2.0)(body.paint, box(-half, 1.0, half, body.height))
        paint("cab", box(-half, 0.45, half, 2.78))
    else:
        end(body.paint, body.rear)
    for u in (-half + 0.08, half - 0.3):
        paint("tyre", box(u, 0.0, u + 0.24, body.rear[0][1] + 0.05))
    for window in body.rear_windows if z < 80.0 else ():
        end("glass", window, detail=True)
    if fine:
        _end_trim(paint, body, z < 25.0, towards)


def _end_trim(paint: Callable[..., None], body: Body, near: bool, towards: bool) -> None:
    half, truck = body.width / 2, body.label == "truck"
    if truck and towards:
        paint("glass", box(-half + 0.15, 1.6, half - 0.15, 2.5), detail=True)
    paint("bumper", box(-half, body.rear[0][1], half, 0.46), detail=True)
    if body.has_stripe:
        paint("stripe", box(-half, 0.7, half, 0.95), detail=True)
    lamp, base = ("head light", 0.55) if towards else ("tail light", 0.64)
    for u in (-half + 0.04, half - 0.32):
        paint(lamp, box(u, base, u + 0.28, base + 0.2), detail=True)
    if near:
        paint("plate", box(-0.26, 0.48, 0.26, 0.6), detail=True)
        if truck and not towards:
            paint("bumper", box(-0.03, 0.7, 0.03, body.height), detail=True)


def _across(scene: Scene, body: Body, x: float, z: float, facing: str) -> None:
    left, right = x - body.length / 2, x + body.length / 2
    scene.cast_shadows(left, right, z, z + body.width, body.height)
    if left > 0.3 or right < -0.3:
        end = left if left > 0 else right
        low, top = body.side[0][1], body.waist if body.is_car else body.height
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
        points = [place(along, up) for along, up in outline]
        scene.face(part, points, plane=plane, shade=shade, detail=detail)

    paint(body.paint, body.side, detail=False)
    r = body.wheel_radius
    for at in body.wheels:
        paint("tyre", oval(at, r, r), detail=False)
        if fine:
            paint("rim", oval(at, r, 0.55 * r))
    if body.has_stripe:
        paint("stripe", box(0.0, 0.7, body.length, 0.95))
        if not fine:
            paint("glass", box(0.4, 0.45 * body.height, body.length - 0.4, 0.82 * body.height))
            return
    if body.label == "truck":
        cab = body.length - 2.0
        paint("cab", box(cab, 0.45, body.length, 2.8))
        paint("bumper", box(0.0, 0.6, cab, 0.85))
    for window in body.side_windows:
        paint("glass", window)
