"""The toolbox from Python."""

import doctest
import shutil

import commands
import numpy as np
import pytest
import torch

import street_adapt
from seg_adapt import predict, train
from seg_adapt.engine import checkpoint
from seg_adapt.losses import constrained
from shared.data.images import read_image
from shared.errors import MissingFileError, UserError
from shared.sap import module

EXAMPLES = (street_adapt, checkpoint, predict, constrained, module)
TINY = ["MODEL.ARCHITECTURE", "resnet18", "MODEL.WIDTH", "0.125", "MODEL.WEIGHTS", ""]


def batches():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 5, (2, 64, 96), generator=generator), images.flip(0)


@pytest.fixture(scope="module")
def workplace(settings, toy_root, tmp_path_factory):
    """A folder with a trained run, runs/toy/road, an image and a folder of two."""
    folder = tmp_path_factory.mktemp("workplace")
    run = ["--method", "road", "--output", folder / "runs/toy/road", *settings]
    assert commands.run(train.main, *run) == 0
    images = sorted((toy_root / "toy/cityscapes/leftImg8bit/val").rglob("*.png"))
    (folder / "frames").mkdir()
    for name, image in zip(("frame.png", "frames/1.png", "frames/2.png"), images, strict=False):
        shutil.copy(image, folder / name)
    return folder


@pytest.mark.parametrize("module", EXAMPLES, ids=lambda module: module.__name__)
def test_the_examples_run(module, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


def test_training_lowers_the_loss_and_goes_on_from_its_state():
    rate = ["SOLVER.MODEL.LR", "0.01"]
    ours = street_adapt.Adaptation("adaptseg", num_classes=5, overrides=[*TINY, *rate])
    losses = [ours.step(*batches())["loss/seg"] for _ in range(6)]
    assert losses[-1] < losses[0]
    again = street_adapt.Adaptation("adaptseg", num_classes=5, overrides=[*TINY, *rate])
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again.predict(batches()[0]), ours.predict(batches()[0]))
    assert again.step(*batches()) == ours.step(*batches())


def test_what_cannot_be_trained_is_named():
    with pytest.raises(UserError, match="did you mean 'road'"):
        street_adapt.Adaptation("raod", num_classes=5, overrides=TINY)
    method = street_adapt.Adaptation("adaptseg", num_classes=5, overrides=TINY)
    with pytest.raises(UserError, match="needs target images"):
        method.step(*batches()[:2], None)


def test_a_run_is_loaded_and_predicts_files_arrays_and_folders(workplace, tmp_path):
    model = street_adapt.load(workplace / "runs/toy/road")
    path = workplace / "frame.png"
    image = read_image(path)
    ids = model(path)
    assert ids.dtype == np.uint8 and ids.shape == tuple(image.shape[-2:])
    assert np.array_equal(model(image), ids)
    assert np.array_equal(model(image.permute(1, 2, 0).numpy()), ids)
    assert model.folder(workplace / "frames", tmp_path / "out") == 2
    assert (tmp_path / "out/1_overlay.png").is_file()

    with pytest.raises(UserError, match="expected uint8"):
        model(image.float())
    with pytest.raises(UserError, match="expected \\(H, W, 3\\)"):
        model(np.zeros((4, 4), np.uint8))
    with pytest.raises(MissingFileError, match="no checkpoint at"):
        street_adapt.load(tmp_path / "none")
