"""Every method trains and predicts on a device that is not the CPU, with the CPU's numbers."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import random_batches, tiny_segmentor
from devices import pretended_gpu

from seg_adapt.config import defaults
from seg_adapt.engine.pseudo_labels import make_pseudo_labels
from seg_adapt.engine.selection import StylizedImages, selection_score
from seg_adapt.engine.trainer import Trainer
from seg_adapt.evaluation.inference import Windows, predict_train_ids
from seg_adapt.methods import METHODS
from seg_adapt.methods.source_only import SourceOnly
from shared.config import load_config
from shared.data.catalog import load_segmentation
from shared.data.label_maps import label_space

CPU, GPU = torch.device("cpu"), torch.device("cuda")
KEYS = [
    *("SOLVER.MAX_ITER", "2", "SELF_TRAINING.ROUNDS", "1", "LOSS.LOVASZ_WEIGHT", "1"),
    *("SOURCE_STAGE.ITERATIONS", "1", "SAP.LEVELS", "[3, 9, 15]"),
]


def trained_and_predicted(name, device):
    """Logs of a step of every stage, and predictions."""
    torch.manual_seed(1)
    cfg = load_config(defaults(), None, ["METHOD", name, *KEYS])
    method = METHODS.get(name).from_config(cfg, tiny_segmentor(bn="train", bn_affine=True))
    source, target = random_batches()
    target = dataclasses.replace(target, pseudo_labels=source.labels)
    method.to(device).prepare()
    method.observe_source(source.labels.numpy())
    run = Trainer(method, cfg, device=device)
    logs = []
    for index in range(len(run.stages)):
        run.enter(index)
        logs.append(run.step([(0, source, target)]))
    images, size = source.images.to(device), (40, 50)
    with torch.no_grad():
        method.eval().pictures(source.to(device), target.to(device))
        method.columns(images)
        ids = [
            predict_train_ids(method, images, resize=(33, 49), size=size, windows=windows)
            for windows in (None, Windows((33, 33), 0.5))
        ]
    return logs, ids


@pytest.mark.parametrize("name", list(METHODS))
def test_steps_and_predictions(name):
    logs, ids = trained_and_predicted(name, CPU)
    with pretended_gpu():
        logs_there, ids_there = trained_and_predicted(name, GPU)
    for there, here in zip(logs_there, logs, strict=True):
        assert there == pytest.approx(here, rel=1e-5)
    assert all(np.array_equal(*pair) for pair in zip(ids_there, ids, strict=True))


def labeled_and_scored(device, root, folder):
    """A round's pseudo-labels, and the score that selects a snapshot."""
    space = label_space("cityscapes19")
    source, target = (load_segmentation(f"toy_{n}", root) for n in ("gta5", "cityscapes_train"))
    method = SourceOnly(tiny_segmentor(19)).to(device)
    options = {"interpolation": "bicubic", "quantile": 0.5, "cap": 0.9}
    summary = make_pseudo_labels(method, target, folder, resize=(32, 64), device=device, **options)
    images = StylizedImages(
        source, target, space, betas=(0.1,), resize=(32, 64), interpolation="bicubic", seed=0
    )
    return summary, selection_score(method, images, device=device)


def test_pseudo_labels_and_selection(toy_root, tmp_path):
    expected = labeled_and_scored(CPU, toy_root, tmp_path / "cpu")
    with pretended_gpu():
        assert labeled_and_scored(GPU, toy_root, tmp_path / "gpu") == expected
