import dataclasses

import numpy as np
import pytest
import torch
from conftest import tiny_segmentor

from seg_adapt.data.fda import stylise
from seg_adapt.data.reading import Reader
from seg_adapt.data.transforms import resize_image
from seg_adapt.engine.selection import Selection, StylisedImages, hold_out, selection_score
from seg_adapt.evaluation.confusion import ConfusionMatrix
from seg_adapt.evaluation.inference import Windows
from seg_adapt.methods.dast import Dast
from seg_adapt.methods.source_only import SourceOnly
from shared import checkpoint
from shared.data.catalog import load_segmentation
from shared.data.images import read_image, write_png
from shared.data.label_maps import label_space
from shared.errors import UserError

SPACE = label_space("cityscapes19")
CPU = torch.device("cpu")


def datasets(root):
    return load_segmentation("toy_gta5", root), load_segmentation("toy_cityscapes_train", root)


def stylised(root, count=3, seed=0, betas=(0.05, 0.2), resize=(32, 64), **change):
    source, target = datasets(root)
    held_out = dataclasses.replace(hold_out(source, count, seed)[1], **change)
    return StylisedImages(
        held_out,
        target,
        SPACE,
        betas=betas,
        resize=resize,
        interpolation="bicubic",
        seed=seed,
    )


def method(kind=SourceOnly):
    return kind(tiny_segmentor(19))


def test_hold_out_divides_the_source(toy_root):
    source = datasets(toy_root)[0]
    train, held_out = hold_out(source, 2, seed=0)
    assert (len(train.records), len(held_out.records)) == (4, 2)
    assert set(train.records) | set(held_out.records) == set(source.records)
    assert [r.name for r in train.records] == sorted(r.name for r in train.records)
    assert hold_out(source, 2, seed=0) == (train, held_out)
    chosen = {tuple(r.name for r in hold_out(source, 2, seed)[1].records) for seed in range(8)}
    assert len(chosen) > 1
    assert (train.encoding, train.id_table) == (source.encoding, source.id_table)


@pytest.mark.parametrize("count", [0, 6, 500])
def test_hold_out_leaves_something_to_train_on(toy_root, count):
    with pytest.raises(UserError, match=rf"SELECTION.HELD_OUT is {count}.*6 images"):
        hold_out(datasets(toy_root)[0], count, seed=0)


@pytest.mark.parametrize("resize", [(32, 64), None])
def test_images_are_the_held_out_ones_in_target_style(toy_root, resize):
    images = stylised(toy_root, resize=resize)
    target = datasets(toy_root)[1]
    read = Reader(images.held_out, SPACE)
    assert set(images.styles) <= {record.image for record in target.records}
    for index, record in enumerate(images.held_out.records):
        versions, labels = images.load(index)
        image, truth = read(record)
        assert torch.equal(labels, truth)
        size = resize or (64, 128)
        image, style = (resize_image(x, size) for x in (image, read_image(images.styles[index])))
        assert versions.shape == (2, 3, *size)
        for version, beta in zip(versions, (0.05, 0.2), strict=True):
            assert torch.equal(version, stylise(image, style, beta))


def test_styles_are_drawn_by_seed_and_target_labels_are_not_needed(toy_root):
    source, target = datasets(toy_root)
    unlabelled = dataclasses.replace(
        target, records=tuple(dataclasses.replace(r, label=None) for r in target.records)
    )
    held_out = hold_out(source, 5, seed=0)[1]

    def draw(seed, styles):
        options = {"betas": [0.1], "resize": None, "interpolation": "bicubic", "seed": seed}
        return StylisedImages(held_out, styles, SPACE, **options).styles

    assert draw(0, target) == draw(0, unlabelled)
    assert len({tuple(draw(seed, target)) for seed in range(4)}) > 1


