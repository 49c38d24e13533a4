"""Label spaces of a user's own classes."""

import colorsys
from pathlib import Path

from shared.data.description import read_description
from shared.data.documents import is_document
from shared.data.label_maps import LABEL_SPACES, LabelSpace, label_space
from shared.errors import UserError

_GOLDEN_RATIO_CONJUGATE = (5**0.5 - 1) / 2


def resolve_label_space(name: str) -> LabelSpace:
    """The registered label space of that name, or the one a description's `classes` define.

    Args:
        name: a name, or the path of a .yaml or .json file; relative to the current folder.
    """
    if name in LABEL_SPACES or not is_document(name):
        return label_space(name)
    description = read_description(Path(name).expanduser())
    if description.classes is None:
        raise UserError(
            f"{name} defines no label space: add 'classes', the list of class names, or name one "
            f"of {', '.join(LABEL_SPACES)}"
        )
    return own_label_space(description.name, description.classes, description.colors)


def own_label_space(
    name: str,
    classes: tuple[str, ...],
    colors: tuple[tuple[int, int, int], ...] | None = None,
) -> LabelSpace:
    """A space to which no official script and no published protocol applies."""
    return LabelSpace(name, classes, colors or distinct_colors(len(classes)), None, {})


def distinct_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """`count` RGB colours, the same at every call; no two are equal and none is black.

    Each hue is a golden angle on from the last, which spreads any number of them evenly; bright
    and dark alternate, since neighbouring hues of many classes look alike.
    """
    colors: dict[tuple[int, int, int], None] = {}
    step = 0
    while len(colors) < count:
        hue = step * _GOLDEN_RATIO_CONJUGATE % 1.0
        rgb = colorsys.hsv_to_rgb(hue, 0.85, 0.6 if step % 2 else 0.95)
        colors[tuple(round(255 * value) for value in rgb)] = None
        step += 1
    return tuple(colors)
