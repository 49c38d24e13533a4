import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_segmentor

from seg_adapt.data.reading import pseudo_label_path
from seg_adapt.data.transforms import resize_image
from seg_adapt.engine.pseudo_labels import (
    BINS,
    ConfidenceHistograms,
    assign_pseudo_labels,
    is_complete,
    make_pseudo_labels,
)
from seg_adapt.methods.source_only import SourceOnly
from shared.data.catalog import load_segmentation
from shared.data.images import read_image, read_labels, write_png
from shared.errors import UserError

CLASSES = 5
SIZE = (32, 64)
CPU = torch.device("cpu")


def maps(count, size=(7, 9), classes=CLASSES, seed=0):
    """Probability maps (1, C, H, W), some of them confident."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 1, classes, *size, generator=generator)
    return (4 * logits).softmax(dim=2)


def histograms_of(probabilities, **arguments):
    histograms = ConfidenceHistograms(probabilities.shape[2], **arguments)
    for one in probabilities:
        histograms.update(one)
    return histograms


def row_of_pixels(*pixels):
    """(1, C, 1, pixels) from each pixel's probabilities."""
    return torch.tensor(pixels).T[None, :, None]


def test_hand_computed():
    """Every confidence is a multiple of 1/32: bins of 1/32 hold one value each."""
    pixels = row_of_pixels(
        # Class 0, four pixels: the second of them is 28/32.
        *([a / 32, (32 - a) / 32, 0.0, 0.0] for a in (30, 28, 24, 20)),
        # Class 1, three pixels: the first of them is 31/32, capped.
        *([(32 - b) / 32, b / 32, 0.0, 0.0] for b in (31, 29, 17)),
        # Class 2, one pixel: no half of it. Class 3, none.
        [12 / 32, 0.0, 20 / 32, 0.0],
    )
    thresholds = histograms_of(pixels[None], bins=32).thresholds(0.5, 0.9)
    assert thresholds.tolist() == pytest.approx([28 / 32, 0.9, 1.0, 1.0])
    labels = assign_pseudo_labels(pixels, thresholds)
    assert labels.dtype == torch.uint8
    # 29/32 = 0.906 of class 1 reaches the cap.
    assert labels.tolist() == [[[0, 0, 255, 255, 1, 1, 255, 255]]]


def test_a_label_may_differ_from_the_prediction():
    """0.5 / 0.6 < 1 although class 0 is predicted; 0.4 / 0.3 is the largest ratio."""
    labels = assign_pseudo_labels(row_of_pixels([0.5, 0.4, 0.1]), torch.tensor([0.6, 0.3, 1.0]))
    assert labels.item() == 1


def exact_threshold(confidences, quantile, cap):
    rank = math.floor(quantile * len(confidences))
    return min(cap, sorted(confidences, reverse=True)[rank - 1]) if rank else 1.0


def confidences_by_class(probabilities):
    found = [[] for _ in range(probabilities.shape[2])]
    for pixel in probabilities.movedim(2, -1).reshape(-1, probabilities.shape[2]).tolist():
        best = max(pixel)
        found[pixel.index(best)].append(best)
    return found


@pytest.mark.parametrize("quantile", [0.01, 0.4, 0.5, 1.0])
@pytest.mark.parametrize("cap", [0.9, 1.0])
def test_thresholds_lie_at_most_a_bin_below_those_of_sorting(quantile, cap):
    probabilities = maps(6)
    thresholds = histograms_of(probabilities).thresholds(quantile, cap).tolist()
    for threshold, confidences in zip(thresholds, confidences_by_class(probabilities), strict=True):
        exact = exact_threshold(confidences, quantile, cap)
        assert exact - 1 / BINS <= threshold <= exact + 1e-7
    assert 1 / BINS <= 1e-4


def test_saturated_and_single_pixels():
    certain = torch.zeros(1, 2, 1, 4)
    certain[:, 0] = 1.0
    histograms = histograms_of(certain[None])
    assert histograms.counts[0, -1] == 4
    assert histograms.thresholds(0.5, 0.9).tolist() == pytest.approx([0.9, 1.0])
    assert histograms.thresholds(0.5, 1.0)[0] == pytest.approx(1.0, abs=1 / BINS)
    alone = histograms_of(maps(1, size=(1, 1)))
    assert alone.thresholds(0.5, 0.9).tolist() == [1.0] * CLASSES
    assert (alone.thresholds(1.0, 0.9) < 1.0).sum() == 1


def test_one_class():
    ones = torch.ones(1, 1, 3, 4)
    thresholds = histograms_of(ones[None]).thresholds(0.5, 0.9)
    assert (assign_pseudo_labels(ones, thresholds) == 0).all()


def test_labels_equal_a_loop_over_pixels():
    probabilities = maps(1)[0].double()
    thresholds = torch.tensor([0.3, 0.9, 0.5, 1.0, 0.7])
    labels = assign_pseudo_labels(probabilities, thresholds)
    for row in range(7):
        for column in range(9):
            pixel = probabilities[0, :, row, column].tolist()
            ratios = [p / t for p, t in zip(pixel, thresholds.tolist(), strict=True)]
            expected = ratios.index(max(ratios)) if max(ratios) >= 1 else 255
            assert labels[0, row, column] == expected