@pytest.mark.parametrize("workers", [0, 1])
def test_score_is_the_mean_of_the_styles_mean_ious(toy_root, workers):
    images, scored = stylised(toy_root), method()
    expected = []
    for place in range(2):
        matrix = ConfusionMatrix(19)
        for versions, labels in map(images.load, range(3)):
            with torch.no_grad():
                logits = scored.eval().predict(versions[place : place + 1])
            logits = scored.segmentor.upsample(logits, (64, 128))
            matrix.update(logits.argmax(1)[0], labels)
        expected.append(matrix.mean_iou())
    assert expected[0] != expected[1]
    scored.train()
    score = selection_score(scored, images, device=CPU, workers=workers)
    assert score == pytest.approx(np.mean(expected))
    assert scored.training


def test_windows_reach_the_prediction(toy_root):
    images, scored = stylised(toy_root), method()
    whole = selection_score(scored, images, device=CPU)
    one = selection_score(scored, images, device=CPU, windows=Windows((32, 64)))
    four = selection_score(scored, images, device=CPU, windows=Windows((24, 48)))
    # Probabilities at the image's size are averaged, not logits: nearly the same, not quite.
    assert one == pytest.approx(whole, abs=0.005)
    assert four != one


def test_damaged_image_in_a_worker_is_one_line(toy_root, tmp_path):
    images = stylised(toy_root)
    images.styles[1] = tmp_path / "gone.png"
    for workers in (0, 1):
        with pytest.raises(UserError, match=r"^no file .*gone.png$"):
            selection_score(method(), images, device=CPU, workers=workers)


def test_nothing_labelled_is_an_error(toy_root, tmp_path):
    path = tmp_path / "void.png"
    write_png(path, np.zeros((64, 128), np.uint8))
    source = datasets(toy_root)[0]
    record = dataclasses.replace(source.records[0], label=path)
    images = stylised(toy_root, count=1, records=(record,))
    with pytest.raises(UserError, match="labelled pixel"):
        selection_score(method(), images, device=CPU)


@pytest.mark.parametrize("betas", [[], [0.0], [0.05, 1.2]])
def test_wrong_betas(toy_root, betas):
    with pytest.raises(UserError, match=r"SELECTION.BETAS is"):
        stylised(toy_root, betas=betas)


def shifted(trained, step):
    """The method predicting one class everywhere: the score is known to differ by class."""
    with torch.no_grad():
        for branch in trained.segmentor.stages["head"].branches:
            branch.weight.zero_()
            branch.bias.zero_()
        branch.bias[step] = 1.0
    return trained


def test_best_state_of_the_stage_is_kept_and_loaded(toy_root, tmp_path):
    path = tmp_path / "checkpoints" / "selected.pt"
    images = stylised(toy_root)
    trained = method(Dast)
    scores, states = {}, {}
    for iteration in range(3):
        # A new object each time: what a resumed run has.
        selection = Selection(path, images, device=CPU)
        shifted(trained, iteration)
        scores[iteration] = selection.update("train", iteration, trained)
        states[iteration] = {k: v.clone() for k, v in trained.state_dict().items()}
        assert checkpoint.load(path)["score"] == max(scores.values())
    assert len(set(scores.values())) > 1
    best = max(scores, key=scores.get)
    assert selection.load_best("train", trained) == (best, scores[best])
    for key, value in trained.state_dict().items():
        assert torch.equal(value, states[best][key]), key


def test_a_tie_keeps_the_earlier_and_a_new_stage_begins_anew(toy_root, tmp_path):
    path = tmp_path / "selected.pt"
    images = stylised(toy_root)
    selection = Selection(path, images, device=CPU)
    trained = method()
    first = selection.update("train", 2, shifted(trained, 2))
    assert selection.update("train", 4, trained) == first
    assert selection.load_best("train", trained)[0] == 2
    worse = selection.update("self_training_1", 6, shifted(trained, 18))
    assert worse < first
    assert selection.load_best("self_training_1", trained) == (6, worse)
    with pytest.raises(ValueError, match="'train' has no score"):
        selection.load_best("train", trained)


def test_nothing_scored_yet(toy_root, tmp_path):
    selection = Selection(tmp_path / "selected.pt", stylised(toy_root), device=CPU)
    with pytest.raises(UserError, match=r"no checkpoint .*selected\.pt"):
        selection.load_best("train", method())
