import dataclasses
import shutil

import pytest
import torch

from seg_adapt.data.dataset import SlotDataset, collate
from seg_adapt.data.reading import Reader, pseudo_label_path
from seg_adapt.data.transforms import JointTransform, resize_image
from seg_adapt.structures import TargetBatch
from shared.data.catalog import load_segmentation
from shared.data.images import read_image, write_png
from shared.data.label_maps import label_space
from shared.data.own import resolve_segmentation
from shared.domain_losses import Domain
from shared.errors import MissingFileError, UserError

SPACE = label_space("cityscapes19")
TRANSFORM = JointTransform(scales=(0.7, 1.3), crop=(48, 32), flip=0.5)


def dataset(root, name, domain, seed=0, transform=TRANSFORM):
    space = SPACE if domain is Domain.SOURCE else None
    return SlotDataset(
        load_segmentation(name, root), transform, domain=domain, seed=seed, space=space
    )


def test_sample_is_the_record_itself(toy_root):
    plain = dataset(toy_root, "toy_gta5", Domain.SOURCE, transform=JointTransform())
    sample, record = plain.load(3), plain.record(3)
    image, labels = Reader(plain.dataset, SPACE)(record)
    assert torch.equal(sample.image, image) and torch.equal(sample.labels, labels)
    assert sample.name == record.name


def test_several_sources_keep_their_label_formats(all_toys):
    names = ("toy_gta5", "toy_synthia")
    alone = [load_segmentation(name, all_toys) for name in names]
    assert alone[0].formats[""] != alone[1].formats[""]
    both = resolve_segmentation(", ".join(names), all_toys, space=SPACE, labeled=True)
    assert both.name == "toy_gta5 + toy_synthia" and len(both.records) == 6
    read = Reader(both, SPACE)
    expected = {
        f"{dataset.name}/{record.name}": Reader(dataset, SPACE).labels(record)
        for dataset in alone
        for record in dataset.records
    }
    assert [record.name for record in both.records] == sorted(expected)
    for record in both.records:
        assert torch.equal(read.labels(record), expected[record.name])
    slots = SlotDataset(both, TRANSFORM, domain=Domain.SOURCE, seed=0, space=SPACE)
    assert {slots.load(slot).name.split("/")[0] for slot in range(6)} == set(names)
    with pytest.raises(UserError, match="one data set twice in 'toy_gta5, toy_gta5'"):
        resolve_segmentation("toy_gta5,toy_gta5", all_toys)


def test_labels_alone_are_those_of_the_sample(toy_root):
    source = dataset(toy_root, "toy_gta5", Domain.SOURCE)
    for slot in range(len(source)):
        assert torch.equal(torch.from_numpy(source.labels(slot)), source.load(slot).labels)


def test_the_target_has_no_label_anywhere(toy_root):
    target = dataset(toy_root, "toy_cityscapes_train", Domain.TARGET)
    batch = target.batch([0, 1])
    assert isinstance(batch, TargetBatch)
    fields = {f.name for f in dataclasses.fields(batch)}
    assert fields == {"images", "geometry", "names", "pseudo_labels"}
    assert batch.pseudo_labels is None


def with_pseudo_labels(root, folder, transform, labels, cache=None):
    """The target whose pseudo-labels are `labels(image)` of each of its images."""
    records = load_segmentation("toy_cityscapes_train", root)
    for record in records.records:
        write_png(pseudo_label_path(folder, record), labels(read_image(record.image)).numpy())
    return SlotDataset(
        records,
        transform,
        domain=Domain.TARGET,
        seed=0,
        space=None,
        cache=cache,
        pseudo_labels=folder,
    )


def test_pseudo_labels_take_the_way_of_their_image(toy_root, tmp_path):
    """An image's red channel as its labels: wherever a crop lies, the two agree."""
    transform = JointTransform(crop=(48, 32), flip=0.5)
    target = with_pseudo_labels(toy_root, tmp_path, transform, lambda image: image[0])
    batch = target.batch(range(8))
    assert isinstance(batch, TargetBatch)
    assert batch.pseudo_labels.dtype == torch.uint8  # a byte each, until it is on its device
    assert torch.equal(batch.pseudo_labels, batch.images[:, 0])
    on_device = batch.to(torch.device("cpu")).pseudo_labels
    assert on_device.dtype == torch.int64 and torch.equal(on_device, batch.images[:, 0].long())


@pytest.mark.parametrize("cached", [False, True])
def test_pseudo_labels_of_the_networks_size_belong_to_larger_images(toy_root, tmp_path, cached):
    transform = JointTransform(resize=(64, 32))
    target = with_pseudo_labels(
        toy_root,
        tmp_path / "labels",
        transform,
        lambda image: resize_image(image, (32, 64))[1],
        cache=tmp_path / "cache" if cached else None,
    )
    for _ in range(2):
        sample = target.load(0)
        assert sample.image.shape == (3, 32, 64)
        assert torch.equal(sample.labels, sample.image[1])
        assert sample.geometry.height == 64


def test_a_missing_pseudo_label_is_one_line(toy_root, tmp_path):
    target = with_pseudo_labels(toy_root, tmp_path, TRANSFORM, lambda image: image[0])
    path = pseudo_label_path(tmp_path, target.record(0))
    path.unlink()
    with pytest.raises(MissingFileError, match=r"--output$") as error:
        target.batch([0, 1])
    assert str(path) in str(error.value)


def test_pairs_of_different_sizes_are_named(toy_root, tmp_path):
    shutil.copytree(toy_root / "toy" / "gta5", tmp_path / "gta5")
    for label in (tmp_path / "gta5" / "labels").iterdir():
        write_png(label, torch.zeros(10, 20, dtype=torch.uint8).numpy())
    with pytest.raises(UserError, match=r"labels/.* is 20x10 but its image .* is 128x64"):
        dataset(tmp_path, "gta5", Domain.SOURCE).load(0)


def test_corrupt_image_is_named(toy_root, tmp_path):
    shutil.copytree(toy_root / "toy" / "gta5", tmp_path / "gta5")
    for image in (tmp_path / "gta5" / "images").iterdir():
        image.write_bytes(image.read_bytes()[:500])
    with pytest.raises(UserError, match="images/"):
        dataset(tmp_path, "gta5", Domain.SOURCE).load(0)


def test_images_of_different_size_cannot_share_a_batch(toy_root):
    small = dataset(toy_root, "toy_gta5", Domain.SOURCE, transform=JointTransform(crop=(8, 8)))
    large = dataset(toy_root, "toy_gta5", Domain.SOURCE, transform=JointTransform())
    with pytest.raises(UserError, match=r"INPUT\.CROP"):
        collate([small.load(0), large.load(1)])
