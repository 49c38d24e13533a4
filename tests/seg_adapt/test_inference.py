"""Sliding-window prediction."""

import numpy as np
import pytest
import torch
from conftest import random_batches, tiny_segmentor
from torch import Tensor

from seg_adapt.config import defaults
from seg_adapt.data.transforms import resize_image
from seg_adapt.engine.build import build_method
from seg_adapt.engine.checkpoint import save_run
from seg_adapt.engine.evaluate import evaluate, prediction_path
from seg_adapt.engine.trainer import Trainer
from seg_adapt.evaluation.inference import Windows, predict_train_ids, window_probabilities
from seg_adapt.methods.source_only import SourceOnly
from seg_adapt.predict import Predictor
from shared.config import load_config
from shared.data.catalog import load_segmentation
from shared.data.images import read_image, read_labels
from shared.data.label_maps import LabelSpace

# Five classes without label ids: predictions are written as they are.
FIVE = LabelSpace("five", tuple("abcde"), ((0, 0, 0),) * 5, None, {})


@pytest.fixture(scope="module")
def method() -> SourceOnly:
    segmentor = tiny_segmentor(architecture="pspnet_resnet18", align_corners=True)
    with torch.no_grad():
        for parameter in segmentor.stages["head"].parameters():
            parameter.normal_(std=0.5)
    return SourceOnly(segmentor).eval()


def images(height: int, width: int) -> Tensor:
    return random_batches(size=(height, width))[0].images


@pytest.mark.parametrize(
    ("length", "window", "stride", "starts"),
    [
        (2048, 713, 2 / 3, [0, 476, 952, 1335]),
        (1024, 713, 2 / 3, [0, 311]),
        (713, 713, 2 / 3, [0]),
        (714, 713, 2 / 3, [0, 1]),
        (12, 4, 1.0, [0, 4, 8]),
        (13, 4, 1.0, [0, 4, 8, 9]),
        (5, 3, 0.01, [0, 1, 2]),
    ],
)
def test_windows_are_evenly_spaced_and_the_last_is_flush(length, window, stride, starts):
    windows = Windows((window, 7), stride).slices((length, 7))
    assert [(rows.start, rows.stop) for rows, _ in windows] == [(s, s + window) for s in starts]
    assert {(columns.start, columns.stop) for _, columns in windows} == {(0, 7)}


@torch.no_grad()
def by_loops(method: SourceOnly, image: Tensor, size: tuple[int, int], starts) -> Tensor:
    """Every pixel's list of probabilities, averaged at the end."""
    height, width = image.shape[-2:]
    lists = [[[] for _ in range(width)] for _ in range(height)]
    for top, left in starts:
        window = image[None, :, top : top + size[0], left : left + size[1]]
        logits = method.segmentor.upsample(method.predict(window), size)
        probabilities = logits.softmax(dim=1)[0]
        for y in range(size[0]):
            for x in range(size[1]):
                lists[top + y][left + x].append(probabilities[:, y, x])
    rows = [torch.stack([torch.stack(cell).mean(0) for cell in row], 1) for row in lists]
    return torch.stack(rows, 1)


@torch.no_grad()
def test_probabilities_are_averaged_over_windows(method):
    batch = images(25, 41)
    windows = Windows((17, 25), 2 / 3)
    assert len(windows.slices((25, 41))) == 4
    probabilities = window_probabilities(method, batch, windows)
    starts = [(0, 0), (0, 16), (8, 0), (8, 16)]
    for image, ours in zip(batch, probabilities, strict=True):
        # Batches and single windows round differently; a wrong window is off by 0.01 and more.
        expected = by_loops(method, image, (17, 25), starts)
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 25, 41))


def test_a_window_of_the_image_s_size_is_the_whole_image(method):
    batch = images(33, 49)
    whole = predict_train_ids(method, batch, resize=None, size=(33, 49))
    assert len(np.unique(whole)) > 1
    windows = Windows((33, 49))
    assert (
        predict_train_ids(method, batch, resize=None, size=(33, 49), windows=windows) == whole
    ).all()


