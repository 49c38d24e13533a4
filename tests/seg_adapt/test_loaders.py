import dataclasses
import shutil

import pytest
import torch

from seg_adapt.data.dataset import SlotDataset, SlotLabels, collate, pseudo_label_path, read_pair
from seg_adapt.data.loaders import BatchPlan, PairedLoader
from seg_adapt.data.transforms import JointTransform, resize_image
from seg_adapt.structures import TargetBatch
from shared.catalog import load_segmentation
from shared.domain_losses import Domain
from shared.errors import UserError
from shared.images import read_image, write_png
from shared.label_maps import label_space, lookup_table

SPACE = label_space("cityscapes19")
TRANSFORM = JointTransform(scales=(0.7, 1.3), crop=(48, 32), flip=0.5)


def dataset(root, name, domain, seed=0, transform=TRANSFORM):
    space = SPACE if domain is Domain.SOURCE else None
    return SlotDataset(
        load_segmentation(name, root), transform, domain=domain, seed=seed, space=space
    )


def pairs(root, plan, start=0, stop=4, workers=0):
    loader = PairedLoader(
        dataset(root, "toy_gta5", Domain.SOURCE),
        dataset(root, "toy_cityscapes_train", Domain.TARGET),
        plan,
        start=start,
        stop=stop,
        workers=workers,
    )
    return list(loader)


def same(a, b):
    assert a.names == b.names
    assert torch.equal(a.images, b.images)
    assert all(torch.equal(vars(a.geometry)[k], vars(b.geometry)[k]) for k in vars(a.geometry))
    if hasattr(a, "labels"):
        assert torch.equal(a.labels, b.labels)


def test_sample_is_the_record_itself(toy_root):
    plain = dataset(toy_root, "toy_gta5", Domain.SOURCE, transform=JointTransform())
    sample, record = plain.load(3), plain.record(3)
    image, labels = read_pair(record, "index", lookup_table("gta5", SPACE))
    assert torch.equal(sample.image, image) and torch.equal(sample.labels, labels)
    assert sample.name == record.name


