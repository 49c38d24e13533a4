"""The page: its parts in order, what is missing on top, one file without external resources."""

from html import escape
from pathlib import Path

from shared.files import write_atomically
from shared.report.curves import curves
from shared.report.panels import panels
from shared.report.records import Run, number, read_run
from shared.report.results import Comparison, class_table, history, tiles
from shared.report.style import CSS

REPORT = "report.html"
ENVIRONMENT_KEYS = {
    "started": "started",
    "device": "device",
    "cpu_count": "CPU cores",
    "threads": "threads",
    "seed": "seed",
    "python": "Python",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "numpy": "NumPy",
    "platform": "platform",
}


def write_report(run_dir: Path, *, baseline: Path | None = None) -> Path:
    """Writes `report.html` into a run folder and returns its path.

    The page is one self-contained file. Whatever the folder lacks is named on the page.

    Args:
        baseline: the run folder to compare with, usually the one trained on the source alone.

    Raises:
        MissingFileError: there is no such run folder, or no such baseline folder.
    """
    run = read_run(run_dir)
    page = _page(run, read_run(baseline) if baseline is not None else None)
    path = run.folder / REPORT
    write_atomically(path, page.encode())
    return path


def _page(run: Run, baseline: Run | None) -> str:
    comparison = Comparison.of(run, baseline)
    # Before the warnings, which also name the pictures that could not be read.
    body = "".join(
        [
            tiles(comparison),
            class_table(comparison),
            panels(run),
            curves(comparison),
            _reproduction(run, baseline),
        ]
    )
    domains = " → ".join(filter(None, (run.source, run.target)))
    sub = f'<p class="sub">{escape(domains)}</p>' if domains else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(' · '.join(filter(None, (run.method, domains))))}</title>\n"
        f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(run.method)}</h1>{sub}\n"
        f"{_warnings(comparison)}{body}\n</main>\n</body>\n</html>\n"
    )


def _warnings(comparison: Comparison) -> str:
    run, baseline = comparison.run, comparison.baseline
    found = list(run.warnings)
    if run.environment.get("dirty"):
        found.append("the code had uncommitted changes: the revision alone does not reproduce this")
    found += _not_finite(run)
    this, before = comparison.this, comparison.before
    if this is not None and run.iterations is not None and this["iteration"] < run.iterations:
        found.append(
            f"training reached iteration {run.iterations:,}, the last evaluation is of "
            f"{this['iteration']:,}"
        )
    if baseline is not None:
        found += [f"baseline: {text}" for text in baseline.warnings]
        if this is not None and before is None and baseline.evaluations:
            found.append(f"the baseline has no evaluation on {this.get('dataset')}")
        if before is not None and this.get("images") != before.get("images"):
            found.append(
                f"evaluated on {this.get('images')} images, the baseline on {before.get('images')}"
            )
    if not found:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in found)
    return f'<div class="card warnings"><ul>{items}</ul></div>'


def _not_finite(run: Run) -> list[str]:
    first: dict[str, int] = {}
    for record in run.train:
        for key, value in record.items():
            if "/" in key and number(value) is None:
                first.setdefault(key, record["iteration"])
    return [f"{key} was not finite at iteration {at:,}" for key, at in first.items()]


def _reproduction(run: Run, baseline: Run | None) -> str:
    environment = run.environment
    entries = []
    if environment.get("command"):
        command = environment["command"]
        command = " ".join(map(str, command)) if isinstance(command, list) else str(command)
        entries.append(("command", f"<code>{escape(command)}</code>"))
    if environment.get("revision"):
        dirty = " with uncommitted changes" if environment.get("dirty") else ""
        entries.append(("revision", f"<code>{escape(str(environment['revision']))}</code>{dirty}"))
    entries += [
        (label, escape(str(environment[key])))
        for key, label in ENVIRONMENT_KEYS.items()
        if environment.get(key) is not None
    ]
    if baseline is not None:
        revision = str(baseline.environment.get("revision") or "unknown revision")
        text = f"{escape(baseline.folder.name)}, <code>{escape(revision)}</code>"
        entries.append(("baseline", text))
    rows = "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in entries)
    card = f'<div class="card"><dl>{rows}</dl></div>' if rows else ""
    config = (
        '<details class="card"><summary>Resolved configuration</summary>'
        f"<pre>{escape(run.config_text)}</pre></details>"
        if run.config_text
        else ""
    )
    body = card + history(run) + config
    return f"<section><h2>Reproduction</h2>{body}</section>" if body else ""
