import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from shared.data.images import write_png
from shared.errors import MissingFileError
from shared.report import write_report
from shared.report.curves import Line, line_chart, moving_mean
from shared.report.records import read_run

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that every tag is closed in order; keeps what the page would load and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.words, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [v for k, v in attributes if k in ("src", "href", "data", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def train(iteration, **values):
    return {"kind": "train", "iteration": iteration, "stage": "train", **values}


def evaluation(iteration, iou, **values):
    known = [v for v in iou.values() if v is not None]
    record = {"kind": "eval", "iteration": iteration, "dataset": "val", "iou": iou, "images": 5}
    return record | {"miou": sum(known) / len(known), "protocols": {}, "official": None} | values


def run_folder(tmp_path, name, records=(), *, method="road", tail="", environment=None):
    folder = tmp_path / name
    folder.mkdir()
    config = f"METHOD: {method}\nDATASETS:\n  TRAIN: toy_gta5\n  TARGET: toy_cityscapes_train\n"
    (folder / "config.yaml").write_text(config)
    (folder / "environment.json").write_text(json.dumps(environment or {"seed": 3}))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines + tail)
    return folder


def report(folder, **options):
    path = write_report(folder, **options)
    assert path == folder / "report.html"
    text = path.read_text()
    page = Page(text)
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert "url(" not in text and "@import" not in text
    return page, text


def test_the_last_checkpoint_is_compared_with_the_baselines(tmp_path):
    classes = {"road": 80.0, "train": None, "car": 40.0}
    official = {"miou": 61.7, "iou": classes}
    folder = run_folder(
        tmp_path,
        "road",
        [
            train(20, **{"loss/seg": 1.0, "seconds_per_iteration": 0.5}),
            evaluation(20, {"road": 99.0, "train": None, "car": 99.0}),
            train(40, **{"loss/seg": 0.5, "seconds_per_iteration": 1.0, "peak_memory_mb": 2048}),
            evaluation(40, classes, official=official, protocols={"13": 33.3}),
        ],
    )
    other = run_folder(
        tmp_path,
        "plain",
        [evaluation(40, {"road": 70.5, "train": None, "car": 41.0})],
        method="source_only",
    )
    page, text = report(folder, baseline=other)
    assert "toy_gta5 → toy_cityscapes_train" in page.text
    assert "mIoU on the target 60.0 % last checkpoint, iteration 40" in page.text
    assert "mIoU, source only 55.8 %" in page.text
    assert "Change +4.2 points against source only" in page.text
    assert "mIoU, official 61.7 %" in page.text
    assert "road 70.5 80.0 +9.5 80.0 train – – – – car 41.0 40.0 −1.0 40.0" in page.text
    assert "mean of 2 55.8 60.0 +4.2 61.7 mean, protocol 13 – 33.3 – –" in page.text
    assert "99.0 %" not in page.text, "an earlier checkpoint is no headline"
    # 20 iterations at half a second and 20 at a second.
    assert "Training time 30 s" in page.text
    assert "Peak memory 2.00 GiB" in page.text
    assert "left:40.00%;width:1.00%" in text


def test_every_logged_key_gets_its_curve(tmp_path):
    keys = ["loss/seg", "loss/never heard of", "accuracy/domain", "lr/model", "regions/occupied"]
    records = [train(i, **dict.fromkeys(keys, 0.1 * i)) for i in range(1, 5)]
    page, _ = report(run_folder(tmp_path, "run", records))
    assert page.tags.count("svg") == len(keys)
    assert all(key in page.text for key in keys)
    assert "chance" in page.text
    assert "no evaluation yet" in page.text


def test_every_text_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>&\"'"
    folder = run_folder(
        tmp_path,
        "run",
        [
            train(1, stage=evil, **{f"loss/{evil}": 1.0}),
            train(2, stage=evil + "2", **{f"loss/{evil}": 1.0}),
            evaluation(2, {evil: 10.0}, dataset=evil, protocols={evil: 1.0}),
            evaluation(2, {evil: 10.0}, dataset=evil + "2"),
        ],
        environment=dict.fromkeys(("command", "revision", "device", "python"), evil),
    )
    (folder / "config.yaml").write_text(json.dumps({"METHOD": evil, "DATASETS": {"TRAIN": evil}}))
    page, text = report(folder, baseline=folder)
    assert "script" not in page.tags
    assert "<script" not in text


def test_an_empty_folder_is_a_page_that_says_what_is_missing(tmp_path):
    page, _ = report(tmp_path)
    for name in ("config.yaml", "environment.json", "metrics.jsonl"):
        assert f"{name} is missing" in page.text
    assert "no evaluation yet" in page.text


def test_broken_files_are_named_and_the_rest_is_shown(tmp_path):
    good = json.dumps(evaluation(5, {"road": 50.0}))
    folder = run_folder(tmp_path, "run", tail='{"kind": "tr' + f'\n{good}\n[1]\n{{"kind": "trai')
    (folder / "config.yaml").write_text("a: [1\nb")
    (folder / "environment.json").write_text("{")
    (folder / "panels").mkdir()
    (folder / "panels" / "bad.png").write_bytes(b"\x89PNG\r\n")
    (folder / "panels" / "none.png").write_bytes(b"")
    page, _ = report(folder)
    assert "50.0 %" in page.text
    for message in (
        "line 1 of metrics.jsonl is not JSON",
        "line 3 of metrics.jsonl has no iteration",
        "line 4 of metrics.jsonl is half-written",
        "config.yaml is not valid YAML",
        "environment.json is not a JSON object",
        "panels/bad.png is not a readable picture",
        "panels/none.png is not a readable picture",
    ):
        assert message in page.text


def test_one_point_constants_and_numbers_that_are_not_finite(tmp_path):
    nan, inf = math.nan, math.inf
    records = [train(1, **{"loss/once": 1.0, "loss/flat": 2.0, "loss/bad": nan, "loss/gap": 1.0})]
    records += [train(i, **{"loss/flat": 2.0, "loss/gap": inf}) for i in range(2, 4)]
    records.append(train(4, **{"loss/flat": 2.0, "loss/gap": 3.0, "loss/null": None}))
    records.append(evaluation(4, {"road": None, "car": 0.0}))
    page, _ = report(run_folder(tmp_path, "run", records))
    assert "loss/bad was not finite at iteration 1" in page.text
    assert "loss/gap was not finite at iteration 2" in page.text
    assert "loss/null was not finite at iteration 4" in page.text
    assert "never finite" in page.text
    assert "nan" not in page.text.lower() and "inf " not in page.text


def test_a_class_less_or_broken_evaluation_is_still_a_page(tmp_path):
    record = {"kind": "eval", "iteration": 3, "miou": None, "iou": None, "official": 3}
    page, _ = report(run_folder(tmp_path, "run", [record]))
    assert "mIoU on the target – %" in page.text


def test_a_resumed_run_counts_once(tmp_path):
    values = [(20, 1.0), (40, 2.0), (60, 3.0), (40, 4.0), (60, 5.0)]
    records = [train(i, **{"loss/seg": v, "seconds_per_iteration": 1.0}) for i, v in values]
    records += [evaluation(60, {"road": 10.0}), evaluation(60, {"road": 20.0})]
    run = read_run(run_folder(tmp_path, "run", records))
    assert [(r["iteration"], r["loss/seg"]) for r in run.train] == [(20, 1.0), (40, 4.0), (60, 5.0)]
    assert run.training_seconds == 60
    assert [r["miou"] for r in run.evaluations] == [20.0]


def test_what_makes_a_comparison_unfair_is_said(tmp_path):
    folder = run_folder(
        tmp_path,
        "run",
        [evaluation(20, {"road": 1.0}), train(40)],
        environment={"dirty": True, "revision": "abc"},
    )
    fewer = run_folder(tmp_path, "fewer", [evaluation(20, {"road": 1.0}, images=4)])
    elsewhere = run_folder(tmp_path, "elsewhere", [evaluation(20, {"road": 1.0}, dataset="other")])
    page, _ = report(folder, baseline=fewer)
    assert "evaluated on 5 images, the baseline on 4" in page.text
    assert "training reached iteration 40, the last evaluation is of 20" in page.text
    assert "uncommitted changes" in page.text
    page, _ = report(folder, baseline=elsewhere)
    assert "the baseline has no evaluation on val" in page.text
    assert "Change" not in page.text


def test_panels_are_embedded_at_most_twelve_and_small(tmp_path):
    folder = run_folder(tmp_path, "run")
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    write_png(folder / "panels" / "13.png", noise)
    for i in range(13):
        write_png(folder / "panels" / f"{i:02d}.png", np.full((4, 4, 3), i, np.uint8))
    page, text = report(folder)
    images = [source for source in page.sources if source.startswith("data:image/")]
    assert len(images) == 12
    assert "The last 12 of 14" in page.text
    assert images[-1].startswith("data:image/jpeg")
    assert (folder / "panels" / "13.png").stat().st_size > 1_000_000
    assert len(text) < 500_000


def test_a_missing_run_is_a_users_error(tmp_path):
    with pytest.raises(MissingFileError, match="no run folder at"):
        write_report(tmp_path / "nothing")
    with pytest.raises(MissingFileError, match="no run folder at"):
        write_report(tmp_path, baseline=tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_moving_mean_keeps_constants_and_skips_what_is_not_finite():
    assert moving_mean(np.full(20, 3.0), 5) == pytest.approx(3.0)
    assert moving_mean(np.array([1.0, math.nan, 3.0, 5.0]), 3) == pytest.approx([1, 2, 4, 4])


def texts_of(chart, anchor):
    svg = ElementTree.fromstring(chart)
    texts = (e for e in svg.iter() if e.tag.endswith("}text"))
    return ["".join(e.itertext()) for e in texts if f"text-anchor: {anchor}" in e.get("style")]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1000, ["0", "500", "1000"]),
        (0.07, 0.1, ["0.07", "0.08", "0.09", "0.10"]),
        (0, 2.5e-4, ["0", "1", "2", "3"]),
        (-3, 3, ["−4", "−2", "0", "2", "4"]),
    ],
)
def test_ticks_enclose_the_data_and_read_well(low, high, ticks):
    chart = line_chart([Line([0, 90_000], [low, high])], title="loss", y_label="loss")
    assert texts_of(chart, "end") == ticks
    assert texts_of(chart, "middle")[:3] == ["0", "20k", "40k"]
    assert ("1e−4" in chart) == (high < 1e-2)


