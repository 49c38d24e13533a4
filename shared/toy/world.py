"""One scene from its statistics: what stands where, painted from far to near."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from shared.toy import furniture, people, vehicles
from shared.toy.draws import Draws
from shared.toy.frontage import draw_backdrop, draw_frontage
from shared.toy.scene import Camera, Scene
from shared.toy.statistics import Statistics
from shared.toy.street import LANE, Side, Street, draw_ground, lay_out


@dataclass(frozen=True)
class Item:
    """Something to paint: lateral position of its middle, depths of its two ends, in metres."""

    x: float
    near: float
    far: float
    paint: Callable[[], None]

    def hides_behind(self, other: "Item") -> bool:
        """Whether it is farther out than something beside it: a tram behind a car's lane."""
        beside = self.near < other.far and self.far > other.near
        return beside and abs(self.x) > abs(other.x) and self.x * other.x >= 0.0


def far_to_near(items: list[Item]) -> list[Item]:
    """Painter's order. The near end alone does not say where a long thing covers others."""
    waiting = sorted(items, key=lambda item: -item.near)
    order = []
    while waiting:
        free = (
            k
            for k, item in enumerate(waiting)
            if not any(other.far > item.near and other.hides_behind(item) for other in waiting)
        )
        order.append(waiting.pop(next(free, 0)))
    return order


def build(
    generator: np.random.Generator, stats: Statistics, aspect: float, *, has_terrain: bool = True
) -> Scene:
    """A scene ready to rasterise.

    Args:
        aspect: height / width of the picture (only what hangs on the camera depends on it).
        has_terrain: whether there is any grass.
    """
    draws = Draws(generator)
    camera = Camera(
        focal=draws.within(stats.focal),
        centre=draws.within(stats.centre),
        horizon=draws.within(stats.horizon),
        height=draws.within(stats.camera_height),
    )
    scene = Scene(camera, draws, aspect)
    street = lay_out(draws, stats, has_terrain=has_terrain)
    draw_ground(scene, draws, street, has_terrain=has_terrain)
    draw_backdrop(scene, draws, has_terrain=has_terrain)
    draw_frontage(scene, draws, stats, street)
    items: list[Item] = []
    _lanes(items, scene, draws, stats, street)
    _crossing(items, scene, draws, stats, street)
    for side in street.sides:
        _kerbside(items, scene, draws, stats, street, side)
        _pavement(items, scene, draws, stats, street, side)
    _riders(items, scene, draws, stats, street)
    for item in far_to_near(items):
        item.paint()
    if draws.chance(stats.ego):
        _bonnet(scene, draws)
    return scene


