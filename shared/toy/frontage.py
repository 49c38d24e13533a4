"""What stands along the sides of the street and closes it: buildings, barriers, greenery."""

from shared.toy.draws import Draws
from shared.toy.furniture import blob, tree
from shared.toy.scene import LONG_SHADOW, WALL, Points, Scene
from shared.toy.statistics import Statistics
from shared.toy.street import Side, Street

FAR = 170.0
NEAREST = 1.2


def draw_backdrop(scene: Scene, draws: Draws, *, has_terrain: bool) -> None:
    """Whatever closes the view at the end of the street."""
    left = -130.0
    while left < 130.0:
        z = draws.between(FAR + 5.0, FAR + 60.0)
        wide = draws.between(14.0, 40.0)
        if draws.chance(0.5):
            scene.begin("building", z)
            high = draws.between(7.0, 26.0)
            box = [(0.0, 0.0), (wide, 0.0), (wide, high), (0.0, high)]
            scene.flat("far facade", left, z, box)
        else:
            scene.begin("vegetation", z)
            high = draws.between(5.0, 13.0)
            blob(scene, draws, "far crown", left + wide / 2, high * 0.4, z, wide * 0.65, high * 0.7)
        left += wide * draws.between(0.6, 1.0)


def draw_frontage(scene: Scene, draws: Draws, stats: Statistics, street: Street) -> None:
    """Buildings, walls, fences and hedges on both sides, far ones first."""
    pieces = []
    for side in street.sides:
        z = draws.between(-12.0, 0.0)
        while z < FAR:
            length = draws.within(stats.building_length)
            if street.blocked(z, z + length) and street.junction is not None:
                near, far = street.junction
                if near - z > 4.0:
                    length = near - z
                else:
                    z = far
                    continue
            if z + length > 2.5:
                pieces.append((max(z, NEAREST), z + length, side, draws.unit()))
            z += length
    bounds = [sum(stats.frontage[: k + 1]) for k in range(5)]
    for near, far, side, choice in sorted(pieces, key=lambda p: -p[0]):
        if choice < bounds[0]:
            _building(scene, draws, stats, side, near, far)
        elif choice < bounds[2]:
            _barrier(scene, draws, side, near, far, "wall" if choice < bounds[1] else "fence")
        else:
            _green(scene, draws, side, near, far, hedge=choice < bounds[3])


def _upright(x: float, near: float, far: float, low: float, high: float) -> Points:
    return [(x, low, near), (x, high, near), (x, high, far), (x, low, far)]


def _building(
    scene: Scene, draws: Draws, stats: Statistics, side: Side, near: float, far: float
) -> None:
    scene.begin("building", near)
    x = side.sign * (side.line + draws.between(0.0, 0.6))
    outward = side.sign * draws.between(8.0, 14.0)
    high = draws.within(stats.building_height)
    shade = 0.78 if side.sign > 0 else 1.0
    pitched = draws.chance(stats.pitched_roof)
    if near > NEAREST:
        gable = [(x, 0.0, near), (x + outward, 0.0, near), (x + outward, high, near)]
        if pitched:
            gable.append((x + outward / 2, high + 3.5, near))
        scene.face("facade", [*gable, (x, high, near)], shade=0.9)
    scene.face("facade", _upright(x, near, far, 0.0, high), plane=WALL, shade=shade)
    if pitched:
        rise = [(x, high, near), (x + outward / 2, high + 3.5, near)]
        rise += [(x + outward / 2, high + 3.5, far), (x, high, far)]
        scene.face("roof", rise, plane=WALL, shade=shade)
    else:
        scene.face("roof", _upright(x, near, far, high - 0.35, high), plane=WALL, detail=True)
    if far < 60:
        at = draws.between(near + 1.0, max(far - 2.0, near + 1.1))
        scene.face(
            "door", _upright(x, at, at + 1.1, 0.0, 2.2), plane=WALL, shade=shade, detail=True
        )
    if side.sign < 0:
        edge = side.sign * side.line
        reach = edge + 0.8 * high
        shadow = [(edge, 0.0, near), (reach, 0.0, near + 0.3 * high)]
        scene.shadow([*shadow, (reach, 0.0, far + 0.3 * high), (edge, 0.0, far)], LONG_SHADOW)


def _barrier(scene: Scene, draws: Draws, side: Side, near: float, far: float, label: str) -> None:
    x = side.sign * (side.line + draws.between(0.0, 0.4))
    behind = draws.unit()
    if behind < 0.45:
        for k in range(draws.count(1.5)):
            z = far - (far - near) * (k + draws.unit()) / 3.0
            tree(scene, draws, x + side.sign * draws.between(2.0, 6.0), max(z, 4.0))
    elif behind < 0.75:
        scene.begin("building", near)
        back = x + side.sign * draws.between(6.0, 12.0)
        high = draws.between(5.0, 10.0)
        scene.face("facade", _upright(back, near, far, 0.0, high), plane=WALL)
    scene.begin(label, near)
    high = draws.between(1.5, 3.2) if label == "wall" else draws.between(1.1, 2.2)
    shade = 0.78 if side.sign > 0 else 1.0
    scene.face(label, _upright(x, near, far, 0.0, high), plane=WALL, shade=shade)
    cap = "wall cap" if label == "wall" else "fence post"
    scene.face(cap, _upright(x, near, far, high - 0.14, high), plane=WALL, detail=True)
    if label == "fence":
        z = near
        while z < min(far, 60.0):
            post = _upright(x, z, z + 0.14, 0.0, high + 0.12)
            scene.face("fence post", post, plane=WALL, shade=shade)
            z += 2.5


def _green(scene: Scene, draws: Draws, side: Side, near: float, far: float, *, hedge: bool) -> None:
    x = side.sign * (side.line + draws.between(0.2, 1.0))
    for k in range(2 + draws.count(1.0)):
        z = far - (far - near) * (k + draws.unit()) / 4.0
        tree(scene, draws, x + side.sign * draws.between(2.0, 9.0), max(z, 4.0))
    if hedge:
        scene.begin("vegetation", near)
        high = draws.between(0.9, 2.0)
        scene.face("hedge", _upright(x, near, far, 0.0, high), plane=WALL)
        if near > NEAREST:
            end = [(x, 0.0, near), (x + side.sign * 1.2, 0.0, near)]
            scene.face("hedge", [*end, (x + side.sign * 1.2, high, near), (x, high, near)])
