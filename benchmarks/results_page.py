"""Table and plot of docs/results.md from the JSON files of finished runs."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import mean, stdev

from shared.errors import UserError
from shared.files import write_atomically

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "results.md"
PLOT = DOCS / "images" / "adaptation.svg"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
REFERENCE = "source_only"
TOP = "oracle"

Results = dict[str, dict[int, dict]]


def read_results(folder: Path, rows: Sequence[str]) -> Results:
    """Row to seed to result, in the order of `rows`; rows without a result are left out."""
    found: Results = {}
    for row in rows:
        paths = sorted(folder.glob(f"{row}_seed*.json"))
        results = [json.loads(path.read_text()) for path in paths]
        if results:
            found[row] = {result["seed"]: result for result in results}
    return found


def write_page(folder: Path, rows: Sequence[str]) -> None:
    """Brings the generated part of the page, and the plot, up to date."""
    results = read_results(folder, rows)
    if not results:
        raise UserError(f"no results in {folder}: run benchmarks/adaptation.py without --write")
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    body = f"{table(results)}\n\n{stage_table(results)}\n\n{class_table(results)}"
    write_atomically(PAGE, f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}".encode())
    write_atomically(PLOT, plot(results).encode())


def table(results: Results) -> str:
    """mIoU of every seed, mean ± deviation, and the gain over source only seed by seed."""
    seeds = sorted({seed for row in results.values() for seed in row})
    columns = ["row", *(f"seed {seed}" for seed in seeds), "mean ± sd", "gain", "CPU-min", "MB"]
    lines = [_line(columns), _line(["---"] * len(columns))]
    for name, runs in results.items():
        scores = [runs[seed]["miou"] if seed in runs else None for seed in seeds]
        known = [score for score in scores if score is not None]
        spread = f" ± {stdev(known):.1f}" if len(known) > 1 else ""
        minutes = [run["cpu_seconds"] / 60 for run in runs.values() if run["cpu_seconds"]]
        memory = max(run["peak_memory_mb"] for run in runs.values())
        lines.append(
            _line(
                [
                    name,
                    *("–" if score is None else f"{score:.1f}" for score in scores),
                    f"{mean(known):.1f}{spread}",
                    _gain(results, name),
                    f"{mean(minutes):.1f}" if minutes else "–",
                    f"{memory:.0f}",
                ]
            )
        )
        for transfer in runs[min(runs)].get("transferred", {}):
            values = [run["transferred"][transfer] for run in runs.values()]
            cells = [
                "–" if s not in runs else f"{runs[s]['transferred'][transfer]:.1f}" for s in seeds
            ]
            label = f"{name}, target colours matched by {transfer.replace('_', ' ')}"
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            lines.append(_line([label, *cells, f"{mean(values):.1f}{spread}", "", "", ""]))
    return "\n".join(lines)


def stage_table(results: Results) -> str:
    """Mean mIoU at the end of every stage of the rows that have several."""
    lines = [_line(["row", "mIoU at the end of each stage (mean over the seeds)"])]
    lines.append(_line(["---", "---"]))
    for name, runs in results.items():
        stages = list(runs[min(runs)]["stages"])
        ends = (
            f"{stage} {mean(run['stages'][stage] for run in runs.values()):.1f}" for stage in stages
        )
        lines.append(_line([name, " → ".join(ends)]))
    return "\n".join(lines)


def class_table(results: Results) -> str:
    """IoU of every class, mean over the seeds."""
    lines = [_line(["IoU", *results]), _line(["---"] * (1 + len(results)))]
    first = next(iter(results.values()))
    for label in first[min(first)]["iou"]:
        cells = []
        for runs in results.values():
            values = [run["iou"][label] for run in runs.values() if run["iou"][label] is not None]
            cells.append(f"{mean(values):.1f}" if values else "–")
        lines.append(_line([label, *cells]))
    return "\n".join(lines)


def _gain(results: Results, name: str) -> str:
    if name == REFERENCE or REFERENCE not in results:
        return ""
    reference = results[REFERENCE]
    gains = [
        run["miou"] - reference[seed]["miou"]
        for seed, run in results[name].items()
        if seed in reference
    ]
    if not gains:
        return ""
    return f"{mean(gains):+.1f} ({min(gains):+.1f} … {max(gains):+.1f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


WIDTH, ROW, LEFT, RIGHT, HEAD, FOOT = 720, 30, 130, 30, 34, 48


def plot(results: Results) -> str:
    """One line per row: a dot per seed, a bar at the mean; source only and oracle as rules."""
    scores = [run["miou"] for runs in results.values() for run in runs.values()]
    low, high = 5 * int(min(scores) // 5), 5 * (int(max(scores) // 5) + 1)
    height = HEAD + ROW * len(results) + FOOT

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
    for name, color in ((REFERENCE, "#71717a"), (TOP, "#15803d")):
        if name in results:
            at = x(mean(run["miou"] for run in results[name].values()))
            parts.append(
                f'<line x1="{at:.1f}" y1="{HEAD - 6}" x2="{at:.1f}" y2="{height - FOOT}" '
                f'stroke="{color}" stroke-dasharray="4 3"/>'
                f'<text x="{at:.1f}" y="{HEAD - 12}" text-anchor="middle" fill="{color}">'
                f"{escape(name)}</text>"
            )
    for number, (name, runs) in enumerate(results.items()):
        y = HEAD + ROW * (number + 0.5)
        at = x(mean(run["miou"] for run in runs.values()))
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end" fill="#18181b">'
            f"{escape(name)}</text>"
            f'<line x1="{at:.1f}" y1="{y - 9:.1f}" x2="{at:.1f}" y2="{y + 9:.1f}" '
            'stroke="#1d4ed8" stroke-width="3"/>'
        )
        parts += [
            f'<circle cx="{x(run["miou"]):.1f}" cy="{y:.1f}" r="4" fill="#1d4ed8" '
            'fill-opacity="0.55"/>'
            for run in runs.values()
        ]
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 10}" text-anchor="middle" '
        'fill="#52525b">mIoU in percent; dot: a seed, bar: their mean</text></svg>'
    )
    return "\n".join(parts) + "\n"
