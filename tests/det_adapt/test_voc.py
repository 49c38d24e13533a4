"""VOC's average precision by hand, by plain loops, by pycocotools and by Detectron2."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scenes import CLASSES, annotation, dataset, detections, evaluated, random_scenes, record

from det_adapt.evaluation.coco import COCOEvaluation
from det_adapt.evaluation.voc import VOCEvaluation, average_precision, match, pairwise_iou
from shared.data.records import DetectionRecord
from shared.errors import UserError


def by_loops(data, found, category, iou, metric):
    """The devkit's loops, on its own boxes: pixels count from 1, both ends are included."""
    index = data.classes.index(category)
    rows, positives, claimed = [], 0, set()
    for i, frame in enumerate(data.records):
        positives += sum(
            a.category == category and not a.difficult and not a.crowd for a in frame.annotations
        )
        of_frame = found[frame.name]
        for box, score, c in zip(of_frame.boxes, of_frame.scores, of_frame.classes, strict=True):
            if c == index:
                rows.append((-score.item(), i, [float(v) for v in box]))
    rows.sort(key=lambda row: row[:2])
    if positives == 0:
        return None
    true, false, points = 0, 0, []
    for _, i, (x1, y1, x2, y2) in rows:
        best, nearest = -1.0, None
        for j, truth in enumerate(data.records[i].annotations):
            if truth.category != category:
                continue
            gx1, gy1, gx2, gy2 = truth.box
            width = min(x2, gx2) - max(x1 + 1, gx1 + 1) + 1
            height = min(y2, gy2) - max(y1 + 1, gy1 + 1) + 1
            overlap = 0.0
            if width > 0 and height > 0:
                area = (x2 - (x1 + 1) + 1) * (y2 - (y1 + 1) + 1)
                true_area = (gx2 - (gx1 + 1) + 1) * (gy2 - (gy1 + 1) + 1)
                overlap = width * height / (area + true_area - width * height)
            if overlap > best:
                best, nearest = overlap, j
        if nearest is not None and best >= iou:
            truth = data.records[i].annotations[nearest]
            if truth.difficult or truth.crowd:
                continue
            if (i, nearest) not in claimed:
                claimed.add((i, nearest))
                true += 1
            else:
                false += 1
        else:
            false += 1
        points.append((true / positives, true / (true + false)))
    if metric == "11-point":
        levels = [t / 10 for t in range(11)]
        return sum(max((p for r, p in points if r >= t), default=0) for t in levels) / 11
    total, before = 0.0, 0.0
    for k, (recall, _) in enumerate(points):
        total += (recall - before) * max(p for _, p in points[k:])
        before = recall
    return total


def test_by_hand():
    data = dataset(
        record("a", annotation(box=(0, 0, 10, 10)), annotation(box=(20, 0, 30, 10))),
        record("b", annotation(box=(0, 0, 10, 10)), annotation("person", (50, 50, 60, 70))),
        record("c"),
    )
    # By score: true, false (nothing there), false (claimed before), true, and one car never found.
    found = {
        "a": detections(
            (0, 0.9, (0, 0, 10, 10)), (0, 0.7, (0, 0, 10, 9)), (0, 0.6, (21, 0, 31, 10))
        ),
        "b": detections((2, 0.5, (0, 0, 10, 10))),
        "c": detections((0, 0.8, (0, 0, 10, 10))),
    }
    scores = evaluated(VOCEvaluation(data), found).scores()
    # Recall 1/3, 1/3, 1/3, 2/3; precision 1, 1/2, 1/3, 2/4.
    car = 1 / 3 * 1 + 1 / 3 * 0.5
    assert scores["ap50"] == {"car": pytest.approx(car), "person": 0.0, "bus": None}
    assert scores["map50"] == pytest.approx(car / 2)
    eleven = evaluated(VOCEvaluation(data, metric="11-point"), found).scores()
    # 0, 0.1, 0.2, 0.3 at precision 1; 0.4, 0.5, 0.6 at 1/2.
    assert eleven["ap50"]["car"] == pytest.approx((4 * 1 + 3 * 0.5) / 11)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


@pytest.mark.parametrize("metric", ["area", "11-point"])
@pytest.mark.parametrize("iou", [0.5, 0.75])
@pytest.mark.parametrize("digits", [1, None])
def test_equals_plain_loops(metric, iou, digits):
    some = 0
    for seed in range(6):
        data, found = random_scenes(seed, ignored=0.15, digits=digits)
        scores = evaluated(VOCEvaluation(data, iou, metric), found).scores()
        for name, score in scores[f"ap{100 * iou:g}"].items():
            expected = by_loops(data, found, name, iou, metric)
            assert score == (expected if expected is None else pytest.approx(expected, abs=1e-12))
            some += expected is not None and 0.05 < expected < 0.95
    assert some >= 9


