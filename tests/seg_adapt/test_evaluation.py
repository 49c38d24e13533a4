import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from seg_adapt.evaluation.cityscapes import check_predictions, run_official, write_prediction
from seg_adapt.evaluation.confusion import ConfusionMatrix, mean
from shared.data.images import read_labels, write_png
from shared.data.label_maps import IGNORE, LABEL_SPACES, lookup_table
from shared.errors import MissingFileError, UserError

C19 = LABEL_SPACES.get("cityscapes19")
C16 = LABEL_SPACES.get("cityscapes16")
SEQS = LABEL_SPACES.get("synthia_seqs13")
FRAMES = ("aachen_000000_000019", "aachen_000001_000019", "ulm_000000_000019")
RESULT = "resultPixelLevelSemanticLabeling.json"
# Seed, label space, label ids that the truth lacks (terrain, train), train ids that are never
# predicted (traffic light, terrain, train).
CASES = {
    "all classes": (1, C19, (), ()),
    "absent classes": (1, C19, (22, 31), (6, 9, 16)),
    "sixteen classes": (3, C16, (), ()),
}


def blobs(rng, values):
    """(64, 128) uint8: blocks of random values, of uneven size."""
    block = rng.choice(values, size=(8, 16)).astype(np.uint8)
    rows = np.sort(rng.integers(0, 8, 64))
    return block[rows][:, np.sort(rng.integers(0, 16, 128))]