def test_every_pixel_at_its_threshold_is_kept():
    """p / t is exactly 1 there."""
    probabilities = maps(4)
    thresholds = histograms_of(probabilities).thresholds(0.5, 1.0)
    kept = sum((assign_pseudo_labels(p, thresholds) != 255).sum() for p in probabilities)
    found = confidences_by_class(probabilities)
    assert kept >= sum(math.floor(0.5 * len(confidences)) for confidences in found)


def test_diverged_network_is_named():
    with pytest.raises(UserError, match=r"diverged; lower SOLVER\.MODEL\.LR"):
        ConfidenceHistograms(CLASSES).update(maps(1)[0] * math.nan)


class Flipped(SourceOnly):
    """Inference that is not the segmentor's forward, more confident than new weights are."""

    def predict(self, images):
        return 8 * self.segmentor(images).flip(1)


def method():
    return Flipped(tiny_segmentor(CLASSES, bn="train"))


def settings(**changes):
    return {
        "resize": SIZE,
        "interpolation": "bicubic",
        "device": CPU,
        "quantile": 0.5,
        "cap": 0.9,
    } | changes


def label_files(folder, dataset):
    paths = [pseudo_label_path(folder, record) for record in dataset.records]
    return torch.stack([read_labels(path, "index") for path in paths])


def expected_probabilities(model, dataset, size):
    """(images, 1, C, *size), all in memory."""
    probabilities = []
    for record in dataset.records:
        logits = model.predict(resize_image(read_image(record.image), size)[None])
        aligned = model.segmentor.align_corners
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=aligned)
        probabilities.append(logits.softmax(dim=1))
    return torch.stack(probabilities)


@pytest.fixture
def target(toy_root):
    return load_segmentation("toy_cityscapes_train", toy_root)


def test_folder_holds_the_labels_of_every_image(target, tmp_path):
    model = method().train()
    folder = tmp_path / "round"
    summary = make_pseudo_labels(model, target, folder, **settings())
    assert model.training and all(p.grad is None for p in model.parameters())
    assert is_complete(folder)
    assert json.loads((folder / "thresholds.json").read_text()) == summary

    with torch.no_grad():
        probabilities = expected_probabilities(model.eval(), target, SIZE)
    found = confidences_by_class(probabilities)
    assert sum(len(confidences) > 1 for confidences in found) > 2
    exact = [exact_threshold(confidences, 0.5, 0.9) for confidences in found]
    assert min(exact) < 0.9
    assert summary["thresholds"] == pytest.approx(exact, abs=1e-4)
    labels = label_files(folder, target)
    assert labels.shape == (len(target.records), *SIZE)
    thresholds = torch.tensor(summary["thresholds"])
    assert torch.equal(labels, assign_pseudo_labels(probabilities[:, 0], thresholds))

    pixels = labels.numel()
    assert (summary["images"], summary["quantile"], summary["cap"]) == (6, 0.5, 0.9)
    assert summary["kept"] == pytest.approx((labels != 255).sum().item() / pixels)
    for c in range(CLASSES):
        assert summary["labelled"][c] == pytest.approx((labels == c).sum().item() / pixels)
        assert summary["predicted"][c] == pytest.approx(len(found[c]) / pixels)


def test_own_size_of_the_images_and_a_share_too_small_for_any_pixel(target, tmp_path):
    summary = make_pseudo_labels(method(), target, tmp_path, **settings(resize=None, quantile=1e-9))
    assert summary["kept"] == 0.0 and summary["thresholds"] == [1.0] * CLASSES
    labels = label_files(tmp_path, target)
    assert labels.shape == (6, 64, 128) and (labels == 255).all()


def test_a_round_that_breaks_off_is_not_complete(target, tmp_path):
    """Also where a former one was, of which nothing is left."""
    former = dataclasses.replace(target, records=target.records[:3])
    make_pseudo_labels(method(), former, tmp_path, **settings())
    assert is_complete(tmp_path)
    gone = dataclasses.replace(target.records[4], image=tmp_path / "gone.png")
    broken = dataclasses.replace(target, records=(target.records[3], gone))
    with pytest.raises(UserError, match=r"gone\.png"):
        make_pseudo_labels(method(), broken, tmp_path, **settings())
    assert not is_complete(tmp_path)
    assert not list(tmp_path.rglob("*.png"))


def test_names_with_folders(target, tmp_path):
    image = tmp_path / "image.png"
    write_png(image, read_image(target.records[0].image).permute(1, 2, 0).numpy())
    record = dataclasses.replace(target.records[0], name="city/night/1", image=image)
    one = dataclasses.replace(target, records=(record,))
    make_pseudo_labels(method(), one, tmp_path / "round", **settings())
    assert (tmp_path / "round" / "city" / "night" / "1.png").is_file()


TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from test_pseudo_labels import CPU, load_segmentation, make_pseudo_labels, method, settings
from shared import distributed

torch.set_num_threads(1)
distributed.init_process_group(CPU)
target = load_segmentation("toy_cityscapes_train", Path(sys.argv[2]))
make_pseudo_labels(method(), target, Path(sys.argv[3]), **settings())
distributed.shut_down()
"""


def test_two_processes_equal_one(target, toy_root, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here.parents[1], here.parent)))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    two = tmp_path / "two"
    subprocess.run([*launcher, script, here, toy_root, two], env=environment, check=True)
    one = tmp_path / "one"
    summary = make_pseudo_labels(method(), target, one, **settings())
    assert json.loads((two / "thresholds.json").read_text()) == summary
    assert torch.equal(label_files(one, target), label_files(two, target))
