"""The report's numbers: headline tiles, the per-class table, the history of evaluations."""

from dataclasses import dataclass
from html import escape

from shared.report.records import Record, Run, class_scores, mean_score, measure_of, number

DASH = "–"


@dataclass
class Comparison:
    """The last checkpoint's evaluation, the baseline's on the same data set, the official one."""

    run: Run
    baseline: Run | None
    this: Record | None
    before: Record | None
    official: Record | None

    @classmethod
    def of(cls, run: Run, baseline: Run | None) -> "Comparison":
        this = run.last_evaluation
        before = None
        if baseline is not None and this is not None:
            before = baseline.last_evaluation_on(this.get("dataset"))
        official = this.get("official") if this is not None else None
        return cls(run, baseline, this, before, official if isinstance(official, dict) else None)


@dataclass
class Row:
    """IoU or AP50 in percent; None where there is none. `style` is the table row's CSS class."""

    name: str
    this: float | None
    before: float | None
    official: float | None
    style: str = ""


def percent(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"


def signed(value: float | None) -> str:
    """A difference with its sign; coloured, but readable without colour."""
    if value is None:
        return DASH
    text = f"{value:+.1f}".replace("-", "−")
    if text in ("+0.0", "−0.0"):
        return "0.0"
    return f'<span class="{"gain" if value > 0 else "loss"}">{text}</span>'


def difference(this: float | None, before: float | None) -> float | None:
    return None if this is None or before is None else this - before


def duration(seconds: float) -> str:
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds % 60:02d} s" if minutes else f"{seconds} s"


def tiles(comparison: Comparison) -> str:
    """Headline numbers, all of the last checkpoint."""
    run, this, before = comparison.run, comparison.this, comparison.before
    parts = []
    _, mean = measure_of(this)
    if this is not None:
        note = f"last checkpoint, iteration {this['iteration']:,}"
        parts.append(
            _tile(f"{mean} on the target", percent(mean_score(this)), "%", note, "tile main")
        )
    if before is not None:
        name = comparison.baseline.method
        note = f"last checkpoint, iteration {before['iteration']:,}"
        parts.append(_tile(f"{mean}, {name}", percent(mean_score(before)), "%", note))
        gap = signed(difference(mean_score(this), mean_score(before)))
        parts.append(_tile("Change", gap, "points", f"against {name}"))
    if comparison.official:
        official = percent(mean_score(comparison.official))
        note = f"cityscapesScripts, {_present(comparison.official)} classes"
        parts.append(_tile(f"{mean}, official", official, "%", note))
    results, parts = _grid(parts), []
    if run.iterations is not None:
        names = [name for _, name in run.stages() if name]
        note = " → ".join(names) if len(names) > 1 else ""
        parts.append(_tile("Iterations", f"{run.iterations:,}", "", note))
    if run.training_seconds is not None:
        device = str(run.environment.get("device", ""))
        parts.append(_tile("Training time", duration(run.training_seconds), "", device))
    if run.peak_memory_mb is not None:
        parts.append(_tile("Peak memory", f"{run.peak_memory_mb / 1024:.2f}", "GiB", ""))
    return results + _grid(parts)