def make_truth(root, seed, absent=()):
    """gtFine/val with every label id but `absent`, and instances of the countable classes."""
    rng = np.random.default_rng(seed)
    ids = [i for i in range(34) if i not in absent]
    truths = {}
    for frame in FRAMES:
        truth = blobs(rng, ids)
        truth[0, : len(ids)] = ids
        base = root / "gtFine" / "val" / frame.split("_")[0] / f"{frame}_gtFine"
        write_png(f"{base}_labelIds.png", truth)
        instances = truth.astype(np.uint16)
        things = (truth >= 24) & (truth <= 33)
        half = np.broadcast_to(np.arange(128) // 64, truth.shape)
        instances[things] = instances[things] * 1000 + half[things]
        Image.fromarray(instances).save(f"{base}_instanceIds.png")
        truths[frame] = truth
    return truths


def make_predictions(folder, truths, space, seed, never=()):
    """Half-right predictions that leave some pixels void; written and returned as train ids."""
    rng = np.random.default_rng(seed)
    values = [c for c in range(space.num_classes) if c not in never]
    predictions = {}
    for frame, truth in truths.items():
        prediction = blobs(rng, [*values, IGNORE])
        right = lookup_table("cityscapes", space)[truth]
        keep = np.isin(right, values) & (rng.random(truth.shape) < 0.5)
        prediction[keep] = right[keep]
        write_prediction(folder / f"{frame}_pred.png", prediction, space)
        predictions[frame] = prediction
    return predictions


def make_case(root, name):
    seed, space, absent, never = CASES[name]
    truths = make_truth(root / "data", seed, absent)
    return truths, make_predictions(root / "predictions", truths, space, seed + 1, never)


def count(truths, predictions, space):
    table = lookup_table("cityscapes", space)
    matrix = ConfusionMatrix(space.num_classes)
    for frame, truth in truths.items():
        matrix.update(torch.from_numpy(predictions[frame]), torch.from_numpy(table[truth]))
    return matrix


def files_below(root):
    return {p: p.stat().st_mtime_ns for p in root.rglob("*")}


@pytest.mark.parametrize("case", CASES)
def test_the_official_script_runs_as_recorded(tmp_path, case, cityscapes_scripts):
    make_case(tmp_path, case)
    run_official(tmp_path / "data", tmp_path / "predictions", tmp_path / "out", CASES[case][1])
    result = json.loads((tmp_path / "out" / RESULT).read_text())
    # NaN is no number that equals itself, but its text does.
    recorded = cityscapes_scripts["pixels"][case]
    assert json.dumps(result, sort_keys=True) == json.dumps(recorded, sort_keys=True)


@pytest.mark.parametrize("case", ["all classes", "absent classes"])
def test_scores_equal_the_official_script_to_the_last_bit(tmp_path, case):
    truths, predictions = make_case(tmp_path, case)
    absent = case == "absent classes"
    before = files_below(tmp_path / "data")
    official = run_official(tmp_path / "data", tmp_path / "predictions", tmp_path / "out", C19)
    assert files_below(tmp_path / "data") == before
    assert (tmp_path / "out" / RESULT).is_file()

    scores = count(truths, predictions, C19).scores(C19)
    assert scores["iou"] == official["iou"]
    assert scores["miou"] == official["miou"]
    assert scores["protocols"] == {}
    assert (scores["iou"]["train"] is None) == absent
    assert 0.2 < scores["miou"] < 0.8

    assert list(official["iou"]) == list(C19.classes)
    countable = {c for c, v in official["niou"].items() if v is not None}
    things = {"person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"}
    assert countable == (things - {"train"} if absent else things)
    assert official["mean_niou"] == pytest.approx(np.mean([official["niou"][c] for c in countable]))
    assert set(official["category_iou"]) >= {"flat", "human", "vehicle"}
    assert 0 < official["mean_category_iou"] < 1
    assert 0 < official["mean_category_niou"] < 1
    json.dumps([official, scores], allow_nan=False)


def test_sixteen_classes_against_the_official_matrix(tmp_path):
    truths, predictions = make_case(tmp_path, "sixteen classes")
    official = run_official(tmp_path / "data", tmp_path / "predictions", tmp_path / "out", C16)
    ours = count(truths, predictions, C16)

    # Counts: the official rows and columns of the sixteen classes, void predictions last.
    matrix = np.array(json.loads((tmp_path / "out" / RESULT).read_text())["confMatrix"])
    ids = list(C16.label_ids)
    np.testing.assert_array_equal(ours.counts, matrix[np.ix_(ids, [*ids, 0])])

    # The pixels of terrain, truck and train count as errors in the official score only.
    others = matrix[np.ix_([22, 27, 31], ids)].sum(axis=0)
    assert others.all()
    for i, name in enumerate(C16.classes):
        true_positive = ours.counts[i, i]
        union = ours.counts[i].sum() + ours.counts[:, i].sum() - true_positive
        assert official["iou"][name] == true_positive / (union + others[i])
        assert official["iou"][name] < ours.scores(C16)["iou"][name]

    # Over nineteen, the three unpredicted classes count as 0.
    assert [official["iou"][c] for c in ("terrain", "truck", "train")] == [0, 0, 0]
    assert official["miou"] * 19 == pytest.approx(official["protocols"]["16"] * 16)
    assert set(official["protocols"]) == set(ours.scores(C16)["protocols"]) == {"16", "13"}
    kept = [i for i, c in enumerate(C16.classes) if c not in {"wall", "fence", "pole"}]
    assert ours.scores(C16)["protocols"]["13"] == ours.mean_iou(kept)
    assert ours.scores(C16)["protocols"]["16"] == ours.mean_iou()


def test_confusion_matrix_by_hand():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 0]]))
    matrix.update(torch.tensor([0, 7]), torch.tensor([255, 1]))
    assert matrix.counts.tolist() == [[1, 0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0]]
    assert matrix.iou()[:2] == [1 / 3, 1 / 3]
    assert math.isnan(matrix.iou()[2])
    assert matrix.mean_iou() == matrix.mean_iou([0, 2]) == 1 / 3
    assert math.isnan(matrix.mean_iou([2]))
    assert matrix.pixel_accuracy() == 2 / 5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_parts_merge_to_the_whole_in_every_integer_type(dtype):
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(0, 19, (4, 9, 11), generator=generator)
    truth = torch.randint(0, 19, (4, 9, 11), generator=generator)
    truth[truth == 5] = IGNORE
    whole, first, second = ConfusionMatrix(19), ConfusionMatrix(19), ConfusionMatrix(19)
    whole.update(prediction.numpy(), truth.numpy())
    first.update(prediction[:1].to(dtype), truth[:1].to(dtype))
    second.update(prediction[1:].to(dtype), truth[1:].to(dtype))
    first.merge(second)
    np.testing.assert_array_equal(first.counts, whole.counts)
    expected = np.zeros((19, 20), np.int64)
    valid = truth != IGNORE
    np.add.at(expected, (truth[valid].numpy(), prediction[valid].numpy()), 1)
    np.testing.assert_array_equal(whole.counts, expected)


