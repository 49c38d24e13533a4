"""The toolbox from Python."""

import doctest

import numpy as np
import pytest
import torch

import street_adapt
from seg_adapt.engine.checkpoint import load_method
from shared.data.images import read_image
from shared.errors import MissingFileError, UserError

TINY = ["MODEL.ARCHITECTURE", "resnet18", "MODEL.WIDTH", "0.125", "MODEL.WEIGHTS", ""]


def batches():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 5, (2, 64, 96), generator=generator), images.flip(0)


def test_the_examples_run():
    assert doctest.testmod(street_adapt).failed == 0


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


def test_a_run_is_loaded_and_predicts_files_arrays_and_folders(
    settings, toy_root, tmp_path, capsys
):
    from seg_adapt import train
    from shared.cli import call

    run = ["--method", "source_only", "--output", tmp_path / "run", *settings]
    assert call(train.main, [str(word) for word in run]) == 0
    model = street_adapt.load(tmp_path / "run")
    path = next((toy_root / "toy/cityscapes/leftImg8bit/val").rglob("*.png"))
    image = read_image(path)
    ids = model(path)
    assert ids.dtype == np.uint8 and ids.shape == tuple(image.shape[-2:])
    assert np.array_equal(model(image), ids)
    assert np.array_equal(model(image.permute(1, 2, 0).numpy()), ids)
    assert model.folder(path.parent, tmp_path / "out") == len(list(path.parent.iterdir()))
    assert (tmp_path / "out" / f"{path.stem}_overlay.png").is_file()
    method, _, _ = load_method(tmp_path / "run", torch.device("cpu"))
    assert not method.training

    with pytest.raises(UserError, match="expected uint8"):
        model(image.float())
    with pytest.raises(UserError, match="expected \\(H, W, 3\\)"):
        model(np.zeros((4, 4), np.uint8))
    with pytest.raises(MissingFileError, match="no checkpoint at"):
        street_adapt.load(tmp_path / "none")
