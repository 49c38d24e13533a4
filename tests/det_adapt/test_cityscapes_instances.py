"""Scores against those recorded of the official instance script, run unmodified on such files."""

import json
import shutil
from functools import partial

import cv2
import numpy as np
import pytest
from scenes import (
    dataset,
    detections,
    distorted,
    draw_cityscapes,
    evaluated,
    masked,
    perfect,
)

from det_adapt.evaluation.cityscapes import RESULT, CityscapesEvaluation, score_files
from shared.data.catalog import load_detection
from shared.data.cityscapes import CITYSCAPES_THINGS
from shared.errors import UserError


@pytest.fixture
def drawn(tmp_path):
    return draw_cityscapes(tmp_path / "data", seed=1)


def many_ellipses(root, **arguments):
    data = draw_cityscapes(root, 1, frames=8, **arguments)
    return data, distorted(data, seed=2)


def nothing_found(root):
    data = draw_cityscapes(root, 1)
    return data, {f.name: masked(size=(f.height, f.width)) for f in data.records}


def wrongly_found(root):
    data = draw_cityscapes(root, 1)
    return data, distorted(data, seed=6)


def only_void_found(root):
    data = two_cars(root, 26001, 3)
    car = CITYSCAPES_THINGS.index("car")
    return data, {data.records[0].name: masked((car, 0.9, mask_at(45)), size=(40, 80))}


CASES = {
    "all classes": many_ellipses,
    "two classes": partial(many_ellipses, size=(40, 60), classes=(24, 26)),
    "nothing found": nothing_found,
    "wrongly found": wrongly_found,
    "only void found": only_void_found,
}


def as_text(result):
    """NaN is no number that equals itself, but its text does."""
    return json.dumps(result, sort_keys=True)


@pytest.mark.parametrize(
    ("case", "absent", "workers"), [("all classes", 0, 2), ("two classes", 6, 1)]
)
def test_scores_equal_the_unmodified_script_s(
    case, absent, workers, tmp_path, monkeypatch, cityscapes_scripts
):
    data, found = CASES[case](tmp_path / "data")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    scores = evaluated(CityscapesEvaluation(data, tmp_path / "out", workers), found).scores()
    assert not list(elsewhere.iterdir())

    expected = cityscapes_scripts["instances"][case]
    assert as_text(json.loads((tmp_path / "out" / RESULT).read_text())) == as_text(expected)
    averages = expected["averages"]
    assert (scores["map"], scores["map50"]) == (averages["allAp"], averages["allAp50%"])
    without_truth = {name for name, score in scores["ap"].items() if score is None}
    assert len(without_truth) == absent
    for name in set(CITYSCAPES_THINGS) - without_truth:
        assert scores["ap"][name] == averages["classes"][name]["ap"]
        assert scores["ap50"][name] == averages["classes"][name]["ap50%"]
    assert 0.02 < scores["map"] < scores["map50"] < 0.95
    json.dumps(scores, allow_nan=False)


def test_perfect_predictions_in_the_official_format(drawn, tmp_path, capfd):
    folder = tmp_path / "predictions"
    scores = evaluated(CityscapesEvaluation(drawn, folder, workers=1), perfect(drawn)).scores()
    assert capfd.readouterr() == ("", "")
    assert {s for s in scores["ap"].values() if s is not None} == {1.0}
    assert scores["map"] == 1.0

    for frame in drawn.records:
        ids = cv2.imread(str(frame.instances), cv2.IMREAD_UNCHANGED)
        truths = [a for a in frame.annotations if not a.crowd]
        lines = [row.split(" ") for row in (folder / f"{frame.name}.txt").read_text().splitlines()]
        assert len(lines) == len(truths)
        for (file, label, score), truth in zip(lines, truths, strict=True):
            mask = cv2.imread(str(folder / file), cv2.IMREAD_UNCHANGED)
            assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
            assert np.array_equal(mask > 0, ids == truth.instance)
            assert int(label) == truth.instance // 1000
            assert float(score) == np.float32(0.9)


def test_nothing_found(tmp_path, cityscapes_scripts):
    data, nothing = CASES["nothing found"](tmp_path / "data")
    scores = evaluated(CityscapesEvaluation(data, tmp_path / "predictions"), nothing).scores()
    assert {s for s in scores["ap50"].values() if s is not None} == {0.0}
    recorded = cityscapes_scripts["instances"]["nothing found"]
    assert recorded["averages"]["allAp"] == scores["map"] == 0.0


def two_cars(root, *values):
    """One frame of 40×80 that is road but for values in its left and right halves."""
    frame = draw_cityscapes(root, 0, frames=1, size=(40, 80)).records[0]
    ids = np.full((40, 80), 7, np.uint16)
    for column, value in zip((5, 45), values, strict=True):
        ids[5:35, column : column + 30] = value
    cv2.imwrite(str(frame.instances), ids)
    return load_detection("cityscapes_det_val", root, labeled=True)


