import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from seg_adapt.data.cache import ResizedFiles
from seg_adapt.data.dataset import SlotDataset
from seg_adapt.data.transforms import JointTransform, resize_image, resize_labels
from shared.data.catalog import load_segmentation
from shared.data.images import read_image, read_labels, write_png
from shared.data.label_maps import label_space
from shared.domain_losses import Domain
from shared.errors import MissingFileError, UserError

TRANSFORM = JointTransform(resize=(72, 40), crop=(48, 32), flip=0.5)


def dataset(root, domain, cache, transform=TRANSFORM):
    source = domain is Domain.SOURCE
    return SlotDataset(
        load_segmentation("toy_gta5" if source else "toy_cityscapes_train", root),
        transform,
        domain=domain,
        seed=3,
        space=label_space("cityscapes19") if source else None,
        cache=cache,
    )


def same(a, b):
    for x, y in zip(dataclasses.astuple(a), dataclasses.astuple(b), strict=True):
        if isinstance(x, torch.Tensor):
            assert x.dtype == y.dtype and torch.equal(x, y)
        else:
            assert x == y


@pytest.mark.parametrize("domain", list(Domain))
def test_samples_are_the_same_with_and_without(toy_root, tmp_path, domain):
    plain = dataset(toy_root, domain, None)
    for _ in range(2):
        through = dataset(toy_root, domain, tmp_path / "cache")
        for slot in range(len(plain)):
            same(plain.load(slot), through.load(slot))
    kinds = 2 if domain is Domain.SOURCE else 1
    assert len(list((tmp_path / "cache").rglob("*.png"))) == kinds * len(plain)


@pytest.fixture
def files(toy_root, tmp_path):
    record = load_segmentation("toy_gta5", toy_root).records[0]
    image, label = tmp_path / "a.png", tmp_path / "a_label.png"
    shutil.copy(record.image, image)
    shutil.copy(record.label, label)
    return image, label, ResizedFiles(tmp_path / "cache", (50, 20), "bicubic")


def test_stored_files_are_read_instead(files, tmp_path):
    image, label, resized = files
    expected = resized.image(image), resized.labels(label, "index")
    assert torch.equal(expected[0], resize_image(read_image(image), (20, 50)))
    assert torch.equal(expected[1], resize_labels(read_labels(label, "index"), (20, 50)))
    marked = np.full((20, 50, 3), 7, np.uint8)
    [stored] = (tmp_path / "cache/50x20-bicubic").iterdir()
    write_png(stored, marked)
    assert resized.image(image).eq(7).all()
    # Another way of resizing is another file.
    other = dataclasses.replace(resized, interpolation="bilinear")
    assert torch.equal(other.image(image), resize_image(read_image(image), (20, 50), "bilinear"))
    assert dataclasses.replace(resized, size=(30, 20)).image(image).shape == (3, 20, 30)


def test_an_edited_file_is_resized_again(files):
    image, label, resized = files
    resized.image(image), resized.labels(label, "index")
    picture = 255 - np.array(Image.open(image))
    write_png(image, picture)
    assert torch.equal(resized.image(image), resize_image(read_image(image), (20, 50)))
    image.unlink()
    with pytest.raises(MissingFileError, match="no file"):
        resized.image(image)


@pytest.mark.parametrize("content", [b"", b"text", lambda good: good[: len(good) // 2]])
def test_a_damaged_copy_is_made_again(files, tmp_path, content):
    image, _, resized = files
    expected = resized.image(image)
    [stored] = (tmp_path / "cache/50x20-bicubic").iterdir()
    good = stored.read_bytes()
    stored.write_bytes(content(good) if callable(content) else content)
    assert torch.equal(resized.image(image), expected)
    assert stored.read_bytes() == good


def test_a_folder_that_takes_no_file_costs_only_time(files, tmp_path):
    image, _, resized = files
    (tmp_path / "cache/50x20-bicubic").touch()
    with pytest.raises(UserError, match=r"DATASETS.CACHE .* cannot be made"):
        ResizedFiles(tmp_path / "cache/50x20-bicubic/below", (50, 20), "bicubic")
    for _ in range(2):
        assert torch.equal(resized.image(image), resize_image(read_image(image), (20, 50)))


@pytest.mark.parametrize(
    "transform", [JointTransform(crop=(48, 32)), JointTransform((72, 40), scales=(0.5, 1.0))]
)
def test_not_used_where_the_whole_image_is_needed(toy_root, tmp_path, caplog, transform):
    through = dataset(toy_root, Domain.SOURCE, tmp_path / "cache", transform)
    same(through.load(0), dataset(toy_root, Domain.SOURCE, None, transform).load(0))
    assert not (tmp_path / "cache").exists()
    assert "toy_gta5' does not use DATASETS.CACHE" in caplog.text


def test_pairs_of_different_sizes_are_refused(toy_root, tmp_path):
    shutil.copytree(toy_root / "toy/gta5", tmp_path / "toy/gta5")
    source = dataset(tmp_path, Domain.SOURCE, tmp_path / "cache")
    label = source.record(0).label
    write_png(label, np.array(Image.open(label))[:-1])
    with pytest.raises(UserError, match="unpack the pair again"):
        source.load(0)