def test_degenerate_and_refused_counts():
    matrix = ConfusionMatrix(19)
    nothing = {"iou": dict.fromkeys(C19.classes), "miou": None, "protocols": {}}
    assert matrix.scores(C19) == {**nothing, "pixel_accuracy": None}
    matrix.update(torch.zeros(2, 2, dtype=torch.uint8), torch.full((2, 2), 255))
    matrix.update(np.zeros((0, 4), np.int64), np.zeros((0, 4), np.int64))
    assert not matrix.counts.any()
    labels = torch.zeros(2, 2, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"prediction has shape \(2, 2\), truth \(2, 3\)"):
        matrix.update(labels, torch.zeros(2, 3, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"ground truth holds 33.*lookup_table"):
        matrix.update(labels, labels + 33)
    with pytest.raises(UserError, match="ground truth is int64 from -1 to -1"):
        matrix.update(labels, labels.long() - 1)
    with pytest.raises(UserError, match="prediction is float32"):
        matrix.update(labels.float(), labels)
    with pytest.raises(UserError, match="cannot merge"):
        matrix.merge(ConfusionMatrix(16))
    with pytest.raises(UserError, match="'cityscapes16' has 16 classes, the matrix 19"):
        matrix.scores(C16)
    assert not matrix.counts.any()


def test_mean_rounds_as_the_official_running_sum_does():
    scores = [0.1] * 10
    total = 0.0
    for score in scores:
        total += score
    assert mean([*scores, math.nan]) == total / 10 != math.fsum(scores) / 10


def test_written_prediction_holds_label_ids_and_zero(tmp_path):
    train_ids = np.array([[0, 18, 255], [9, 5, 10]])
    write_prediction(tmp_path / "p.png", train_ids, C19)
    assert read_labels(tmp_path / "p.png", "index").tolist() == [[7, 33, 0], [22, 17, 23]]
    write_prediction(tmp_path / "p.png", torch.tensor([[9, 15]], dtype=torch.uint8), C16)
    assert read_labels(tmp_path / "p.png", "index").tolist() == [[23, 33]]
    with pytest.raises(UserError, match="prediction holds 16, expected train ids 0 to 15"):
        write_prediction(tmp_path / "p.png", torch.tensor([[16]]), C16)
    with pytest.raises(UserError, match="prediction holds -1"):
        write_prediction(tmp_path / "p.png", np.array([[-1]]), C16)


@pytest.fixture
def tree(tmp_path):
    truths = make_truth(tmp_path / "data", 5)
    make_predictions(tmp_path / "predictions", truths, C19, 6)
    return tmp_path


def refused(tree, message, space=C19):
    with pytest.raises(UserError, match=message) as caught:
        check_predictions(tree / "predictions", tree / "data", space)
    assert "\n" not in str(caught.value)


def test_valid_predictions_pass_wherever_they_lie(tree):
    check_predictions(tree / "predictions", tree / "data", C19)
    (tree / "predictions/ulm").mkdir()
    name = f"{FRAMES[2]}_pred.png"
    (tree / "predictions" / name).rename(tree / "predictions/ulm" / name)
    (tree / "predictions" / "notes.txt").touch()
    check_predictions(tree / "predictions", tree / "data", C19)


def test_missing_and_duplicate_predictions_are_refused(tree):
    first = tree / "predictions" / f"{FRAMES[0]}_pred.png"
    twin = tree / "predictions" / "color" / f"{FRAMES[0]}_color.png"
    twin.parent.mkdir()
    twin.write_bytes(first.read_bytes())
    refused(tree, f"several predictions for {FRAMES[0]}")
    twin.unlink()
    first.unlink()
    refused(tree, f"no prediction {FRAMES[0]}")
    with pytest.raises(MissingFileError, match="no folder of predictions"):
        check_predictions(tree / "absent", tree / "data", C19)
    with pytest.raises(MissingFileError, match="no ground truth"):
        check_predictions(tree / "predictions", tree / "predictions", C19)


def test_wrong_files_are_refused(tree):
    path = tree / "predictions" / f"{FRAMES[1]}_pred.png"
    road = np.full((64, 128), 7, np.uint8)
    write_png(path, np.repeat(road[..., None], 3, axis=2))
    refused(tree, f"{FRAMES[1]}_pred.png is a 8-bit RGB PNG")
    write_png(path, road[::2, ::2].copy())
    refused(tree, f"{FRAMES[1]}_pred.png is 64×32, its ground truth 128×64")
    path.write_bytes(path.read_bytes()[:40])
    refused(tree, f"{FRAMES[1]}_pred.png is damaged")
    for value in (255, 9, 1, 18, 34):
        write_png(path, np.where(np.arange(128) < 64, road, np.uint8(value)))
        refused(tree, f"{FRAMES[1]}_pred.png holds {value}, which is neither 0 nor a label id")
    write_png(path, np.full((64, 128), 22, np.uint8))
    check_predictions(tree / "predictions", tree / "data", C19)
    refused(tree, "holds 22, which is neither 0 nor a label id of 'cityscapes16'", C16)


def test_train_ids_that_pass_for_label_ids_are_refused(tree):
    # Train ids of road, traffic sign, vegetation, person, rider, car and motorcycle.
    rng = np.random.default_rng(0)
    for frame in FRAMES:
        labels = blobs(rng, [0, 7, 8, 11, 12, 13, 17])
        write_png(tree / "predictions" / f"{frame}_pred.png", labels)
    refused(tree, "hold only 0, 7, 8, 11, 12, 13, 17, as train ids would")
    # A model that has collapsed to road is scored, however badly.
    for frame in FRAMES:
        write_png(tree / "predictions" / f"{frame}_pred.png", np.full((64, 128), 7, np.uint8))
    check_predictions(tree / "predictions", tree / "data", C19)


def test_the_official_scripts_own_refusal_is_passed_on(tree):
    instances = tree / "data/gtFine/val/ulm" / f"{FRAMES[2]}_gtFine_instanceIds.png"
    instances.unlink()
    with pytest.raises(UserError, match=r"ERROR: Unable to load .*ulm_000000_000019") as caught:
        run_official(tree / "data", tree / "predictions", tree / "out", C19)
    assert "\n" not in str(caught.value)


def test_run_official_checks_before_it_runs(tree):
    with pytest.raises(UserError, match="is inside the data set"):
        run_official(tree / "data", tree / "predictions", tree / "data/out", C19)
    with pytest.raises(UserError, match="official Cityscapes script does not apply"):
        run_official(tree / "data", tree / "predictions", tree / "out", SEQS)
    with pytest.raises(UserError, match="official Cityscapes script does not apply"):
        write_prediction(tree / "p.png", np.zeros((2, 2), np.uint8), SEQS)
    (tree / "predictions" / f"{FRAMES[0]}_pred.png").unlink()
    with pytest.raises(UserError, match="no prediction"):
        run_official(tree / "data", tree / "predictions", tree / "out", C19)
    assert not (tree / "out").exists()
