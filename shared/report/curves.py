"""Training curves: one small chart for every number that the run logged."""

import math
from html import escape

from shared.report.records import Record, Run, mean_score, measure_of
from shared.report.results import Comparison
from shared.report.svg import FEWEST_TO_SMOOTH, Series, line_chart

SPEED = "seconds_per_iteration"
FIRST_GROUPS = ("loss", "accuracy", "lr")
UNITS = {"lr": "learning rate", SPEED: "seconds"}


def curves(comparison: Comparison) -> str:
    """Target mIoU or AP50, then the training records' numbers by the part before the slash."""
    run = comparison.run
    charts = [_quality(comparison)] if comparison.this is not None else []
    charts += [_training_chart(run, key) for key in _keys(run.train)]
    if not charts:
        return ""
    smoothed = len(run.train) >= FEWEST_TO_SMOOTH
    note = '<p class="muted">Thin: as logged. Thick: moving mean.</p>' if smoothed else ""
    return f'<section><h2>Training</h2>{note}<div class="charts">{"".join(charts)}</div></section>'


def _keys(records: list[Record]) -> list[str]:
    """Keys of curves: losses, accuracies and rates first, then by appearance, the speed last."""
    keys = dict.fromkeys(key for record in records for key in record if _is_curve(record, key))
    groups: dict[str, list[str]] = {name: [] for name in FIRST_GROUPS}
    for key in keys:
        groups.setdefault(_group(key), []).append(key)
    groups[SPEED] = groups.pop(SPEED, [])
    return [key for members in groups.values() for key in members]


def _group(key: str) -> str:
    return key.partition("/")[0]


def _is_curve(record: Record, key: str) -> bool:
    """Whether `key` names a number; a logged null is a number that was not finite."""
    value = record[key]
    numeric = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return numeric and ("/" in key or key == SPEED)


def _training_chart(run: Run, key: str) -> str:
    records = [record for record in run.train if key in record and _is_curve(record, key)]
    x = [record["iteration"] for record in records]
    y = [math.nan if record[key] is None else float(record[key]) for record in records]
    finite = [value for value in y if math.isfinite(value)]
    group, y_range, reference = _group(key), None, None
    if group == "accuracy" and "domain" in key and finite:
        # A domain classifier at chance can no longer tell the domains apart.
        whole = 100.0 if max(finite) > 1 else 1.0
        y_range, reference = (0.0, whole), (whole / 2, "chance")
    elif group in ("lr", SPEED):
        y_range = (0.0, max(finite, default=0.0))
    chart = line_chart(
        [Series(key, x, y, smooth=group != "lr")],
        title=f"{key} over iterations",
        y_label=UNITS.get(group, group),
        stages=run.stages(),
        reference=reference,
        y_range=y_range,
    )
    name = "seconds per iteration" if key == SPEED else key
    return _figure(name, f"last {finite[-1]:.4g}" if finite else "never finite", chart)


def _quality(comparison: Comparison) -> str:
    """Target mIoU or AP50 of every evaluation, the baseline's beside it."""
    run, baseline = comparison.run, comparison.baseline
    dataset = comparison.this.get("dataset")
    _, mean = measure_of(comparison.this)
    series, labels = [_evaluations(run, dataset, "this")], [_label(run, "this")]
    if comparison.before is not None:
        series.insert(0, _evaluations(baseline, dataset, "baseline"))
        labels.insert(0, _label(baseline, "baseline"))
    if run.selections:
        # What chose the snapshots, beside what it could not see.
        series.insert(0, _scores(run.selections, "selection score", "selection"))
        labels.append('<span class="label"><i class="selection"></i>chooses, without labels</span>')
    chart = line_chart(
        series, title=f"{mean} over iterations", y_label=f"{mean} (%)", stages=run.stages()
    )
    return _figure(f"target {mean}", "".join(labels), chart)


def _label(run: Run, style: str) -> str:
    return f'<span class="label"><i class="{style}"></i>{escape(run.method)}</span>'


def _evaluations(run: Run, dataset: str | None, style: str) -> Series:
    records = [r for r in run.evaluations if r.get("dataset") == dataset]
    return _scores(records, f"{run.method} score", style)


def _scores(records: list[Record], name: str, style: str) -> Series:
    y = [math.nan if mean_score(r) is None else mean_score(r) for r in records]
    return Series(name, [r["iteration"] for r in records], y, style, markers=True)


def _figure(name: str, note: str, chart: str) -> str:
    """Args: name: plain text. note, chart: markup."""
    return (
        f'<figure class="card chart"><figcaption><strong>{escape(name)}</strong>'
        f"<span>{note}</span></figcaption>{chart}</figure>"
    )