def class_table(comparison: Comparison) -> str:
    """Per-class scores of the last checkpoint beside the baseline's and the official script's."""
    run, this, before = comparison.run, comparison.this, comparison.before
    if this is None:
        return ""
    columns = [comparison.baseline.method] if before is not None else []
    columns.append(run.method)
    columns += ["change"] if before is not None else []
    columns += ["official"] if comparison.official else []
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    ticks = "".join(f"<span>{tick}</span>" for tick in (0, 25, 50, 75, 100))
    rows = "".join(_row(row, comparison) for row in [*_classes(comparison), *_means(comparison)])
    images = f", {int(this['images'])} images" if number(this.get("images")) else ""
    official = (
        " “official” is the same predictions through the evaluation script of cityscapesScripts."
        if comparison.official
        else ""
    )
    return (
        f"<section><h2>{measure_of(this)[0]} by class</h2>"
        f'<p class="muted">Percent on {escape(str(this.get("dataset", "the target")))}{images}, '
        f"last checkpoint. A dash: no such score, as for a class that does not occur.{official}</p>"
        f'<div class="card">{_key(comparison)}'
        f'<table class="results" style="--numbers:{len(columns)}"><thead><tr><th>class</th>{head}'
        f'<th class="chart"><span class="scale">{ticks}</span></th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def history(run: Run) -> str:
    """Every evaluation of the run, folded away."""
    records = sorted(run.evaluations + run.oracles, key=lambda record: record["iteration"])
    if len(records) < 2:
        return ""
    protocols = list(dict.fromkeys(name for record in records for name in _protocols(record)))
    head = "".join(f"<th>protocol {escape(name)}</th>" for name in protocols)
    rows = []
    for record in records:
        oracle = " (oracle)" if record.get("selection") == "oracle" else ""
        values = (_protocols(record).get(name) for name in protocols)
        rows.append(
            f"<tr><td>{record['iteration']:,}</td>"
            f"<td>{escape(str(record.get('dataset', '')))}{oracle}</td>"
            f"<td>{percent(mean_score(record))}</td>"
            + "".join(f"<td>{percent(value)}</td>" for value in values)
            + "</tr>"
        )
    note = (
        '<p class="muted">Oracle: the checkpoint was chosen with target labels, which an '
        "unsupervised method does not have; not comparable.</p>"
        if run.oracles
        else ""
    )
    return (
        f'<details class="card"><summary>All {len(records)} evaluations</summary>{note}'
        '<div class="scroll"><table><thead><tr><th>iteration</th><th>data set</th>'
        f"<th>{measure_of(records[0])[1]}</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _classes(comparison: Comparison) -> list[Row]:
    before, official = class_scores(comparison.before), class_scores(comparison.official)
    return [
        Row(name, value, before.get(name), official.get(name))
        for name, value in class_scores(comparison.this).items()
    ]


def _means(comparison: Comparison) -> list[Row]:
    this, before = comparison.this, comparison.before
    name = f"mean of {_present(this)}"
    means = mean_score(this), mean_score(before), mean_score(comparison.official)
    rows = [Row(name, *means, "mean first-mean")]
    others, official = _protocols(before), _protocols(comparison.official)
    for name, value in _protocols(this).items():
        values = value, others.get(name), official.get(name)
        rows.append(Row(f"mean, protocol {name}", *values, "mean"))
    return rows


def _present(record: Record) -> int:
    """Number of classes that have a score."""
    return sum(value is not None for value in class_scores(record).values())


def _row(row: Row, comparison: Comparison) -> str:
    cells = [percent(row.before)] if comparison.before is not None else []
    cells.append(percent(row.this))
    if comparison.before is not None:
        cells.append(signed(difference(row.this, row.before)))
    cells += [percent(row.official)] if comparison.official else []
    return (
        f'<tr class="{row.style}"><td>{escape(row.name)}</td>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + f'<td class="chart">{_track(row)}</td></tr>'
    )


def _track(row: Row) -> str:
    """Two dots on a 0–100 scale, the baseline's and this run's, joined by a bar."""
    parts = []
    if row.this is not None and row.before is not None:
        left, width = min(row.this, row.before), abs(row.this - row.before)
        down = " class=down" if row.this < row.before else ""
        parts.append(f'<b{down} style="left:{left:.2f}%;width:{width:.2f}%"></b>')
    if row.before is not None:
        parts.append(f'<i class="baseline" style="left:{row.before:.2f}%"></i>')
    if row.this is not None:
        parts.append(f'<i class="this" style="left:{row.this:.2f}%"></i>')
    return f'<span class="track">{"".join(parts)}</span>'


def _key(comparison: Comparison) -> str:
    if comparison.before is None:
        return ""
    entries = [
        ('<i class="baseline"></i>', comparison.baseline.method),
        ('<i class="this"></i>', comparison.run.method),
        ("<b></b>", "gain"),
        ('<b class="down"></b>', "loss"),
    ]
    spans = (f'<span><span class="track">{m}</span>{escape(name)}</span>' for m, name in entries)
    return f'<div class="key">{"".join(spans)}</div>'


def _protocols(record: Record | None) -> dict[str, float | None]:
    protocols = (record or {}).get("protocols")
    return {str(k): number(v) for k, v in protocols.items()} if isinstance(protocols, dict) else {}


def _grid(parts: list[str]) -> str:
    return f'<div class="tiles">{"".join(parts)}</div>' if parts else ""


def _tile(name: str, value: str, unit: str, note: str, style: str = "tile") -> str:
    unit = f' <span class="unit">{escape(unit)}</span>' if unit else ""
    return (
        f'<div class="card {style}"><div class="name">{escape(name)}</div>'
        f'<div class="value">{value}{unit}</div><div class="note">{escape(note)}</div></div>'
    )
