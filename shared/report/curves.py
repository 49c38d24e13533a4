"""Training curves: one small chart for every number that a run logged, drawn by matplotlib."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from shared.report.records import Record, Run, mean_score, number

SPEED = "seconds_per_iteration"
FIRST_GROUPS = ("loss", "accuracy", "lr")
Y_LABELS = {"lr": "learning rate", SPEED: "seconds"}
FEWEST_TO_SMOOTH = 12

# Drawn in the light theme's colors; the page's style sheet replaces them by those of its theme.
COLORS = {
    "this": "#2a6fd0",
    "baseline": "#8d8b84",
    "gain": "#0a6b2d",
    "muted": "#5b5a56",
    "grid": "#e9e7e1",
    "surface": "#ffffff",
}
SIZE = (5.0, 2.92)  # inches of 72 units
AXES = (0.14, 0.19, 0.81, 0.71)  # left, bottom, width, height as shares of the figure
STYLE = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), COLORS["muted"]
    ),
    "text.parse_math": False,
    "font.size": 11.5,
    "axes.xmargin": 0,
    "axes.ymargin": 0,
    "axes.formatter.limits": (-2, 6),
    "axes.formatter.useoffset": False,
    "lines.solid_capstyle": "round",
    # Of stretches of less than a unit only the lowest and the highest point are written.
    "path.simplify_threshold": 1.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}
SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Line:
    """`color` is a key of COLORS; points of lines with a `label` become dots that show it."""

    x: Sequence[float]
    y: Sequence[float]
    color: str = "this"
    label: str = ""
    smooth: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure of the page: `labels` are (color, text) of its lines."""

    name: str
    svg: Markup
    note: str = ""
    labels: Sequence[tuple[str, str]] = ()


def quality_chart(run: Run, baseline: Run | None, dataset: str | None, measure: str) -> Chart:
    """Target mIoU or AP50 of every evaluation on `dataset`, the baseline's beside it."""
    lines, labels = [], []
    if run.selections:
        # What chose the snapshots, beside what it could not see.
        lines.append(_scores(run.selections, "selection score", "gain"))
    for other, color in ((baseline, "baseline"), (run, "this")):
        if other is not None:
            records = [r for r in other.evaluations if r.get("dataset") == dataset]
            lines.append(_scores(records, f"{other.method} score", color))
            labels.append((color, other.method))
    if run.selections:
        labels.append(("gain", "chooses, without labels"))
    svg = line_chart(
        lines, title=f"{measure} over iterations", y_label=f"{measure} (%)", stages=run.stages()
    )
    return Chart(f"target {measure}", svg, labels=labels)


def training_charts(run: Run) -> list[Chart]:
    """One chart per key: losses, accuracies and rates first, then by appearance, speed last."""
    keys = dict.fromkeys(key for record in run.train for key in record if _is_curve(record, key))
    groups = list(dict.fromkeys([*FIRST_GROUPS, *map(_group, keys)]))
    keys = sorted(keys, key=lambda key: (key == SPEED, groups.index(_group(key))))
    return [_training_chart(run, key) for key in keys]


def _training_chart(run: Run, key: str) -> Chart:
    records = [record for record in run.train if key in record and _is_curve(record, key)]
    y = [_or_nan(number(record[key])) for record in records]
    finite = [value for value in y if math.isfinite(value)]
    group, included, reference = _group(key), (), None
    if group == "accuracy" and "domain" in key and finite:
        # A domain classifier at chance can no longer tell the domains apart.
        whole = 100.0 if max(finite) > 1 else 1.0
        included, reference = (0.0, whole), (whole / 2, "chance")
    elif group in ("lr", SPEED):
        included = (0.0,)
    svg = line_chart(
        [Line([r["iteration"] for r in records], y, smooth=group != "lr")],
        title=f"{key} over iterations",
        y_label=Y_LABELS.get(group, group),
        stages=run.stages(),
        reference=reference,
        included=included,
    )
    name = "seconds per iteration" if key == SPEED else key
    return Chart(name, svg, f"last {finite[-1]:.4g}" if finite else "never finite")


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    y_label: str,
    stages: Sequence[tuple[int, str]] = (),
    reference: tuple[float, str] | None = None,
    included: Sequence[float] = (),
) -> Markup:
    """An <svg> of values over iterations; not-a-number breaks a line, a single point is a dot.

    Args:
        stages: (first iteration, name); drawn as vertical rules where there is more than one.
        reference: (value, name) of a dashed horizontal line.
        included: values that lie within the y axis, whatever the data.
    """
    last = max([x for line in lines for x in line.x if x > 0], default=1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE)
        axes = figure.add_axes(AXES, xlim=(0, last), xlabel="iteration", ylabel=y_label)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, pad=5)
        axes.grid(axis="y", color=COLORS["grid"], clip_on=False)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.get_offset_text().set_x(-AXES[0] / AXES[2])
        texts = [text for line in lines for text in _draw(axes, line)]
        axes.update_datalim([(0, value) for value in included])
        ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(*axes.get_ylim())
        axes.set(ylim=(ticks[0], ticks[-1]), yticks=ticks)
        if len(stages) > 1:
            _draw_stages(axes, stages, last)
        if reference is not None:
            axes.axhline(reference[0], color=COLORS["muted"], lw=1, ls=(0, (4, 3)), clip_on=False)
            axes.annotate(reference[1], (0, reference[0]), (4, 4), textcoords="offset points")
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _inline(file.getvalue(), title, texts)


def moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Centered mean over `window` values (odd), fewer at the ends, of those that are finite."""
    finite, ones = np.isfinite(values), np.ones(window)
    sums, counts = (
        np.convolve(part, ones, mode="same") for part in (np.where(finite, values, 0.0), finite)
    )
    with np.errstate(invalid="ignore"):
        return sums / counts


def _draw(axes: Axes, line: Line) -> list[str]:
    """Draws a line; returns the texts of its dots."""
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    style = {"color": COLORS[line.color], "clip_on": False}
    if line.smooth and len(y) >= FEWEST_TO_SMOOTH:
        axes.plot(x, y, lw=0.8, alpha=0.4, **style)
        y = moving_mean(y, 2 * (max(5, len(y) // 20) // 2) + 1)
    axes.plot(x, y, lw=1.8, **style)
    finite = np.isfinite(y)
    if not line.label and finite.sum() != 1:
        return []
    edge = {"markeredgecolor": COLORS["surface"], "markeredgewidth": 1}
    axes.plot(x[finite], y[finite], "o", ms=6, gid="dots", **edge, **style)
    return [
        f"{line.label or 'value'}: {b:.4g} at iteration {a:.0f}"
        for a, b in zip(x[finite], y[finite], strict=True)
    ]


def _draw_stages(axes: Axes, stages: Sequence[tuple[int, str]], last: float) -> None:
    # The first record of a stage is logged one interval into it; the first stage starts at 0.
    starts = [0, *(first for first, _ in stages[1:]), last]
    for index, (_, name) in enumerate(stages):
        if index:
            axes.axvline(starts[index], color=COLORS["baseline"], lw=0.8, clip_on=False)
        width = (starts[index + 1] - starts[index]) / last * AXES[2] * SIZE[0] * 72
        if width > 5.6 * len(name) + 6:
            axes.annotate(
                name,
                (starts[index], 1),
                (4, 4),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=10,
            )


def _inline(svg: str, title: str, texts: Sequence[str]) -> Markup:
    """matplotlib's file as a part of the page: its font, its colors, no ids that charts share."""
    ElementTree.register_namespace("", SVG[1:-1])
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)
    root.attrib = {"viewBox": root.get("viewBox"), "role": "img", "aria-label": title}
    groups = root.iterfind(f".//{SVG}g[@id='dots']")
    dots = [dot for group in groups for dot in group.iter(f"{SVG}use")]
    for dot, text in zip(dots, texts, strict=True):
        ElementTree.SubElement(dot, f"{SVG}title").text = text
    for element in root.iter():
        if element.tag == f"{SVG}g":
            element.attrib.pop("id", None)
        style = re.sub(r"font-family: [^;]*; ?", "", element.get("style", ""))
        for name, color in COLORS.items():
            style = style.replace(color, f"var(--{name})")
        if style:
            element.set("style", style)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _scores(records: list[Record], label: str, color: str) -> Line:
    y = [_or_nan(mean_score(record)) for record in records]
    return Line([record["iteration"] for record in records], y, color, label)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _group(key: str) -> str:
    return key.partition("/")[0]


def _is_curve(record: Record, key: str) -> bool:
    """Whether `key` names a number; a logged null is a number that was not finite."""
    value = record[key]
    numeric = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return numeric and ("/" in key or key == SPEED)