@pytest.mark.parametrize("value", [0.0, 5.0, 1e-5])
def test_a_constant_has_an_axis(value):
    chart = line_chart([Line([1, 2], [value] * 2)], title="loss", y_label="loss")
    assert len(set(texts_of(chart, "end"))) >= 2


def test_a_long_curve_is_thinned_and_keeps_its_spike():
    y = np.zeros(50_000)
    y[31_415] = 7.0
    chart = line_chart([Line(np.arange(50_000), y)], title="loss", y_label="loss")
    assert len(chart) < 20_000
    paths = re.findall(r'd="([^"]*)"', chart)
    curve = max(paths, key=len)
    heights = [float(point.split()[-1]) for point in re.split("[ML]", curve)[1:]]
    # The axis ends at 8.
    assert max(heights) - min(heights) == pytest.approx(7 / 8 * 0.71 * 2.92 * 72, abs=0.1)
    noise = np.random.default_rng(0).normal(size=50_000)
    assert len(line_chart([Line(np.arange(50_000), noise)], title="a", y_label="a")) < 60_000


def test_charts_are_the_same_each_time_follow_the_theme_and_name_their_dots():
    line = Line([10, 20], [1.5, math.nan], label="<road> score")
    first, second = (
        line_chart([line], title="a", y_label="a", stages=[(1, "source"), (12, "train")])
        for _ in range(2)
    )
    assert first == second
    assert "&lt;road&gt; score: 1.5 at iteration 10</title>" in first
    assert "at iteration 20" not in first
    assert ">source<" in first and ">train<" in first
    assert "var(--this)" in first and not re.search(r"#[0-9a-f]{6}\b", first.split("</style>")[1])
