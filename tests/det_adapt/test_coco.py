"""Box and mask AP: pycocotools from memory against pycocotools from files, and by hand."""

import json
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scenes import (
    annotation,
    dataset,
    detections,
    distorted,
    draw_cityscapes,
    evaluated,
    masked,
    perfect,
    random_scenes,
    record,
    true_masks,
)

from det_adapt.evaluation.coco import COCOEvaluation, encode
from shared.data.catalog import load_detection
from shared.errors import UserError


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_cityscapes(tmp_path_factory.mktemp("coco"), seed=1)


def runs_of(mask):
    """Uncompressed: lengths of runs, column after column, beginning with zeros."""
    flat = mask.ravel(order="F").astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, flat.size]).tolist()
    return {"counts": runs if flat[0] == 0 else [0, *runs], "size": list(mask.shape)}


def from_files(folder, data, found, how):
    """What pycocotools' own example does: ground truth and results as JSON, then summarize."""
    images, truths, results = [], [], []
    for i, frame in enumerate(data.records, start=1):
        images.append({"id": i, "height": frame.height, "width": frame.width})
        masks = [m for _, m in true_masks(frame)] if frame.instances else None
        for j, a in enumerate(frame.annotations):
            x1, y1, x2, y2 = a.box
            truth = {"id": len(truths) + 1, "image_id": i, "iscrowd": int(a.crowd or a.difficult)}
            truth |= {"category_id": data.classes.index(a.category) + 1}
            truth |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            if masks:
                truth["segmentation"] = runs_of(masks[j])
            truths.append(truth)
        of_frame = found[frame.name]
        for j in range(len(of_frame)):
            x1, y1, x2, y2 = of_frame.boxes[j].tolist()
            result = {"image_id": i, "category_id": of_frame.classes[j].item() + 1}
            result |= {"score": of_frame.scores[j].item()}
            if how == "segm":
                mask = np.asfortranarray(of_frame.masks[j].numpy().astype(np.uint8))
                code = rle.encode(mask)
                result["segmentation"] = {**code, "counts": code["counts"].decode()}
            else:
                result["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            results.append(result)
    categories = [{"id": i, "name": n} for i, n in enumerate(data.classes, start=1)]
    content = {"images": images, "categories": categories, "annotations": truths}
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    with redirect_stdout(StringIO()):
        truth = COCO(str(folder / "truth.json"))
        run = COCOeval(truth, truth.loadRes(str(folder / "results.json")), how)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


@pytest.mark.parametrize(("kind", "how"), [("box", "bbox"), ("mask", "segm")])
def test_equals_pycocotools_from_files(drawn, kind, how, tmp_path):
    assert any(a.crowd for frame in drawn.records for a in frame.annotations)
    found = distorted(drawn, seed=2)
    scores = evaluated(COCOEvaluation(drawn, masks=True), found).scores()[kind]
    run = from_files(tmp_path, drawn, found, how)
    expected = dict(zip(("map", "map50", "map75"), run.stats[:3], strict=True))
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert 0.1 < scores["map"] < scores["map50"] < 0.9
    for k, name in enumerate(drawn.classes):
        precision = run.eval["precision"][:, :, k, 0, 2]
        assert scores["ap"][name] == pytest.approx(precision.mean(), abs=1e-12)
        assert scores["ap50"][name] == pytest.approx(precision[0].mean(), abs=1e-12)


def test_boxes_without_masks_equal_pycocotools_from_files(tmp_path):
    data, found = random_scenes(1, ignored=0.2, digits=1)
    scores = evaluated(COCOEvaluation(data), found).scores()
    assert set(scores) == {"box"}
    run = from_files(tmp_path, data, found, "bbox")
    expected = run.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))
    assert list(scores["box"]["ap"].values()) == pytest.approx(expected.tolist(), abs=1e-12)


def test_perfect_predictions(drawn):
    scores = evaluated(COCOEvaluation(drawn, masks=True), perfect(drawn)).scores()
    present = {a.category for f in drawn.records for a in f.annotations if not a.crowd}
    for kind in ("box", "mask"):
        for name, score in scores[kind]["ap"].items():
            assert score == (pytest.approx(1.0) if name in present else None)
        assert scores[kind]["map75"] == pytest.approx(1.0)