def mask_at(column):
    mask = np.zeros((40, 80), bool)
    mask[5:35, column : column + 30] = True
    return mask


@pytest.mark.parametrize("right", [3, 26], ids=["void", "group"])
def test_void_and_groups_count_neither_way(right, tmp_path):
    data = two_cars(tmp_path / "data", 26001, right)
    name, car = data.records[0].name, CITYSCAPES_THINGS.index("car")
    found = {name: masked((car, 0.9, mask_at(45)), (car, 0.8, mask_at(5)), size=(40, 80))}
    scores = evaluated(CityscapesEvaluation(data, tmp_path / "predictions"), found).scores()
    assert scores["ap"]["car"] == scores["map"] == 1.0
    assert scores["ap"]["bus"] is None


def test_nothing_but_ignored_predictions_is_zero_where_the_script_stops(
    tmp_path, cityscapes_scripts
):
    data, found = CASES["only void found"](tmp_path / "data")
    scores = evaluated(CityscapesEvaluation(data, tmp_path / "predictions"), found).scores()
    assert scores["ap"]["car"] == scores["map"] == 0.0
    assert cityscapes_scripts["instances"]["only void found"] == "IndexError"


def test_class_indices_are_the_data_set_s(tmp_path):
    two_cars(tmp_path / "data", 26001, 24001)
    data = load_detection(
        "cityscapes_det_val", tmp_path / "data", labeled=True, classes=["car", "person"]
    )
    found = {
        data.records[0].name: masked((0, 0.9, mask_at(5)), (1, 0.8, mask_at(45)), size=(40, 80))
    }
    scores = evaluated(CityscapesEvaluation(data, tmp_path / "predictions"), found).scores()
    assert (scores["ap"]["car"], scores["ap"]["person"]) == (1.0, 1.0)


def test_a_second_evaluation_replaces_the_first_s_files(drawn, tmp_path):
    folder = tmp_path / "predictions"
    evaluated(CityscapesEvaluation(drawn, folder), perfect(drawn))
    nothing = {f.name: masked(size=(f.height, f.width)) for f in drawn.records}
    evaluated(CityscapesEvaluation(drawn, folder), nothing)
    assert {path.suffix for path in folder.rglob("*")} == {".txt"}


def test_fog_is_scored_on_the_clear_frames_truth(tmp_path, cityscapes_scripts):
    root = tmp_path / "data"
    drawn, clear = CASES["wrongly found"](root)
    for image in (root / "cityscapes/leftImg8bit/val").rglob("*.png"):
        for beta in ("0.01", "0.02"):
            city = root / "cityscapes/leftImg8bit_foggy/val" / image.parent.name
            city.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, city / f"{image.stem}_foggy_beta_{beta}.png")
    foggy = load_detection("foggy_cityscapes_val", root, labeled=True)
    pairs = zip(foggy.records, drawn.records, strict=True)
    found = {fog.name: clear[frame.name] for fog, frame in pairs}
    scores = [
        evaluated(CityscapesEvaluation(d, tmp_path / d.name), f).scores()
        for d, f in ((drawn, clear), (foggy, found))
    ]
    assert scores[0] == scores[1]
    recorded = cityscapes_scripts["instances"]["wrongly found"]
    assert recorded["averages"]["allAp"] == scores[1]["map"]

    for image in (root / "cityscapes/leftImg8bit/val").rglob("*.png"):
        city = root / "cityscapes/leftImg8bit_foggy/val" / image.parent.name
        shutil.copy(image, city / f"{image.stem}_foggy_beta_0.005.png")
    every = load_detection("foggy_cityscapes_val_beta_all", root, labeled=True)
    with pytest.raises(UserError, match=r"more than once.*name a data set of one β"):
        CityscapesEvaluation(every, tmp_path / "all")


def test_wrong_input_is_one_line(drawn, tmp_path):
    frame = drawn.records[0]
    with pytest.raises(UserError, match=r"have no masks.*set MODEL\.MASK_ON"):
        CityscapesEvaluation(drawn, tmp_path / "out").update(frame.name, detections())
    with pytest.raises(UserError, match="does not apply to data set 'made up'"):
        CityscapesEvaluation(dataset(classes=("cat",)), tmp_path / "out")
    with pytest.raises(UserError, match="is inside the data set"):
        CityscapesEvaluation(drawn, drawn.official_root / "results")
    with pytest.raises(UserError, match="6 of the 6 frames"):
        CityscapesEvaluation(drawn, tmp_path / "out").scores()
    broken = tmp_path / "broken.txt"
    broken.write_text("mask.png 26\n")
    with pytest.raises(UserError, match=r"refused .*broken.txt: ERROR: Invalid prediction file"):
        score_files([frame.instances], [broken], tmp_path, workers=1)
