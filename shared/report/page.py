"""The page: what it shows, what is missing on top, one file without external resources."""

import base64
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import cv2
import jinja2
import numpy as np

from shared.files import write_atomically
from shared.report.curves import FEWEST_TO_SMOOTH, quality_chart, training_charts
from shared.report.records import (
    Record,
    Run,
    class_scores,
    mean_score,
    number,
    protocol_scores,
    read_run,
)

REPORT = "report.html"
TEMPLATE = "report.html.j2"
ENVIRONMENT_LABELS = {
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
MOST_PICTURES = 12
LARGEST_PICTURE = 300_000  # bytes
FIRST_WIDTH = 1600


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
    this = run.last_evaluation
    dataset = (this or {}).get("dataset")
    before = baseline.last_evaluation_on(dataset) if baseline is not None and this else None
    official = (this or {}).get("official")
    official = official if isinstance(official, dict) else None
    measure = ("IoU", "mIoU")
    if "map50" in (this or {}):
        by_paper = this.get("protocol") == "paper"
        measure = ("AP50", "AP50 (paper's protocol)" if by_paper else "AP50")
    data_sets = _data_sets(this, before)
    charts = training_charts(run)
    if this is not None:
        charts.insert(0, quality_chart(run, baseline if before else None, dataset, measure[1]))
    pictures = _pictures(run)
    return _template().render(
        run=run,
        baseline=baseline,
        this=this,
        before=before,
        official=official,
        class_measure=measure[0],
        mean_measure=measure[1],
        rows=_rows(this, before, official),
        data_sets=data_sets,
        data_set_protocols=_protocol_names(record for _, record, _ in data_sets),
        pictures=pictures,
        most_pictures=MOST_PICTURES,
        charts=charts,
        smoothed=len(run.train) >= FEWEST_TO_SMOOTH,
        protocol_names=_protocol_names(run.evaluations),
        environment_labels=ENVIRONMENT_LABELS,
        difference=difference,
        # Last: reading the pictures adds some.
        warnings=_warnings(run, baseline, this, before),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "signed": signed,
        "grouped": "{:,}".format,
        "duration": duration,
        "mean_score": mean_score,
        "scored_classes": scored_classes,
        "protocols": protocol_scores,
    }
    return environment.get_template(TEMPLATE)


def _rows(
    this: Record | None, before: Record | None, official: Record | None
) -> list[tuple[str, str, float | None, float | None, float | None]]:
    """Name, CSS class and the scores of the three records: by class, then the means."""
    records = (this, before, official)
    classes, protocols = (
        [(name, *(scores.get(name) for scores in parts)) for name in parts[0]]
        for parts in (list(map(class_scores, records)), list(map(protocol_scores, records)))
    )
    mean = (f"mean of {scored_classes(this)}", "mean first", *map(mean_score, records))
    return [
        *((name, "", *scores) for name, *scores in classes),
        mean,
        *((f"mean, protocol {name}", "mean", *scores) for name, *scores in protocols),
    ]


def _data_sets(
    this: Record | None, before: Record | None
) -> list[tuple[str, Record, Record | None]]:
    """Name and both records of each data set, where several were scored."""
    mine, others = (((record or {}).get("data_sets") or {}) for record in (this, before))
    return [(name, record, others.get(name)) for name, record in mine.items()]


def _protocol_names(records: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in protocol_scores(record)))


def scored_classes(record: Record | None) -> int:
    """Number of classes that have a score."""
    return sum(score is not None for score in class_scores(record).values())


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def signed(value: float | None) -> str:
    """A difference with its sign; a dash where there is none."""
    text = "–" if value is None else f"{value:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def difference(this: float | None, before: float | None) -> float | None:
    return None if this is None or before is None else this - before


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _warnings(
    run: Run, baseline: Run | None, this: Record | None, before: Record | None
) -> list[str]:
    texts = list(run.warnings)
    if run.environment.get("dirty"):
        texts.append("the code had uncommitted changes: the revision alone does not reproduce this")
    first: dict[str, int] = {}
    for record in run.train:
        for key, value in record.items():
            if "/" in key and number(value) is None:
                first.setdefault(key, record["iteration"])
    texts += [f"{key} was not finite at iteration {at:,}" for key, at in first.items()]
    if this is not None and run.iterations is not None and this["iteration"] < run.iterations:
        texts.append(
            f"training reached iteration {run.iterations:,}, the last evaluation is of "
            f"{this['iteration']:,}"
        )
    if baseline is None:
        return texts
    texts += [f"baseline: {text}" for text in baseline.warnings]
    if this is not None and before is None and baseline.evaluations:
        texts.append(f"the baseline has no evaluation on {this.get('dataset')}")
    if before is not None and this.get("images") != before.get("images"):
        texts.append(
            f"evaluated on {this.get('images')} images, the baseline on {before.get('images')}"
        )
    return texts


def _pictures(run: Run) -> list[tuple[str, str]]:
    """Name and data URI of the last pictures; unreadable ones are left out with a warning."""
    uris = {path: _data_uri(path) for path in run.pictures[-MOST_PICTURES:]}
    run.warnings += [
        f"{path.relative_to(run.folder)} is not a readable picture and is left out"
        for path, uri in uris.items()
        if uri is None
    ]
    return [(path.stem, uri) for path, uri in uris.items() if uri is not None]


def _data_uri(path: Path) -> str | None:
    """A small file as it is, otherwise a JPEG, narrower step by step until it fits."""
    content, kind = path.read_bytes(), "png"
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        return None
    width = min(FIRST_WIDTH, image.shape[1])
    while len(content) > LARGEST_PICTURE and width >= 64:
        size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        width, kind = int(width * 0.8), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