def test_boxes_are_the_devkit_s_without_its_plus_one():
    # A + 1 on these boxes would make 0.57 of an overlap of 0.46.
    data = dataset(record("a", annotation(box=(0, 0, 4, 4))))
    found = {"a": detections((0, 0.9, (0, 0, 3.9, 1.9)))}
    assert evaluated(VOCEvaluation(data), found).scores()["ap50"]["car"] == 0.0
    # Exactly one half is enough, as in the devkit.
    found = {"a": detections((0, 0.9, (0, 0, 4, 2)))}
    assert evaluated(VOCEvaluation(data), found).scores()["ap50"]["car"] == 1.0
    assert evaluated(VOCEvaluation(data, 0.51), found).scores()["ap51"]["car"] == 0.0


def test_iou_of_empty_and_touching_boxes_is_zero():
    boxes = np.array([[0, 0, 2, 2], [2, 0, 4, 2], [1, 1, 1, 1], [3, 3, 1, 1]], float)
    ious = pairwise_iou(boxes, boxes)
    assert np.array_equal(ious, np.diag([1.0, 1.0, 0.0, 0.0]))
    assert pairwise_iou(boxes[:0], boxes).shape == (0, 4)


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_what_is_ignored_counts_neither_way(flag):
    ignored = annotation(box=(50, 50, 80, 80), **{flag: True})
    data = dataset(record("a", annotation(box=(0, 0, 10, 10)), ignored))
    twice = [(0, 0.9, (50, 50, 80, 80)), (0, 0.8, (51, 50, 80, 80))]
    found = {"a": detections(*twice, (0, 0.7, (0, 0, 10, 10)))}
    assert evaluated(VOCEvaluation(data), found).scores()["ap50"]["car"] == 1.0
    only = dataset(record("a", ignored))
    assert evaluated(VOCEvaluation(only), found).scores()["ap50"]["car"] is None


@pytest.mark.parametrize(("ignore_crowds", "min_size"), [(False, 0), (True, 24), (False, 24)])
def test_a_truth_without_groups_and_small_boxes_equals_plain_loops(ignore_crowds, min_size):
    def kept(a):
        x1, y1, x2, y2 = a.box
        return (ignore_crowds or not a.crowd) and x2 - x1 >= min_size and y2 - y1 >= min_size

    changed = 0
    for seed in range(4):
        data, found = random_scenes(seed, ignored=0.3)
        options = {"ignore_crowds": ignore_crowds, "min_size": min_size}
        scores = evaluated(VOCEvaluation(data, **options), found).scores()["ap50"]
        fewer = dataset(*(record(r.name, *filter(kept, r.annotations)) for r in data.records))
        for name, score in scores.items():
            expected = by_loops(fewer, found, name, 0.5, "area")
            assert score == (expected if expected is None else pytest.approx(expected, abs=1e-12))
            changed += score != evaluated(VOCEvaluation(data), found).scores()["ap50"][name]
    assert changed > 6


def test_a_claim_goes_to_the_highest_score_whatever_the_order():
    data = dataset(record("a", annotation(box=(0, 0, 10, 10))))
    things = [(0, 0.2, (0, 0, 10, 9)), (0, 0.9, (0, 0, 10, 8))]
    evaluation = evaluated(VOCEvaluation(data), {"a": detections(*things)})
    assert [column.tolist() for column in evaluation.curve(0)] == [[1.0, 0.5], [1.0, 1.0]]


