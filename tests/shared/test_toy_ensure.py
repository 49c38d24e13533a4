"""Toy data sets are made when a run names them and they are missing."""

import pytest

from shared.data.catalog import DETECTION, SEGMENTATION
from shared.toy.layouts import LAYOUTS, ensure, toy_layouts

NAMES = sorted({*DETECTION, *SEGMENTATION})


@pytest.mark.parametrize("name", NAMES)
def test_the_toy_data_sets_and_no_others_have_a_layout(name):
    layouts = toy_layouts([name])
    assert len(layouts) == name.startswith("toy_")
    assert set(layouts) <= set(LAYOUTS)


@pytest.mark.parametrize("name", ["", "toy_real_trian", "toy_gamer", "toy_real_train_fine"])
def test_a_name_that_is_nearly_one_has_none(name):
    assert toy_layouts([name]) == []


def test_it_makes_what_is_missing_once(tmp_path):
    names = ["toy_game", "toy_real_train", "toy_cityscapes_det_train", "gta5"]
    assert toy_layouts(names) == ["gta5", "cityscapes"]
    ensure(["toy_game"], tmp_path, count=1, val_count=0)
    manifest = tmp_path / "toy" / "gta5.json"
    before = manifest.stat().st_mtime_ns
    ensure(["toy_game"], tmp_path, count=2, val_count=0)
    assert manifest.stat().st_mtime_ns == before
    assert len(list((tmp_path / "toy/gta5/images").iterdir())) == 1
