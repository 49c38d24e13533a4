"""The street itself: sky, ground and markings."""

from dataclasses import dataclass

from shared.toy.draws import Draws
from shared.toy.furniture import blob
from shared.toy.scene import SKY_DEPTH, Scene
from shared.toy.statistics import Statistics

LANE = 3.4


@dataclass(frozen=True)
class Side:
    """Distances from the camera's lane, in metres: always positive; sign is -1 left, 1 right."""

    sign: int
    lanes: int
    road: float
    parking: float
    verge: float
    walk: float
    line: float
    parking_label: str


@dataclass(frozen=True)
class Street:
    sides: tuple[Side, Side]
    junction: tuple[float, float] | None

    def blocked(self, near: float, far: float) -> bool:
        """Whether a stretch reaches into the crossing street."""
        return self.junction is not None and near < self.junction[1] and far > self.junction[0]


def lay_out(draws: Draws, stats: Statistics, *, has_terrain: bool) -> Street:
    sides = []
    for sign, lanes in ((-1, stats.lanes_left), (1, stats.lanes_right)):
        count = draws.count(lanes) + (1 if sign < 0 else 0)
        count = min(count, 3)
        road = 0.5 * LANE + LANE * count + draws.between(0.1, 0.6)
        parking = road + (2.2 if draws.chance(stats.parking) else 0.0)
        verge = parking
        if has_terrain and draws.chance(0.5 * stats.verge):
            verge += draws.between(1.2, 2.6)
        walk = verge + draws.within(stats.walk)
        line = walk
        if has_terrain and draws.chance(0.6 * stats.verge):
            line += draws.between(1.5, 4.0)
        label = "parking" if draws.chance(0.55) else "road"
        sides.append(Side(sign, count, road, parking, verge, walk, line, label))
    junction = None
    if draws.chance(stats.junction):
        near = draws.between(11.0, 40.0)
        junction = (near, near + draws.between(7.0, 12.0))
    return Street((sides[0], sides[1]), junction)


def draw_ground(scene: Scene, draws: Draws, street: Street, *, has_terrain: bool) -> None:
    scene.begin("sky", SKY_DEPTH)
    corners = [(0, -0.2), (1, -0.2), (1, 1.2), (0, 1.2)]
    scene.face("sky", [scene.at_picture(x, y, SKY_DEPTH) for x, y in corners])
    for _ in range(draws.count(4)):
        x, y = draws.between(-900, 900), draws.between(60, 420)
        blob(
            scene,
            draws,
            "cloud",
            x,
            y,
            SKY_DEPTH,
            draws.between(40, 220),
            draws.between(8, 40),
            detail=True,
        )
    outer = "terrain" if has_terrain and draws.chance(0.7) else "sidewalk"
    scene.begin(outer, 5.0)
    scene.strip(outer, -300.0, 300.0, 1.0, 900.0)
    for side in street.sides:
        _side_strips(scene, draws, side)
    scene.begin("road", 3.0)
    left, right = street.sides
    if street.junction is not None:
        near, far = street.junction
        scene.strip("road", -120.0, 120.0, near, far)
    scene.strip("road", -left.road, right.road, 1.0, 900.0)
    _markings(scene, draws, street)
    for side in street.sides:
        if side.parking > side.road:
            scene.begin(side.parking_label, 4.0)
            for near, far in _stretches(street, 1.0, 900.0):
                _strip(scene, "parking", side, side.road, side.parking, near, far)
    if draws.chance(0.2) and left.lanes > 1:
        scene.begin("ground", 8.0)
        near = draws.between(9.0, 25.0)
        at = -0.5 * LANE - LANE * (left.lanes - 1)
        scene.strip("ground", at - 0.5, at + 0.5, near, near + draws.between(6.0, 25.0))


def _strip(
    scene: Scene,
    part: str,
    side: Side,
    inner: float,
    outer: float,
    near: float,
    far: float,
    detail: bool = False,
) -> None:
    left, right = sorted((side.sign * inner, side.sign * outer))
    scene.strip(part, left, right, near, far, detail=detail)


def _side_strips(scene: Scene, draws: Draws, side: Side) -> None:
    scene.begin("sidewalk", 4.0)
    _strip(scene, "sidewalk", side, side.parking, side.walk, 1.0, 900.0)
    _strip(scene, "curb", side, side.parking, side.parking + 0.18, 1.0, 900.0, detail=True)
    for inner, outer in ((side.parking + 0.18, side.verge), (side.walk, side.line)):
        if outer - inner > 0.5:
            scene.begin("terrain", 4.0)
            _strip(scene, "terrain", side, inner, outer, 1.0, 900.0)


def _stretches(street: Street, near: float, far: float) -> list[tuple[float, float]]:
    if street.junction is None:
        return [(near, far)]
    return [(near, street.junction[0]), (street.junction[1], far)]


def _markings(scene: Scene, draws: Draws, street: Street) -> None:
    left, right = street.sides
    for k in range(left.lanes + right.lanes):
        x = -0.5 * LANE - LANE * (left.lanes - 1) + LANE * k
        if k == 0 and draws.chance(0.4):
            for near, far in _stretches(street, 1.0, 150.0):
                scene.strip("lane", x - 0.07, x + 0.07, near, far, detail=True)
            continue
        z = draws.between(1.0, 6.0)
        while z < 90.0:
            if not street.blocked(z, z + 3.0):
                scene.strip("lane", x - 0.07, x + 0.07, z, z + 3.0, detail=True)
            z += 7.0
    if draws.chance(0.45):
        for near, far in _stretches(street, 1.0, 150.0):
            scene.strip("lane", right.road - 0.35, right.road - 0.22, near, far, detail=True)
    if street.junction is not None:
        near = street.junction[0] - 3.6
        scene.strip("lane", -0.5 * LANE, right.road, near - 1.2, near - 0.8, detail=True)
        if draws.chance(0.7):
            x = -left.road + 0.3
            while x < right.road - 0.5:
                scene.strip("lane", x, x + 0.5, near, near + 3.0, detail=True)
                x += 1.05
    for _ in range(draws.count(2.0)):
        x, z = draws.between(-left.road, right.road - 1.5), 5.0 + 25.0 * draws.unit() ** 2
        scene.strip("patch", x, x + draws.between(0.6, 2.5), z, z + draws.between(0.7, 6.0), True)