def test_windows_see_the_pooling_of_their_own_extent(method):
    batch = images(33, 97)
    whole = predict_train_ids(method, batch, resize=None, size=(33, 97))
    windows = Windows((33, 49), 1.0)
    ids = predict_train_ids(method, batch, resize=None, size=(33, 97), windows=windows)
    assert (ids != whole).any()
    left = predict_train_ids(method, batch[..., :49], resize=None, size=(33, 49))
    assert (ids[..., :48] == left[..., :48]).all()


@torch.no_grad()
def test_an_image_smaller_than_the_window_is_padded_black_and_cut_back(method):
    batch = images(20, 60)
    windows = Windows((33, 49), 1.0)
    padded = torch.zeros(2, 3, 33, 60, dtype=torch.uint8)
    padded[..., :20, :] = batch
    expected = window_probabilities(method, padded, windows)[..., :20, :]
    assert torch.equal(window_probabilities(method, batch, windows), expected)
    tiny = predict_train_ids(method, batch[..., :1, :1], resize=None, size=(1, 1), windows=windows)
    assert tiny.shape == (2, 1, 1)


def test_resize_comes_first_and_the_size_asked_for_last(method):
    batch = images(40, 56)
    windows = Windows((17, 25))
    ids = predict_train_ids(method, batch, resize=(20, 28), size=(40, 56), windows=windows)
    with torch.no_grad():
        small = window_probabilities(method, resize_image(batch, (20, 28)), windows)
        expected = method.segmentor.upsample(small, (40, 56)).argmax(dim=1)
    assert ids.dtype == np.uint8 and (ids == expected.numpy()).all()


def test_windows_from_keys():
    assert Windows.from_config(defaults()) is None
    cfg = load_config(defaults(), None, ["TEST.WINDOW", "[321, 161]", "TEST.STRIDE", "1"])
    assert Windows.from_config(cfg) == Windows((161, 321), 1.0)


def test_evaluation_predicts_through_windows(method, toy_root, tmp_path):
    dataset = load_segmentation("toy_cityscapes_val", toy_root)
    windows = Windows((33, 65))
    scored = {}
    for name, chosen in (("whole", None), ("windows", windows)):
        evaluate(
            method,
            dataset,
            FIVE,
            resize=None,
            interpolation="bicubic",
            windows=chosen,
            device=torch.device("cpu"),
            predictions=tmp_path / name,
        )
        record = dataset.records[0]
        scored[name] = read_labels(prediction_path(tmp_path / name, record.name), "index").numpy()
    image = read_image(record.image)[None]
    expected = predict_train_ids(
        method, image, resize=None, size=tuple(image.shape[-2:]), windows=windows
    )
    assert (scored["windows"] == expected[0]).all() and (scored["whole"] != expected[0]).any()


def test_predict_py_takes_the_checkpoint_s_windows(tmp_path):
    settings = ["MODEL.ARCHITECTURE", "pspnet_resnet18", "MODEL.WIDTH", "0.0625"]
    settings += ["SOLVER.MAX_ITER", "1", "TEST.WINDOW", "[33, 17]", "TEST.STRIDE", "0.5"]
    cfg = load_config(defaults(), None, settings)
    method = build_method(cfg, 19)
    save_run(tmp_path / "last.pt", Trainer(method, cfg, device=torch.device("cpu")), cfg)
    predictor = Predictor.from_checkpoint(tmp_path / "last.pt", torch.device("cpu"), None)
    assert predictor.windows == Windows((17, 33), 0.5)
    image = images(40, 56)[0]
    expected = predict_train_ids(
        predictor.method, image[None], resize=None, size=(40, 56), windows=predictor.windows
    )
    assert (predictor(image) == expected[0]).all()