def test_ties_do_not_depend_on_the_order_of_frames():
    data = dataset(record("a", annotation()), record("b"), record("c", annotation()))
    box = (0, 0, 10, 10)
    found = {name: detections((0, 0.5, box)) for name in "abc"}
    orders = [{n: found[n] for n in names} for names in ("abc", "cba", "bca")]
    scores = [evaluated(VOCEvaluation(data), order).scores() for order in orders]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0]["ap50"]["car"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_recall_of_exactly_three_tenths_reaches_the_point_at_three_tenths():
    recall = np.arange(1, 4) / 10
    assert average_precision(np.ones(3), recall, "11-point") == pytest.approx(4 / 11)
    assert average_precision(np.ones(3), recall, "area") == pytest.approx(0.3)


def test_a_match_is_the_most_overlapped_box_even_where_that_one_is_taken():
    overlaps = np.array([[0.9, 0.6], [0.8, 0.7], [0.5, 0.6], [0.4, 0.3]])
    assert match(overlaps, np.array([False, False]), 0.5).tolist() == [1, 0, 1, 0]
    assert match(overlaps, np.array([True, False]), 0.5).tolist() == [2, 2, 1, 0]
    assert match(np.zeros((2, 0)), np.zeros(0, bool), 0.5).tolist() == [0, 0]


def test_precision_and_recall_are_pycocotools():
    """Where no detection reaches two true boxes; COCO then only reads the curve at 101 recalls."""
    for seed in range(4):
        data, found = random_scenes(seed, frames=20, apart=True)
        voc, coco = evaluated(VOCEvaluation(data), found), evaluated(COCOEvaluation(data), found)
        expected = coco.scores()["box"]["ap50"]
        for index, name in enumerate(CLASSES):
            precision, recall = voc.curve(index)
            levels = np.linspace(0, 1, 101)
            points = [precision[recall >= t].max(initial=0.0) for t in levels]
            assert np.mean(points) == pytest.approx(expected[name], abs=1e-9)
            assert 0.2 < expected[name] < 0.9


def test_nothing_found_and_nothing_to_find():
    data = dataset(record("a", annotation()), record("b"))
    nothing = {"a": detections(), "b": detections()}
    for metric in ("area", "11-point"):
        scores = evaluated(VOCEvaluation(data, metric=metric), nothing).scores()
        assert scores["ap50"] == {"car": 0.0, "person": None, "bus": None}
        assert scores["map50"] == 0.0
    empty = dataset(record("a"))
    found = {"a": detections((0, 0.9, (0, 0, 1, 1)))}
    assert evaluated(VOCEvaluation(empty), found).scores()["map50"] is None
    assert VOCEvaluation(dataset()).scores()["map50"] is None


def test_frames_of_two_processes_together():
    data, found = random_scenes(0)
    names = list(found)
    first = evaluated(VOCEvaluation(data), {n: found[n] for n in names[::2]})
    second = evaluated(VOCEvaluation(data), {n: found[n] for n in names[1::2]})
    with pytest.raises(UserError, match=r"6 of the 12 frames .* \(first: frame 01\)"):
        first.scores()
    first.merge(second)
    assert first.frames == 12
    assert first.scores() == evaluated(VOCEvaluation(data), found).scores()
    with pytest.raises(UserError, match="'frame 01' was evaluated twice"):
        first.merge(second)


def test_wrong_input_is_one_line():
    data = dataset(record("a", annotation()))
    evaluation = VOCEvaluation(data)
    with pytest.raises(UserError, match="'z' is not in data set"):
        evaluation.update("z", detections())
    with pytest.raises(UserError, match=r"class 3, expected 0 to 2 \(car, person, bus\)"):
        evaluation.update("a", detections((3, 0.5, (0, 0, 1, 1))))
    with pytest.raises(UserError, match="no finite number"):
        evaluation.update("a", detections((0, float("nan"), (0, 0, 1, 1))))
    masks = torch.zeros(1, 60, 80, dtype=torch.bool)
    with pytest.raises(UserError, match=r"\(1, 60, 80\), expected \(1, 120, 160\)"):
        evaluation.update("a", detections((0, 0.5, (0, 0, 1, 1)), masks=masks))
    evaluation.update("a", detections())
    with pytest.raises(UserError, match="evaluated before"):
        evaluation.update("a", detections())
    with pytest.raises(UserError, match="AP metric 'areas', expected one of: area, 11-point"):
        VOCEvaluation(data, metric="areas")
    with pytest.raises(UserError, match="overlap of 50"):
        VOCEvaluation(data, 50)
    with pytest.raises(UserError, match="without annotations"):
        VOCEvaluation(dataset(DetectionRecord("a", None, 4, 4, None)))


def write_voc(folder, data, found):
    """The data set and the detections as VOC's files."""
    (folder / "ids.txt").write_text("".join(r.name.replace(" ", "_") + "\n" for r in data.records))
    results = {name: [] for name in data.classes}
    for frame in data.records:
        name = frame.name.replace(" ", "_")
        root = ElementTree.Element("annotation")
        for truth in frame.annotations:
            x1, y1, x2, y2 = map(int, truth.box)
            entry = ElementTree.SubElement(root, "object")
            parts = {"name": truth.category, "pose": "", "truncated": 0}
            parts["difficult"] = int(truth.difficult or truth.crowd)
            for tag, value in parts.items():
                ElementTree.SubElement(entry, tag).text = str(value)
            box = ElementTree.SubElement(entry, "bndbox")
            edges = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
            for tag, value in edges.items():
                ElementTree.SubElement(box, tag).text = str(value)
        (folder / f"{name}.xml").write_bytes(ElementTree.tostring(root))
        of_frame = found[frame.name]
        for box, score, index in zip(
            of_frame.boxes.double().tolist(),
            of_frame.scores.tolist(),
            of_frame.classes.tolist(),
            strict=True,
        ):
            x1, y1, x2, y2 = box
            line = f"{name} {score!r} {x1 + 1!r} {y1 + 1!r} {x2!r} {y2!r}"
            results[data.classes[index]].append(line)
    for name, lines in results.items():
        (folder / f"{name}.txt").write_text("\n".join(lines))


@pytest.mark.detectron2
@pytest.mark.parametrize("metric", ["area", "11-point"])
def test_equals_detectron2(metric, tmp_path):
    from detectron2.evaluation.pascal_voc_evaluation import voc_eval

    data, found = random_scenes(3, frames=30, ignored=0.1)
    write_voc(tmp_path, data, found)
    scores = evaluated(VOCEvaluation(data, metric=metric), found).scores()["ap50"]
    for name in data.classes:
        _, _, expected = voc_eval(
            str(tmp_path / "{}.txt"),
            str(tmp_path / "{}.xml"),
            str(tmp_path / "ids.txt"),
            name,
            0.5,
            metric == "11-point",
        )
        assert 0.1 < expected < 0.9
        assert scores[name] == pytest.approx(expected, abs=1e-12)