def test_a_mask_is_scored_by_its_pixels_and_a_box_by_its_edges(drawn):
    frame = max(drawn.records, key=lambda r: len(r.annotations))
    found = perfect(drawn)
    half = found[frame.name]
    # The left half of each thing's columns; the boxes stay.
    for box, mask in zip(half.boxes.int().tolist(), half.masks, strict=True):
        mask[:, (box[0] + box[2]) // 2 :] = False
    scores = evaluated(COCOEvaluation(drawn, masks=True), found).scores()
    assert scores["box"]["map"] == pytest.approx(1.0)
    assert scores["mask"]["map"] < 0.95


def test_by_hand():
    data = dataset(record("a", annotation(box=(0, 0, 10, 10))), record("b"))
    # Overlap 0.8: found at 0.5, 0.55, …, 0.8, seven of the ten.
    found = {"a": detections((0, 0.9, (0, 0, 10, 8))), "b": detections()}
    scores = evaluated(COCOEvaluation(data), found).scores()["box"]
    assert scores["ap"] == {"car": pytest.approx(0.7), "person": None, "bus": None}
    for score in (scores["ap50"]["car"], scores["map50"], scores["map75"]):
        assert score == pytest.approx(1.0)
    assert scores["map"] == pytest.approx(0.7)
    json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_what_is_ignored_counts_neither_way(flag):
    ignored = annotation(box=(50, 50, 80, 80), **{flag: True})
    data = dataset(record("a", annotation(box=(0, 0, 10, 10)), ignored))
    inside = [(0, 0.9, (50, 50, 80, 80)), (0, 0.8, (60, 60, 70, 70))]
    found = {"a": detections(*inside, (0, 0.7, (0, 0, 10, 10)))}
    scores = evaluated(COCOEvaluation(data), found).scores()["box"]
    assert scores["map"] == pytest.approx(1.0)


def test_the_hundred_best_of_a_class_count():
    data = dataset(record("a", annotation(box=(0, 0, 10, 10))))
    scores = []
    for others in (99, 100):
        things = [(0, 0.9, (50, 50, 60, 60))] * others + [(0, 0.8, (0, 0, 10, 10))]
        found = {"a": detections(*things)}
        scores.append(evaluated(COCOEvaluation(data), found).scores()["box"]["map"])
    assert scores == [pytest.approx(1 / 100), 0.0]


def test_nothing_found_and_nothing_to_find():
    data = dataset(record("a", annotation()), record("b"))
    nothing = {"a": detections(), "b": detections()}
    scores = evaluated(COCOEvaluation(data), nothing).scores()["box"]
    assert scores["ap50"] == {"car": 0.0, "person": None, "bus": None}
    empty = evaluated(
        COCOEvaluation(dataset(record("a"))), {"a": detections((0, 0.9, (0, 0, 1, 1)))}
    )
    assert empty.scores()["box"]["map"] is None
    assert COCOEvaluation(dataset()).scores()["box"]["map50"] is None


def test_says_nothing_and_may_be_asked_twice(drawn, capfd):
    evaluation = evaluated(COCOEvaluation(drawn, masks=True), distorted(drawn, seed=4))
    assert evaluation.scores() == evaluation.scores()
    assert capfd.readouterr() == ("", "")


def test_frames_are_scored_in_the_data_set_s_order(drawn):
    found = distorted(drawn, seed=5)
    backwards = dict(reversed(found.items()))
    scores = [evaluated(COCOEvaluation(drawn, masks=True), f).scores() for f in (found, backwards)]
    assert scores[0] == scores[1]


def test_encode_takes_any_memory_order():
    mask = np.random.default_rng(0).random((7, 5)) < 0.5
    for same in (mask, np.asfortranarray(mask), np.repeat(mask, 2, 1)[:, ::2]):
        code = rle.frPyObjects(runs_of(mask), *mask.shape)
        assert encode(same) == code


def test_wrong_input_is_one_line(drawn, tmp_path):
    frame = drawn.records[0]
    with pytest.raises(UserError, match=r"have no masks; set MODEL\.MASK_ON"):
        COCOEvaluation(drawn, masks=True).update(frame.name, detections())
    with pytest.raises(UserError, match="has boxes only, expected instance PNGs"):
        COCOEvaluation(dataset(record("a")), masks=True)
    frame.instances.rename(tmp_path / "kept")
    nothing = masked(size=(frame.height, frame.width))
    with pytest.raises(UserError, match="no file"):
        COCOEvaluation(drawn, masks=True).update(frame.name, nothing)
    (tmp_path / "kept").rename(frame.instances)
    unlabeled = load_detection("cityscapes_det_val", frame.image.parents[4])
    with pytest.raises(UserError, match="without annotations"):
        COCOEvaluation(unlabeled)