def test_an_epoch_is_a_permutation_and_epochs_differ(toy_root):
    source = dataset(toy_root, "toy_gta5", Domain.SOURCE)
    epochs = [[source.record(e * 6 + i).name for i in range(6)] for e in range(4)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_source_and_target_draw_from_separate_streams(toy_root):
    """Equal streams would pair each scene with its twin in the other domain for ever."""
    source = dataset(toy_root, "toy_cityscapes_train", Domain.SOURCE)
    target = dataset(toy_root, "toy_cityscapes_train", Domain.TARGET)
    names = [[d.record(i).name for i in range(24)] for d in (source, target)]
    assert names[0] != names[1]


def test_labels_alone_are_those_of_the_sample(toy_root):
    source = dataset(toy_root, "toy_gta5", Domain.SOURCE)
    for slot in range(len(source)):
        assert torch.equal(torch.from_numpy(SlotLabels(source)[slot]), source.load(slot).labels)


def test_the_target_has_no_label_anywhere(toy_root):
    target = dataset(toy_root, "toy_cityscapes_train", Domain.TARGET)
    assert all(record.label is None for record in target.dataset.records)
    batch = collate([target[0], target[1]])
    assert isinstance(batch, TargetBatch)
    fields = {f.name for f in dataclasses.fields(batch)}
    assert fields == {"images", "geometry", "names", "pseudo_labels"}
    assert batch.pseudo_labels is None


def with_pseudo_labels(root, folder, transform, labels, cache=None):
    """The target whose pseudo-labels are `labels(image)` of each of its images."""
    records = load_segmentation("toy_cityscapes_train", root)
    for record in records.records:
        write_png(pseudo_label_path(folder, record.name), labels(read_image(record.image)).numpy())
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
    batch = collate([target[slot] for slot in range(8)])
    assert isinstance(batch, TargetBatch)
    assert batch.pseudo_labels.dtype == torch.int64
    assert torch.equal(batch.pseudo_labels, batch.images[:, 0].long())


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
        sample = target[0]
        assert sample.image.shape == (3, 32, 64)
        assert torch.equal(sample.labels, sample.image[1])
        assert sample.geometry.height == 64


def test_a_missing_pseudo_label_is_one_line(toy_root, tmp_path):
    target = with_pseudo_labels(toy_root, tmp_path, TRANSFORM, lambda image: image[0])
    path = pseudo_label_path(tmp_path, target.record(0).name)
    path.unlink()
    error = collate([target[0], target[1]])
    assert isinstance(error, UserError)
    assert str(path) in str(error) and "--output" in str(error) and "\n" not in str(error)


def test_same_seed_same_batches_whatever_the_workers(toy_root):
    plan = BatchPlan(2, 1)
    for once, again in zip(pairs(toy_root, plan), pairs(toy_root, plan, workers=1), strict=True):
        same(once[0][1], again[0][1])
        same(once[0][2], again[0][2])


def test_resumed_loader_continues_the_stream(toy_root):
    plan = BatchPlan(2, 2)
    whole, tail = pairs(toy_root, plan), pairs(toy_root, plan, start=2)
    for expected, got in zip(whole[2:], tail, strict=True):
        for (index, *batches), (index_got, *batches_got) in zip(expected, got, strict=True):
            assert index == index_got
            for a, b in zip(batches, batches_got, strict=True):
                same(a, b)


def test_processes_divide_the_micro_batches(toy_root):
    whole = pairs(toy_root, BatchPlan(1, 4), stop=2)
    parts = [pairs(toy_root, BatchPlan(1, 4, rank, 2), stop=2) for rank in (0, 1)]
    for iteration in range(2):
        merged = sorted(parts[0][iteration] + parts[1][iteration], key=lambda item: item[0])
        assert [item[0] for item in merged] == [0, 1, 2, 3]
        for expected, got in zip(whole[iteration], merged, strict=True):
            same(expected[1], got[1])


def test_indivisible_micro_batches_are_refused():
    with pytest.raises(UserError, match=r"ACCUMULATE 3 .* 2 processes: make it a multiple of 2"):
        BatchPlan(1, 3, 0, 2)
    with pytest.raises(UserError, match="at least 1"):
        BatchPlan(0, 1)


def test_no_target_where_none_is_needed(toy_root):
    loader = PairedLoader(
        dataset(toy_root, "toy_gta5", Domain.SOURCE), None, BatchPlan(1), start=0, stop=1
    )
    assert next(iter(loader))[0][2] is None


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_files_give_one_line_also_from_a_worker(toy_root, tmp_path, workers):
    shutil.copytree(toy_root / "toy" / "gta5", tmp_path / "gta5")
    for label in (tmp_path / "gta5" / "labels").iterdir():
        write_png(label, torch.zeros(10, 20, dtype=torch.uint8).numpy())
    loader = PairedLoader(
        dataset(tmp_path, "gta5", Domain.SOURCE),
        None,
        BatchPlan(1),
        start=0,
        stop=1,
        workers=workers,
    )
    with pytest.raises(UserError, match=r"labels/.* is 20x10 but its image .* is 128x64") as error:
        next(iter(loader))
    assert "\n" not in str(error.value)


def test_corrupt_image_is_named(toy_root, tmp_path):
    shutil.copytree(toy_root / "toy" / "gta5", tmp_path / "gta5")
    for image in (tmp_path / "gta5" / "images").iterdir():
        image.write_bytes(image.read_bytes()[:500])
    sample = dataset(tmp_path, "gta5", Domain.SOURCE)[0]
    assert isinstance(sample, UserError) and "images/" in str(sample)


def test_images_of_different_size_cannot_share_a_batch(toy_root):
    small = dataset(toy_root, "toy_gta5", Domain.SOURCE, transform=JointTransform(crop=(8, 8)))
    large = dataset(toy_root, "toy_gta5", Domain.SOURCE, transform=JointTransform())
    error = collate([small[0], large[1]])
    assert isinstance(error, UserError) and "INPUT.CROP" in str(error)


def test_source_without_labels_is_refused(toy_root):
    unlabelled = load_segmentation("toy_gta5", toy_root)
    records = tuple(dataclasses.replace(r, label=None) for r in unlabelled.records)
    with pytest.raises(UserError, match="has no label for"):
        SlotDataset(
            dataclasses.replace(unlabelled, records=records),
            TRANSFORM,
            domain=Domain.SOURCE,
            seed=0,
            space=SPACE,
        )
    with pytest.raises(UserError, match="no images"):
        SlotDataset(
            dataclasses.replace(unlabelled, records=()),
            TRANSFORM,
            domain=Domain.TARGET,
            seed=0,
            space=None,
        )
