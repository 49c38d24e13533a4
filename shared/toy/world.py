"""One scene from the contents of its domain: what stands where, painted from far to near."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from shared.toy import furniture, people, vehicles
from shared.toy.domains import Contents
from shared.toy.scene import Camera, Draws, Scene
from shared.toy.street import LANE, Side, draw_backdrop, draw_frontage, draw_ground, lay_out


@dataclass(frozen=True)
class Item:
    """Something to paint: lateral position of its middle, depths of its two ends, in meters."""

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


def build(generator: np.random.Generator, contents: Contents, aspect: float) -> Scene:
    """A scene ready to rasterize.

    Args:
        aspect: height / width of the picture (only what hangs on the camera depends on it).
    """
    draws = Draws(generator)
    camera = Camera(
        focal=draws.between(*contents.focal),
        center=draws.between(*contents.center),
        horizon=draws.between(*contents.horizon),
        height=draws.between(*contents.camera_height),
    )
    scene = Scene(camera, draws, aspect)
    street = lay_out(draws, contents)
    draw_ground(scene, street)
    draw_backdrop(scene)
    draw_frontage(scene, contents, street)
    for item in far_to_near(_Traffic(scene, contents, street).items):
        item.paint()
    if draws.chance(contents.ego):
        _draw_bonnet(scene)
    return scene


class _Traffic:
    """Everything on the street that one can walk around: vehicles, people, furniture."""

    def __init__(self, scene, contents, street) -> None:
        self.scene, self.contents, self.street = scene, contents, street
        self.draws: Draws = scene.draws
        self.items: list[Item] = []
        self._fill_lanes()
        self._fill_junction()
        for side in street.sides:
            self._fill_parking(side)
            self._fill_sidewalk(side)
        self._add_riders()

    def _add(self, paint: Callable, x: float, z: float, depth: float, **options) -> None:
        self.items.append(Item(x, z, z + depth, partial(paint, self.scene, x=x, z=z, **options)))

    def _add_vehicle(self, body: vehicles.Body, x: float, z: float, facing: str) -> None:
        depth = body.length if facing in ("away", "towards") else body.width
        self._add(vehicles.vehicle, x, z, depth, body=body, facing=facing)

    def _fill_lanes(self) -> None:
        draws, contents, (left, right) = self.draws, self.contents, self.street.sides
        large = [k for k in ("truck", "bus", "train") if draws.chance(getattr(contents, k))]
        lanes = range(-left.lanes, right.lanes + 1)
        for lane in lanes:
            oncoming = lane < -(left.lanes // 2 if left.lanes > 1 else 0)
            z = draws.between(9.0, 26.0) if lane == 0 else draws.between(4.0, 22.0)
            cars = draws.count(contents.traffic / len(lanes))
            while (cars > 0 or large) and z < 90.0:
                if large and (lane != 0 or draws.chance(0.4)):
                    label = large.pop()
                    if lane == 0:
                        z = max(z, 14.0)
                    body = draws.pick(vehicles.LARGE[label])
                elif cars > 0:
                    cars -= 1
                    body = vehicles.car_body(draws)
                else:
                    break
                x = lane * LANE + draws.between(-0.3, 0.3)
                self._add_vehicle(body, x, z, "towards" if oncoming else "away")
                z += body.length + 3.0 + 22.0 * draws.unit() ** 2

    def _fill_junction(self) -> None:
        if self.street.junction is None:
            return
        draws, (near, far) = self.draws, self.street.junction
        for part, facing in ((0.25, "right"), (0.65, "left")):
            if not draws.chance(self.contents.crossing):
                continue
            z = near + part * (far - near)
            body = vehicles.car_body(draws)
            choice = draws.unit()
            for k, label in enumerate(("truck", "bus", "train")):
                if 0.12 * k < choice < 0.12 * (k + 1):
                    body = draws.pick(vehicles.LARGE[label])
            x = draws.between(-0.4, 0.4) * z / self.scene.camera.focal
            self._add_vehicle(body, x, z, facing)

    def _fill_parking(self, side: Side) -> None:
        draws = self.draws
        if side.parking == side.road:
            return
        x = side.sign * (side.road + 1.05)
        facing = "towards" if side.sign < 0 and draws.chance(0.7) else "away"
        z = draws.between(4.0, 10.0)
        crowd = draws.chance(self.contents.groups)
        while z < 70.0:
            body = vehicles.car_body(draws)
            blocked = partial(self.street.blocked, z - 1.0, z + body.length + 1.0)
            if draws.chance(self.contents.parked) and not blocked():
                if crowd and z > 45.0:
                    self._add(_draw_cars, x, z, 16.0, facing=facing)
                    break
                self._add_vehicle(body, x, z, facing)
            z += body.length + draws.between(0.7, 1.8)

    def _fill_sidewalk(self, side: Side) -> None:
        contents, draws = self.contents, self.draws
        curb, walk, line = side.parking + 0.35, side.walk, side.line

        def place(
            count: float, paint: Callable, low: float, high: float, far: float = 55.0, **options
        ) -> None:
            """`count` things per frame, half of them on this side, between two offsets."""
            for _ in range(draws.count(count / 2)):
                z = 5.0 + (far - 5.0) * draws.unit() ** 1.7
                if not self.street.blocked(z - 0.7, z + 0.7):
                    x = side.sign * draws.between(low, high)
                    # Ever nearer things leave the picture sideways: push them back into view.
                    z = max(z, abs(x) * self.scene.camera.focal / draws.between(0.3, 0.5))
                    self._add(paint, x, z, 0.1, **options)

        place(contents.trees, furniture.tree, curb + 0.3, curb + 0.8, 80.0)
        place(0.8, furniture.bush, walk - 0.1, line + 0.1)
        place(contents.lamps, furniture.lamp_post, curb, curb + 0.2, 70.0)
        place(contents.signs, furniture.sign, curb, curb + 0.3, 32.0)
        place(0.3, furniture.direction_board, curb + 0.8, curb + 1.2, 40.0)
        place(contents.bollards, furniture.bollard, curb, curb + 0.1, 25.0)
        place(contents.clutter, furniture.static_clutter, walk - 0.6, walk)
        place(0.4 * contents.clutter, furniture.dynamic_clutter, curb + 0.3, walk)
        place(contents.people, people.person, curb + 0.2, walk, 45.0)
        place(contents.groups, people.person_group, curb + 0.6, walk, 60.0)
        for motor, count in ((False, contents.bicycles), (True, contents.motorcycles)):
            place(count, people.two_wheeler, curb + 0.2, curb + 0.9, 24.0, motor=motor)
        junction = self.street.junction
        if junction is not None and draws.chance(0.75 * min(contents.lights, 1.0)):
            self._add(furniture.traffic_light, side.sign * curb, junction[0] - 1.0, 0.1)
        place(0.6 * contents.lights, furniture.traffic_light, curb, curb + 0.2, 30.0)

    def _add_riders(self) -> None:
        draws, contents, (left, right) = self.draws, self.contents, self.street.sides
        for motor, mean in ((False, contents.cyclists), (True, contents.motor_riders)):
            for _ in range(draws.count(mean)):
                z = 7.0 + 22.0 * draws.unit() ** 1.5
                edge = right.road - 0.7 if draws.chance(0.6) else -left.road + 0.7
                x = edge if not motor or draws.chance(0.5) else draws.between(-1.0, 1.0)
                self._add(people.rider, x, z, 0.5, motor=motor)
        if draws.chance(min(0.06 * contents.people, 0.5)):
            z = draws.between(9.0, 25.0)
            for _ in range(1 + draws.count(1.0)):
                self._add(people.person, draws.between(-left.road, right.road), z, 0.3)
                z += 0.3


def _draw_cars(scene: Scene, x: float, z: float, facing: str) -> None:
    """Parked cars that nobody separated."""
    scene.begin("cargroup", x, z)
    for k in (2, 1, 0):
        body = scene.draws.pick(vehicles.CARS)
        vehicles.vehicle(scene, body, x, z + 5.5 * k, facing=facing, instance=False)


def _draw_bonnet(scene: Scene) -> None:
    """The own car at the lower edge."""
    draws, z = scene.draws, 1.05
    scene.begin("ego vehicle", 0.0, z)
    top, bend = draws.between(0.91, 0.95), draws.between(0.02, 0.05)
    edge = [(k / 12, top + bend * (2 * k / 12 - 1) ** 4 * 2) for k in range(-1, 14)]
    outline = [*edge, (1.2, 1.2), (-0.2, 1.2)]
    scene.face("ego", [scene.at_picture(x, y, z) for x, y in outline])
