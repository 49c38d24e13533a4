"""What a domain's scenes contain: ranges and frequencies, no appearance."""

from dataclasses import dataclass, replace

Range = tuple[float, float]


@dataclass(frozen=True)
class Statistics:
    """Metres, picture fractions, probabilities, and mean counts per frame.

    Args:
        focal: in picture widths.
        lanes_left, lanes_right: mean number of lanes beside our own and one oncoming.
        frontage: probabilities of building, wall, fence, hedge, open ground along the street.
    """

    focal: Range
    horizon: Range
    camera_height: Range
    centre: Range = (0.4, 0.6)
    lanes_left: float = 0.8
    lanes_right: float = 0.5
    walk: Range = (2.0, 3.6)
    verge: float = 0.4
    parking: float = 0.5
    junction: float = 0.4
    frontage: tuple[float, float, float, float, float] = (0.56, 0.12, 0.12, 0.08, 0.12)
    building_height: Range = (6.0, 16.0)
    building_length: Range = (9.0, 24.0)
    pitched_roof: float = 0.3
    traffic: float = 2.6
    parked: float = 0.5
    crossing: float = 0.25
    truck: float = 0.2
    bus: float = 0.2
    train: float = 0.16
    people: float = 3.0
    cyclists: float = 0.4
    motor_riders: float = 0.25
    bicycles: float = 0.8
    motorcycles: float = 0.4
    trees: float = 3.0
    lamps: float = 2.5
    signs: float = 2.0
    lights: float = 1.0
    bollards: float = 0.3
    clutter: float = 0.5
    groups: float = 0.0
    ego: float = 0.3


GAME = Statistics(
    focal=(0.78, 0.92),
    horizon=(0.42, 0.48),
    camera_height=(1.35, 1.55),
    walk=(2.5, 4.5),
    verge=0.45,
    parking=0.3,
    frontage=(0.5, 0.16, 0.14, 0.08, 0.12),
    building_height=(7.0, 26.0),
    building_length=(12.0, 30.0),
    pitched_roof=0.15,
    traffic=5.5,
    parked=0.25,
    truck=0.4,
    bus=0.3,
    people=1.8,
    cyclists=0.25,
    motor_riders=0.3,
    bicycles=0.45,
    motorcycles=0.45,
    lamps=2.5,
    signs=1.6,
    lights=1.2,
)
REAL = Statistics(
    focal=(0.88, 1.08),
    horizon=(0.37, 0.45),
    camera_height=(1.15, 1.35),
    centre=(0.36, 0.64),
    lanes_left=0.3,
    lanes_right=0.2,
    walk=(2.8, 5.5),
    verge=0.6,
    parking=0.5,
    frontage=(0.48, 0.16, 0.15, 0.1, 0.11),
    building_height=(5.5, 14.0),
    building_length=(7.0, 18.0),
    pitched_roof=0.5,
    traffic=1.8,
    parked=0.6,
    truck=0.22,
    bus=0.24,
    train=0.2,
    people=6.0,
    cyclists=0.9,
    motor_riders=0.25,
    bicycles=1.8,
    motorcycles=0.5,
    trees=5.0,
    lamps=3.0,
    signs=2.8,
    lights=1.3,
    bollards=1.2,
    clutter=1.0,
    groups=0.1,
    ego=0.85,
)
SYNTHIA = replace(
    GAME,
    focal=(0.72, 0.85),
    horizon=(0.24, 0.33),
    camera_height=(2.3, 3.6),
    verge=0.0,
    frontage=(0.66, 0.12, 0.14, 0.08, 0.0),
    building_height=(9.0, 24.0),
    parked=0.4,
    traffic=3.5,
    truck=0.0,
    bus=0.35,
    train=0.0,
    people=5.0,
    cyclists=0.7,
    bicycles=0.9,
    ego=0.0,
)
SEASON = replace(
    GAME,
    focal=(0.85, 1.0),
    horizon=(0.36, 0.44),
    camera_height=(1.6, 2.0),
    trees=5.0,
    verge=0.6,
    traffic=3.0,
    people=3.0,
    ego=0.0,
    building_height=(6.0, 18.0),
)
DUSK = replace(REAL, focal=(0.9, 1.1), traffic=3.5, people=3.5, lamps=4.0, ego=0.5)
DRAWN = replace(
    REAL,
    focal=(0.8, 1.0),
    horizon=(0.38, 0.48),
    people=4.0,
    trees=3.5,
    ego=0.0,
    clutter=0.5,
    lamps=1.8,
)

STATISTICS = {
    "game": GAME,
    "synthia": SYNTHIA,
    "real": REAL,
    "foggy": REAL,
    "summer": SEASON,
    "fall": SEASON,
    "winter": SEASON,
    "dusk": DUSK,
    "clipart": DRAWN,
    "watercolor": DRAWN,
}
