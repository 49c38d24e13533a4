"""The street itself: ground and markings, and what stands along its sides and closes it."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.toy.domains import Contents
from shared.toy.furniture import blob, tree
from shared.toy.scene import LONG_SHADOW, NEAR, SKY_DEPTH, WALL, Draws, Points, Scene, box

LANE = 3.4
FAR = 170.0
NEAREST = 1.2


@dataclass(frozen=True)
class Side:
    """Distances from the camera's lane, in meters: always positive; sign is -1 left, 1 right."""

    sign: int
    lanes: int
    road: float
    parking: float
    verge: float
    walk: float
    line: float
    parking_label: str

    def span(self, inner: float, outer: float) -> tuple[float, float]:
        """Two distances as x from left to right."""
        return (inner, outer) if self.sign > 0 else (-outer, -inner)


@dataclass(frozen=True)
class Street:
    sides: tuple[Side, Side]
    junction: tuple[float, float] | None

    def blocked(self, near: float, far: float) -> bool:
        """Whether a stretch reaches into the crossing street."""
        return self.junction is not None and near < self.junction[1] and far > self.junction[0]

    def stretches(self, far: float) -> list[tuple[float, float]]:
        """The street up to `far` without the crossing one."""
        if self.junction is None:
            return [(NEAR, far)]
        return [(NEAR, self.junction[0]), (self.junction[1], far)]


def lay_out(draws: Draws, contents: Contents) -> Street:
    sides = []
    for sign, lanes in ((-1, contents.lanes_left), (1, contents.lanes_right)):
        count = min(draws.count(lanes) + (1 if sign < 0 else 0), 3)
        road = 0.5 * LANE + LANE * count + draws.between(0.1, 0.6)
        parking = road + (2.2 if draws.chance(contents.parking) else 0.0)
        verge = parking
        if draws.chance(0.5 * contents.verge):
            verge += draws.between(1.2, 2.6)
        walk = line = verge + draws.between(*contents.walk)
        if draws.chance(0.6 * contents.verge):
            line += draws.between(1.5, 4.0)
        label = "parking" if draws.chance(0.55) else "road"
        sides.append(Side(sign, count, road, parking, verge, walk, line, label))
    junction = None
    if draws.chance(contents.junction):
        near = draws.between(11.0, 40.0)
        junction = (near, near + draws.between(7.0, 12.0))
    return Street((sides[0], sides[1]), junction)


def draw_ground(scene: Scene, street: Street) -> None:
    draws = scene.draws
    scene.begin("sky", 0.0, SKY_DEPTH)
    corners = [(0, -0.2), (1, -0.2), (1, 1.2), (0, 1.2)]
    scene.face("sky", [scene.at_picture(x, y, SKY_DEPTH) for x, y in corners])
    for _ in range(draws.count(4)):
        x, y = draws.between(-900, 900), draws.between(60, 420)
        rx, ry = draws.between(40, 220), draws.between(8, 40)
        scene.upright(x, SKY_DEPTH)("cloud", blob(draws, y, rx, ry), detail=True)
    outer = "terrain" if draws.chance(0.7) else "sidewalk"
    scene.begin(outer, 0.0, 5.0)
    scene.strip(outer, -300.0, 300.0)
    for side in street.sides:
        scene.begin("sidewalk", 0.0, 4.0)
        scene.strip("sidewalk", *side.span(side.parking, side.walk))
        curb = side.parking + 0.18
        scene.strip("curb", *side.span(side.parking, curb), detail=True)
        for inner, outer in ((curb, side.verge), (side.walk, side.line)):
            if outer - inner > 0.5:
                scene.begin("terrain", 0.0, 4.0)
                scene.strip("terrain", *side.span(inner, outer))
    scene.begin("road", 0.0, 3.0)
    left, right = street.sides
    if street.junction is not None:
        scene.strip("road", -120.0, 120.0, *street.junction)
    scene.strip("road", -left.road, right.road)
    _draw_markings(scene, street)
    for side in street.sides:
        if side.parking > side.road:
            scene.begin(side.parking_label, 0.0, 4.0)
            for stretch in street.stretches(900.0):
                scene.strip("parking", *side.span(side.road, side.parking), *stretch)
    if draws.chance(0.2) and left.lanes > 1:
        scene.begin("ground", 0.0, 8.0)
        near = draws.between(9.0, 25.0)
        at = -0.5 * LANE - LANE * (left.lanes - 1)
        scene.strip("ground", at - 0.5, at + 0.5, near, near + draws.between(6.0, 25.0))


def _draw_markings(scene: Scene, street: Street) -> None:
    draws, (left, right) = scene.draws, street.sides
    for k in range(left.lanes + right.lanes):
        x = -0.5 * LANE - LANE * (left.lanes - 1) + LANE * k
        if k == 0 and draws.chance(0.4):
            for stretch in street.stretches(150.0):
                scene.strip("lane", x - 0.07, x + 0.07, *stretch, detail=True)
            continue
        z = draws.between(1.0, 6.0)
        while z < 90.0:
            if not street.blocked(z, z + 3.0):
                scene.strip("lane", x - 0.07, x + 0.07, z, z + 3.0, detail=True)
            z += 7.0
    if draws.chance(0.45):
        for stretch in street.stretches(150.0):
            scene.strip("lane", right.road - 0.35, right.road - 0.22, *stretch, detail=True)
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


def draw_backdrop(scene: Scene) -> None:
    """Whatever closes the view at the end of the street."""
    draws, left = scene.draws, -130.0
    while left < 130.0:
        z = draws.between(FAR + 5.0, FAR + 60.0)
        wide = draws.between(14.0, 40.0)
        if draws.chance(0.5):
            paint = scene.begin("building", left, z)
            paint("far facade", box(0.0, 0.0, wide, draws.between(7.0, 26.0)))
        else:
            paint = scene.begin("vegetation", left + wide / 2, z)
            high = draws.between(5.0, 13.0)
            paint("far crown", blob(draws, high * 0.4, wide * 0.65, high * 0.7))
        left += wide * draws.between(0.6, 1.0)


