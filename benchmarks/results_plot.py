"""The plot of a suite: one line per row, a dot per seed, a bar at the mean."""

from collections.abc import Mapping
from html import escape
from statistics import mean

from suites import REFERENCE, TOP, Measure

WIDTH, ROW, LEFT, RIGHT, HEAD, FOOT = 720, 30, 130, 30, 34, 48
RULES = ((REFERENCE, "#71717a"), (TOP, "#15803d"))


def plot(results: Mapping[str, Mapping[int, Mapping]], measure: Measure) -> str:
    """An SVG; the mean of source only and that of the oracle as rules.

    Args:
        results: row → seed → result.
    """
    values = {name: [run[measure.mean] for run in runs.values()] for name, runs in results.items()}
    every = [score for scores in values.values() for score in scores]
    low, high = 5 * int(min(every) // 5), 5 * (int(max(every) // 5) + 1)
    height = HEAD + ROW * len(values) + FOOT

    def x(score: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (score - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for tick in range(low, high + 1, 5):
        parts.append(
            f'<line x1="{x(tick):.1f}" y1="{HEAD - 6}" x2="{x(tick):.1f}" y2="{height - FOOT}" '
            'stroke="#e4e4e7"/>'
            f'<text x="{x(tick):.1f}" y="{height - FOOT + 16}" text-anchor="middle" fill="#52525b">'
            f"{tick}</text>"
        )
    for name, color in RULES:
        if name in values:
            at = x(mean(values[name]))
            parts.append(
                f'<line x1="{at:.1f}" y1="{HEAD - 6}" x2="{at:.1f}" y2="{height - FOOT}" '
                f'stroke="{color}" stroke-dasharray="4 3"/>'
                f'<text x="{at:.1f}" y="{HEAD - 12}" text-anchor="middle" fill="{color}">'
                f"{escape(name)}</text>"
            )
    for number, (name, scores) in enumerate(values.items()):
        y, at = HEAD + ROW * (number + 0.5), x(mean(scores))
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end" fill="#18181b">'
            f"{escape(name)}</text>"
            f'<line x1="{at:.1f}" y1="{y - 9:.1f}" x2="{at:.1f}" y2="{y + 9:.1f}" '
            'stroke="#1d4ed8" stroke-width="3"/>'
        )
        parts += [
            f'<circle cx="{x(score):.1f}" cy="{y:.1f}" r="4" fill="#1d4ed8" fill-opacity="0.55"/>'
            for score in scores
        ]
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 10}" text-anchor="middle" '
        f'fill="#52525b">{escape(measure.title)} in percent; dot: a seed, bar: their mean</text>'
        "</svg>"
    )
    return "\n".join(parts) + "\n"