def _lanes(
    items: list[Item], scene: Scene, draws: Draws, stats: Statistics, street: Street
) -> None:
    left, right = street.sides
    large = [k for k in ("truck", "bus", "train") if draws.chance(getattr(stats, k))]
    lanes = range(-left.lanes, right.lanes + 1)
    share = stats.traffic / len(lanes)
    for lane in lanes:
        oncoming = lane < -(left.lanes // 2 if left.lanes > 1 else 0)
        z = draws.between(9.0, 26.0) if lane == 0 else draws.between(4.0, 22.0)
        wanted = draws.count(share)
        while (wanted > 0 or large) and z < 90.0:
            if large and (lane != 0 or draws.chance(0.4)):
                label = large.pop()
                if lane == 0:
                    z = max(z, 14.0)
                body = draws.pick(vehicles.LARGE[label])
            elif wanted > 0:
                wanted -= 1
                body = vehicles.car_body(draws)
            else:
                break
            x = lane * LANE + draws.between(-0.3, 0.3)
            facing = "towards" if oncoming else "away"
            paint = partial(vehicles.vehicle, scene, body, x, z, facing=facing)
            items.append(Item(x, z, z + body.length, paint))
            z += body.length + 3.0 + 22.0 * draws.unit() ** 2


def _crossing(
    items: list[Item], scene: Scene, draws: Draws, stats: Statistics, street: Street
) -> None:
    if street.junction is None:
        return
    near, far = street.junction
    for part, facing in ((0.25, "right"), (0.65, "left")):
        if not draws.chance(stats.crossing):
            continue
        z = near + part * (far - near)
        body = vehicles.car_body(draws)
        chosen = draws.unit()
        for k, label in enumerate(("truck", "bus", "train")):
            if getattr(stats, label) > 0.0 and 0.12 * k < chosen < 0.12 * (k + 1):
                body = draws.pick(vehicles.LARGE[label])
        x = draws.between(-0.4, 0.4) * z / scene.camera.focal
        paint = partial(vehicles.vehicle, scene, body, x, z, facing=facing)
        items.append(Item(x, z, z + body.width, paint))


def _kerbside(
    items: list[Item], scene: Scene, draws: Draws, stats: Statistics, street: Street, side: Side
) -> None:
    if side.parking == side.road:
        return
    x = side.sign * (side.road + 1.05)
    facing = "towards" if side.sign < 0 and draws.chance(0.7) else "away"
    z = draws.between(4.0, 10.0)
    crowd = draws.chance(stats.groups)
    while z < 70.0:
        body = vehicles.car_body(draws)
        if draws.chance(stats.parked) and not street.blocked(z - 1.0, z + body.length + 1.0):
            if crowd and z > 45.0:
                group = partial(_car_group, scene, draws, x, z, facing)
                items.append(Item(x, z, z + 16.0, group))
                break
            paint = partial(vehicles.vehicle, scene, body, x, z, facing=facing)
            items.append(Item(x, z, z + body.length, paint))
        z += body.length + draws.between(0.7, 1.8)


def _car_group(scene: Scene, draws: Draws, x: float, z: float, facing: str) -> None:
    scene.begin("cargroup", z)
    for k in (2, 1, 0):
        body = draws.pick(vehicles.CARS)
        at = z + 5.5 * k
        vehicles.vehicle(scene, body, x, at, facing=facing, instance=False)


def _person_group(scene: Scene, draws: Draws, x: float, z: float) -> None:
    scene.begin("persongroup", z)
    for _ in range(4):
        people.person(scene, draws, x + draws.between(-1.0, 1.0), z, instance=False)


def _pavement(
    items: list[Item], scene: Scene, draws: Draws, stats: Statistics, street: Street, side: Side
) -> None:
    """Everything that stands on one sidewalk."""

    def place(count: float, paint: Callable, low: float, high: float, far: float = 55.0) -> None:
        """`count` things per frame, half of them on this side, between two offsets."""
        for _ in range(draws.count(count / 2)):
            z = 5.0 + (far - 5.0) * draws.unit() ** 1.7
            if not street.blocked(z - 0.7, z + 0.7):
                x = side.sign * draws.between(low, high)
                # Ever nearer things leave the picture sideways: push them back until they show.
                z = max(z, abs(x) * scene.camera.focal / draws.between(0.3, 0.5))
                items.append(Item(x, z, z + 0.1, partial(paint, scene, draws, x, z)))

    kerb, walk, line = side.parking + 0.35, side.walk, side.line
    place(stats.trees, furniture.tree, kerb + 0.3, kerb + 0.8, 80.0)
    place(0.8, furniture.bush, walk - 0.1, line + 0.1)
    place(stats.lamps, furniture.lamp_post, kerb, kerb + 0.2, 70.0)
    place(stats.signs, furniture.sign, kerb, kerb + 0.3, 32.0)
    place(0.3, furniture.direction_board, kerb + 0.8, kerb + 1.2, 40.0)
    place(stats.bollards, furniture.bollard, kerb, kerb + 0.1, 25.0)
    place(stats.clutter, furniture.static_clutter, walk - 0.6, walk)
    place(0.4 * stats.clutter, furniture.dynamic_clutter, kerb + 0.3, walk)
    place(stats.people, people.person, kerb + 0.2, walk, 45.0)
    place(stats.groups, _person_group, kerb + 0.6, walk, 60.0)
    for motor, count in ((False, stats.bicycles), (True, stats.motorcycles)):
        paint = partial(_parked, motor=motor)
        place(count, paint, kerb + 0.2, kerb + 0.9, 24.0)
    if street.junction is not None and draws.chance(0.75 * min(stats.lights, 1.0)):
        z = street.junction[0] - 1.0
        x = side.sign * kerb
        paint = partial(furniture.traffic_light, scene, draws, x, z)
        items.append(Item(x, z, z + 0.1, paint))
    place(0.6 * stats.lights, furniture.traffic_light, kerb, kerb + 0.2, 30.0)


def _parked(scene: Scene, draws: Draws, x: float, z: float, *, motor: bool) -> None:
    people.parked_two_wheeler(scene, draws, x, z, motor=motor)


def _riders(
    items: list[Item], scene: Scene, draws: Draws, stats: Statistics, street: Street
) -> None:
    left, right = street.sides
    for motor, mean in ((False, stats.cyclists), (True, stats.motor_riders)):
        for _ in range(draws.count(mean)):
            z = 7.0 + 22.0 * draws.unit() ** 1.5
            edge = right.road - 0.7 if draws.chance(0.6) else -left.road + 0.7
            x = edge if not motor or draws.chance(0.5) else draws.between(-1.0, 1.0)
            paint = partial(people.cyclist, scene, draws, x, z, motor=motor)
            items.append(Item(x, z, z + 0.5, paint))
    if draws.chance(min(0.06 * stats.people, 0.5)):
        z = draws.between(9.0, 25.0)
        for _ in range(1 + draws.count(1.0)):
            x = draws.between(-left.road, right.road)
            items.append(Item(x, z, z + 0.3, partial(people.person, scene, draws, x, z)))
            z += 0.3


def _bonnet(scene: Scene, draws: Draws) -> None:
    """The own car at the lower edge."""
    z = 1.05
    scene.begin("ego vehicle", z)
    top, bend = draws.between(0.91, 0.95), draws.between(0.02, 0.05)
    edge = [(k / 12, top + bend * (2 * k / 12 - 1) ** 4 * 2) for k in range(-1, 14)]
    outline = [*edge, (1.2, 1.2), (-0.2, 1.2)]
    scene.face("ego", [scene.at_picture(x, y, z) for x, y in outline])