def draw_frontage(scene: Scene, contents: Contents, street: Street) -> None:
    """Buildings, walls, fences and hedges on both sides, far ones first."""
    pieces = [piece for side in street.sides for piece in _pieces(scene, contents, street, side)]
    walls = contents.building + contents.wall
    fences = walls + contents.fence
    for near, far, side, choice in sorted(pieces, key=lambda piece: -piece[0]):
        if choice < contents.building:
            _draw_building(scene, contents, side, near, far)
        elif choice < fences:
            _draw_barrier(scene, side, near, far, "wall" if choice < walls else "fence")
        else:
            _draw_green(scene, side, near, far, hedge=choice < fences + contents.hedge)


def _pieces(
    scene: Scene, contents: Contents, street: Street, side: Side
) -> Iterator[tuple[float, float, Side, float]]:
    """Near and far end of what stands on one side, and a random number that says what it is."""
    z = scene.draws.between(-12.0, 0.0)
    while z < FAR:
        length = scene.draws.between(*contents.building_length)
        if street.blocked(z, z + length):
            near, far = street.junction
            if near - z <= 4.0:
                z = far
                continue
            length = near - z
        if z + length > 2.5:
            yield max(z, NEAREST), z + length, side, scene.draws.unit()
        z += length


def _upright(x: float, near: float, far: float, low: float, high: float) -> Points:
    return [(x, low, near), (x, high, near), (x, high, far), (x, low, far)]


def _draw_building(scene: Scene, contents: Contents, side: Side, near: float, far: float) -> None:
    draws = scene.draws
    scene.begin("building", 0.0, near)
    x = side.sign * (side.line + draws.between(0.0, 0.6))
    outward = side.sign * draws.between(8.0, 14.0)
    high = draws.between(*contents.building_height)
    shade = 0.78 if side.sign > 0 else 1.0
    pitched = draws.chance(contents.pitched_roof)
    ridge = (x + outward / 2, high + 3.5)
    if near > NEAREST:
        gable = [(x, 0.0, near), (x + outward, 0.0, near), (x + outward, high, near)]
        if pitched:
            gable.append((*ridge, near))
        scene.face("facade", [*gable, (x, high, near)], shade=0.9)
    scene.face("facade", _upright(x, near, far, 0.0, high), plane=WALL, shade=shade)
    if pitched:
        roof = [(x, high, near), (*ridge, near), (*ridge, far), (x, high, far)]
        scene.face("roof", roof, plane=WALL, shade=shade)
    else:
        scene.face("roof", _upright(x, near, far, high - 0.35, high), plane=WALL, detail=True)
    if far < 60:
        at = draws.between(near + 1.0, max(far - 2.0, near + 1.1))
        door = _upright(x, at, at + 1.1, 0.0, 2.2)
        scene.face("door", door, plane=WALL, shade=shade, detail=True)
    if side.sign < 0:
        edge = side.sign * side.line
        reach = edge + 0.8 * high
        shadow = [(edge, 0.0, near), (reach, 0.0, near + 0.3 * high)]
        shadow += [(reach, 0.0, far + 0.3 * high), (edge, 0.0, far)]
        scene.shadows.append((LONG_SHADOW, shadow))


def _draw_barrier(scene: Scene, side: Side, near: float, far: float, label: str) -> None:
    draws = scene.draws
    x = side.sign * (side.line + draws.between(0.0, 0.4))
    behind = draws.unit()
    if behind < 0.45:
        for k in range(draws.count(1.5)):
            z = far - (far - near) * (k + draws.unit()) / 3.0
            tree(scene, x + side.sign * draws.between(2.0, 6.0), max(z, 4.0))
    elif behind < 0.75:
        scene.begin("building", 0.0, near)
        back = x + side.sign * draws.between(6.0, 12.0)
        high = draws.between(5.0, 10.0)
        scene.face("facade", _upright(back, near, far, 0.0, high), plane=WALL)
    scene.begin(label, 0.0, near)
    high = draws.between(1.5, 3.2) if label == "wall" else draws.between(1.1, 2.2)
    shade = 0.78 if side.sign > 0 else 1.0
    scene.face(label, _upright(x, near, far, 0.0, high), plane=WALL, shade=shade)
    cap = "wall cap" if label == "wall" else "fence post"
    scene.face(cap, _upright(x, near, far, high - 0.14, high), plane=WALL, detail=True)
    z = near
    while label == "fence" and z < min(far, 60.0):
        post = _upright(x, z, z + 0.14, 0.0, high + 0.12)
        scene.face("fence post", post, plane=WALL, shade=shade)
        z += 2.5


def _draw_green(scene: Scene, side: Side, near: float, far: float, *, hedge: bool) -> None:
    draws = scene.draws
    x = side.sign * (side.line + draws.between(0.2, 1.0))
    for k in range(2 + draws.count(1.0)):
        z = far - (far - near) * (k + draws.unit()) / 4.0
        tree(scene, x + side.sign * draws.between(2.0, 9.0), max(z, 4.0))
    if hedge:
        scene.begin("vegetation", 0.0, near)
        high = draws.between(0.9, 2.0)
        scene.face("hedge", _upright(x, near, far, 0.0, high), plane=WALL)
        if near > NEAREST:
            end = [(x, 0.0, near), (x + side.sign * 1.2, 0.0, near)]
            scene.face("hedge", [*end, (x + side.sign * 1.2, high, near), (x, high, near)])
