"""Tables and plots of docs/results.md from the JSON files of finished runs.

The page has a part for every suite, between two comments that name it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from results_plot import plot
from suites import REFERENCE, SUITES, Measure, Suite

from shared.errors import UserError
from shared.files import write_atomically

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "results.md"

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


def write_page(folder: Path, docs: Path = DOCS) -> None:
    """Brings the generated parts of the page, and the plots, up to date."""
    page = (docs / PAGE.name).read_text()
    written = 0
    for name, suite in SUITES.items():
        results = read_results(folder / name, [row.name for row in suite.rows])
        if results:
            page = _replaced(page, name, part(results, suite))
            drawing = plot(results, suite.measures[0])
            write_atomically(docs / "images" / f"adaptation_{name}.svg", drawing.encode())
            written += 1
    if not written:
        raise UserError(f"no results in {folder}: run benchmarks/adaptation.py without --write")
    write_atomically(docs / PAGE.name, page.encode())


def part(results: Results, suite: Suite) -> str:
    """A suite's tables: scores of every seed, ends of the stages, scores of every class."""
    tables = [table(results, measure) for measure in suite.measures]
    stages = any(len(run["stages"]) > 1 for runs in results.values() for run in runs.values())
    if stages:
        tables.append(stage_table(results, suite.measures[0]))
    tables += [class_table(results, measure) for measure in suite.measures]
    return "\n\n".join(tables)


def table(results: Results, measure: Measure) -> str:
    """Score of every seed, mean ± deviation, and the gain over source only seed by seed."""
    seeds = sorted({seed for row in results.values() for seed in row})
    columns = [measure.title, *(f"seed {seed}" for seed in seeds)]
    columns += ["mean ± sd", "gain", "CPU-min", "MB"]
    lines = [_line(columns), _line(["---"] * len(columns))]
    for name, runs in results.items():
        scores = {seed: run[measure.mean] for seed, run in runs.items()}
        minutes = [run["cpu_seconds"] / 60 for run in runs.values() if run["cpu_seconds"]]
        memory = max(run["peak_memory_mb"] for run in runs.values())
        costs = [f"{mean(minutes):.1f}" if minutes else "–", f"{memory:.0f}"]
        gain = _gain(results, name, measure)
        lines.append(_line([name, *_seed_cells(scores, seeds), gain, *costs]))
        for transfer in runs[min(runs)].get("transferred", {}):
            scores = {seed: run["transferred"][transfer] for seed, run in runs.items()}
            label = f"{name}, target colors matched by {transfer.replace('_', ' ')}"
            lines.append(_line([label, *_seed_cells(scores, seeds), "", "", ""]))
    return "\n".join(lines)


def stage_table(results: Results, measure: Measure) -> str:
    """Mean score at the end of every stage of the rows that have several."""
    head = f"{measure.title} at the end of each stage (mean over the seeds)"
    lines = [_line(["row", head]), _line(["---", "---"])]
    for name, runs in results.items():
        stages = list(runs[min(runs)]["stages"])
        ends = (
            f"{stage} {mean(run['stages'][stage] for run in runs.values()):.1f}" for stage in stages
        )
        lines.append(_line([name, " → ".join(ends)]))
    return "\n".join(lines)


def class_table(results: Results, measure: Measure) -> str:
    """Score of every class, mean over the seeds."""
    title = "IoU" if measure.title == "mIoU" else measure.title
    lines = [_line([title, *results]), _line(["---"] * (1 + len(results)))]
    first = next(iter(results.values()))
    for label in first[min(first)][measure.classes]:
        cells = []
        for runs in results.values():
            found = [run[measure.classes][label] for run in runs.values()]
            known = [score for score in found if score is not None]
            cells.append(f"{mean(known):.1f}" if known else "–")
        lines.append(_line([label, *cells]))
    return "\n".join(lines)


def _seed_cells(scores: dict[int, float], seeds: Sequence[int]) -> list[str]:
    values = list(scores.values())
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    cells = ("–" if seed not in scores else f"{scores[seed]:.1f}" for seed in seeds)
    return [*cells, f"{mean(values):.1f}{spread}"]


def _gain(results: Results, name: str, measure: Measure) -> str:
    if name == REFERENCE or REFERENCE not in results:
        return ""
    reference = results[REFERENCE]
    gains = [
        run[measure.mean] - reference[seed][measure.mean]
        for seed, run in results[name].items()
        if seed in reference
    ]
    if not gains:
        return ""
    return f"{mean(gains):+.1f} ({min(gains):+.1f} … {max(gains):+.1f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _replaced(page: str, name: str, body: str) -> str:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in page or end not in page:
        raise UserError(f"{PAGE} has no '{begin}' … '{end}' to write the suite's tables between")
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n\n{body}\n\n{end}{tail}"
