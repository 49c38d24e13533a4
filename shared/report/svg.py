"""Line charts as inline SVG: colours come from the page's style sheet, so they follow its theme."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 50, 18, 20, 40
DRAWN_POINTS = 600
FEWEST_TO_SMOOTH = 12


@dataclass
class Series:
    """One line: `style` is the CSS class of its colour (`this` or `baseline`)."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "this"
    smooth: bool = False
    markers: bool = False


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    y_label: str,
    x_label: str = "iteration",
    stages: Sequence[tuple[int, str]] = (),
    reference: tuple[float, str] | None = None,
    y_range: tuple[float, float] | None = None,
) -> str:
    """An <svg> of the given lines; not-a-number breaks a line, a single point becomes a dot.

    Args:
        stages: (first iteration, name); drawn as vertical rules where there is more than one.
        reference: (value, name) of a dashed horizontal line.
        y_range: fixed limits; otherwise the data's, rounded outwards.
    """
    xs = np.concatenate([np.asarray(s.x, float) for s in series] or [np.zeros(0)])
    ys = np.concatenate([np.asarray(s.y, float) for s in series] or [np.zeros(0)])
    ys = ys[np.isfinite(ys)]
    x_max = float(xs.max()) if xs.size and xs.max() > 0 else 1.0
    x_ticks = [t for t in nice_ticks(0, x_max, 5) if t <= x_max]
    low, high = y_range or ((float(ys.min()), float(ys.max())) if ys.size else (0.0, 1.0))
    y_ticks = nice_ticks(low, high, 4)
    low, high = y_ticks[0], y_ticks[-1]

    def px(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * x / x_max

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *(_y_tick(py(t), tick_text(t, y_ticks)) for t in y_ticks),
        *(_text(px(t), HEIGHT - BOTTOM + 15, tick_text(t, x_ticks), "middle") for t in x_ticks),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_label, "middle"),
        f'<text class="axis" text-anchor="middle" transform="translate(10 '
        f'{(TOP + HEIGHT - BOTTOM) / 2:.1f}) rotate(-90)">{escape(y_label)}</text>',
    ]
    if len(stages) > 1:
        parts += _stage_rules(stages, px, x_max)
    if reference is not None and low <= reference[0] <= high:
        y = py(reference[0])
        parts.append(f'<path class="reference" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT + 4, y - 4, reference[1], "start"))
    for line in series:
        parts += _line(line, px, py)
    return "".join([*parts, "</svg>"])


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` steps of 1, 2 or 5 · 10ⁿ that enclose [low, high]; at least two ticks."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = 0.1 * abs(high) or 1.0
        low, high = low - margin, high + margin
    exact = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(exact))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= exact * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """`value` with as many digits as the distance between `ticks` needs: 20k, 0.25, 5e−5."""
    largest = max(abs(t) for t in ticks)
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else largest or 1.0
    if abs(value) < 1e-9 * step:
        return "0"
    if largest < 1e-2:
        digits, exponent = f"{value:.1e}".split("e")
        return f"{float(digits):g}e{int(exponent)}".replace("-", "−")
    if step >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}".replace("-", "−")


def moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Centred mean over `window` values, fewer at the ends, of those that are finite."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(values))
    first = np.maximum(index - window // 2, 0)
    last = np.minimum(index + window // 2 + 1, len(values))
    with np.errstate(invalid="ignore"):
        return (sums[last] - sums[first]) / (counts[last] - counts[first])


def smoothing_window(count: int) -> int:
    return max(5, count // 20)


def _line(line: Series, px, py) -> list[str]:
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    parts = []
    if line.smooth and len(y) >= FEWEST_TO_SMOOTH:
        parts.append(_path(x, y, f"raw {line.style}", px, py))
        y = moving_mean(y, smoothing_window(len(y)))
    parts.append(_path(x, y, f"line {line.style}", px, py))
    if line.markers or np.isfinite(y).sum() == 1:
        parts += [
            f'<circle class="dot {line.style}" cx="{px(a):.1f}" cy="{py(b):.1f}" r="3">'
            f"<title>{escape(line.label)}: {b:.4g} at iteration {a:.0f}</title></circle>"
            for a, b in zip(x, y, strict=True)
            if math.isfinite(b)
        ]
    return parts


def _path(x: np.ndarray, y: np.ndarray, style: str, px, py) -> str:
    x, y = _thin(x, y)
    commands, pen_down = [], False
    for a, b in zip(x, y, strict=True):
        if math.isfinite(b):
            commands.append(f"{'L' if pen_down else 'M'}{px(a):.1f} {py(b):.1f}")
        pen_down = math.isfinite(b)
    return f'<path class="{style}" d="{"".join(commands)}"/>'


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most DRAWN_POINTS points: each stretch's lowest and highest, so that spikes survive."""
    if len(x) <= DRAWN_POINTS:
        return x, y
    keep: set[int] = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), DRAWN_POINTS // 2 - 1):
        finite = part[np.isfinite(y[part])]
        if finite.size:
            keep |= {int(finite[y[finite].argmin()]), int(finite[y[finite].argmax()])}
    index = sorted(keep)
    return x[index], y[index]


def _stage_rules(stages: Sequence[tuple[int, str]], px, x_max: float) -> list[str]:
    parts = []
    # The first record of a stage is logged one interval into it; the first stage starts at 0.
    starts = [0.0, *(float(first) for first, _ in stages[1:]), x_max]
    for index, (_, name) in enumerate(stages):
        left, right = px(starts[index]), px(starts[index + 1])
        if index:
            parts.append(f'<path class="rule" d="M{left:.1f} {TOP - 10}V{HEIGHT - BOTTOM}"/>')
        if right - left > 5.4 * len(name) + 6:
            parts.append(_text(left + 4, TOP - 4, name, "start"))
    return parts


def _y_tick(y: float, label: str) -> str:
    return f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>' + _text(
        LEFT - 5, y + 3.5, label, "end"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text class="axis" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
