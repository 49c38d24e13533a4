"""What the toy domains differ in, as two tables: the contents of their scenes and their looks."""

from types import SimpleNamespace

# Name → world (column of `CONTENTS`), look (column of `LOOKS`). The order is part of the data: it
# seeds the scenes. Domains of one world show the same streets at equal indices; those that no
# experiment trains on borrow the world of one that is trained on.
DOMAINS = {
    "game": ("game", "game"),
    "synthia": ("game", "synthia"),
    "real": ("real", "real"),
    "foggy": ("real", "real"),
    "summer": ("game", "summer"),
    "fall": ("game", "fall"),
    "winter": ("game", "winter"),
    "dusk": ("real", "real"),
    "clipart": ("clipart", "clipart"),
    "watercolor": ("clipart", "watercolor"),
}

Cell = float | str | tuple[float, ...]


def _cell(text: str) -> Cell:
    """A number, `low..high` as a pair, `a:b:c` as a tuple, or a word. With a point: a float."""
    if ".." in text:
        return tuple(_cell(number) for number in text.split(".."))
    if ":" in text:
        return tuple(_cell(number) for number in text.split(":"))
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _columns(table: str) -> dict[str, dict[str, Cell]]:
    """Column → {row: cell}, the rows in their order; cells of `-` are left out."""
    head, *rows = (line.split() for line in table.strip().splitlines())
    columns: dict[str, dict[str, Cell]] = {name: {} for name in head}
    for key, *cells in rows:
        for name, text in zip(head, cells, strict=True):
            if text != "-":
                columns[name][key] = _cell(text)
    return columns


# Meters, fractions of the picture, probabilities, and mean counts per frame.
_CONTENTS = """
                 game        real        clipart
focal            0.78..0.92  0.88..1.08  0.8..1.0
horizon          0.42..0.48  0.37..0.45  0.38..0.48
camera_height    1.35..1.55  1.15..1.35  1.15..1.35
center           0.4..0.6    0.36..0.64  0.36..0.64
lanes_left       0.8         0.3         0.3
lanes_right      0.5         0.2         0.2
walk             2.5..4.5    2.8..5.5    2.8..5.5
verge            0.45        0.6         0.6
parking          0.3         0.5         0.5
junction         0.4         0.4         0.4
building         0.5         0.48        0.48
wall             0.16        0.16        0.16
fence            0.14        0.15        0.15
hedge            0.08        0.1         0.1
building_height  7.0..26.0   5.5..14.0   5.5..14.0
building_length  12.0..30.0  7.0..18.0   7.0..18.0
pitched_roof     0.15        0.5         0.5
traffic          5.5         1.8         1.8
parked           0.25        0.6         0.6
crossing         0.25        0.25        0.25
truck            0.4         0.22        0.22
bus              0.3         0.24        0.24
train            0.16        0.2         0.2
people           1.8         6.0         4.0
cyclists         0.25        0.9         0.9
motor_riders     0.3         0.25        0.25
bicycles         0.45        1.8         1.8
motorcycles      0.45        0.5         0.5
trees            3.0         5.0         3.5
lamps            2.5         3.0         1.8
signs            1.6         2.8         2.8
lights           1.2         1.3         1.3
bollards         0.3         1.2         1.2
clutter          0.5         1.0         0.5
groups           0.0         0.1         0.1
ego              0.3         0.85        0.0
"""
Contents = SimpleNamespace
CONTENTS = {name: Contents(**column) for name, column in _columns(_CONTENTS).items()}

# Ranges are drawn for every frame, in the order of the rows. `texture` scales the strength of the
# materials' textures; light, cast (standard deviation), TINTS and exposure make the gain of the
# color channels; the others are fields of `Style` or arguments of `color_matrix`.
_LOOKS = """
            game       synthia    summer     fall       winter      clipart  watercolor real
palette     game       synthia    summer     fall       winter      drawn    drawn      real
family      -          -          -          -          -           -        -          photo
texture     0.5..1.2   0.9        1.3        1.3        1.3         -        1.6        0.6
light       0.7..1.1   0.85..1.08 -          -          -           -        -          -
cast        0.05       -          -          -          -           -        0.03       0.035
frame       -          -          -          -          -           -        -          60..110
second      0.3        0.35       0.35       0.4        0.3         0.2      0.3        0.45..0.62
jitter      0.12       0.06       0.08       0.08       0.08        0.0      0.12       0.13
turn        0.8..1.4   1.6        -          -          -           0.6      0.8        0.4..1.2
sky_fade    0.2..0.7   0.2        0.2..0.5   0.2..0.5   0.2..0.5    0.0      0.5        0.0..0.3
occlusion   -          -          0.15       0.15       0.15        -        -          0.25..0.45
sun         0.15..0.5  0.0..0.35  0.28..0.48 0.175..0.3 0.035..0.06 -        -          0.0..0.3
contact     0.5        0.35       0.4        0.4        0.4         0.2      0.25       0.4..0.6
shadow_blur -          1.5        1.0        1.0        1.0         -        2.0        3.0..7.0
field       -          -          0.08       0.08       0.08        -        0.25       0.12..0.3
glass       -          -          -          -          -           0:1:0    2:1:0      4:2:0
saturation  0.85..1.25 0.75..1.0  0.8..1.05  0.8..1.05  0.8..1.05   1.0      0.45..0.7  0.7..1.0
exposure    -          -          -          -          -           -        -          0.95..1.4
contrast    0.85..1.1  0.95       0.9..1.05  0.9..1.05  0.9..1.05   1.0      0.7        0.85..1.05
lift        4.0        4.0        2.0        2.0        2.0         0.0      24.0..42.0 -4.0..12.0
wash        -          -          -          -          -           -        0.7..1.0   -
blur        -          -          -          -          -           -        0.6        0.4..0.75
noise       -          -          2.0        2.0        2.0         -        -          1.0..3.0
noise_blur  -          -          -          -          -           -        -          0.5
jpeg        -          -          -          -          -           -        -          60..88
outline     -          -          -          -          -           1.0..1.8 -          -
levels      -          -          -          -          -           5..8     -          -
"""
LOOKS = _columns(_LOOKS)
TINTS = {
    "synthia": (0.95, 0.99, 1.06),
    "summer": (1.05, 1.02, 0.92),
    "fall": (1.0, 0.93, 0.85),
    "winter": (0.78, 0.82, 0.9),
    "real": (1.0, 1.02, 1.0),
}
