import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as official_labels

from shared.data.label_maps import (
    CITYSCAPES_13,
    CITYSCAPES_16,
    CITYSCAPES_19,
    ID_TABLES,
    IGNORE,
    LABEL_SPACES,
    lookup_table,
    to_label_ids,
)
from shared.errors import UserError


def test_cityscapes_equals_the_official_table_in_every_entry():
    expected = np.full(256, IGNORE, np.uint8)
    for label in official_labels:
        if label.id >= 0:
            expected[label.id] = label.trainId
    np.testing.assert_array_equal(lookup_table("cityscapes", "cityscapes19"), expected)
    names = {label.id & 255: label.name for label in official_labels}
    assert names == dict(ID_TABLES.get("cityscapes"))


def test_evaluated_classes_colors_and_ids_are_the_official_ones():
    evaluated = sorted((x for x in official_labels if not x.ignoreInEval), key=lambda x: x.trainId)
    space = LABEL_SPACES.get("cityscapes19")
    assert space.classes == tuple(x.name for x in evaluated)
    assert space.colors == tuple(x.color for x in evaluated)
    assert space.label_ids == tuple(x.id for x in evaluated)
    assert list(space.label_ids) == sorted(space.label_ids)


def test_gta5_is_cityscapes_with_a_license_plate_at_34():
    gta5, cityscapes = (
        lookup_table("gta5", "cityscapes19"),
        lookup_table("cityscapes", "cityscapes19"),
    )
    np.testing.assert_array_equal(gta5, cityscapes)
    assert ID_TABLES.get("gta5")[34] == "license plate"
    assert gta5[34] == IGNORE


def test_synthia_rand_ids():
    # (SYNTHIA id, Cityscapes train id), all other ids ignored
    pairs = {1: 10, 2: 2, 3: 0, 4: 1, 5: 4, 6: 8, 7: 5, 8: 13, 9: 7, 10: 11, 11: 18, 12: 17}
    pairs |= {15: 6, 16: 9, 17: 12, 18: 14, 19: 15, 20: 16, 21: 3}
    expected = np.full(256, IGNORE, np.uint8)
    expected[list(pairs)] = list(pairs.values())
    np.testing.assert_array_equal(lookup_table("synthia", "cityscapes19"), expected)


def test_synthia_seqs_has_its_own_ids():
    table = lookup_table("synthia_seqs", "synthia_seqs13")
    space = LABEL_SPACES.get("synthia_seqs13")
    assert sorted(table[table != IGNORE]) == list(range(13))
    assert np.flatnonzero(table != IGNORE).tolist() == [*range(1, 13), 15]
    assert [space.classes[table[i]] for i in (1, 10, 11, 12, 15)] == [
        "sky",
        "person",
        "bicycle",
        "lane marking",
        "traffic light",
    ]
    # SYNTHIA-RAND's id 12 is the motorcycle: with its table the lane marking would become one.
    assert lookup_table("synthia", "cityscapes19")[12] == CITYSCAPES_19.index("motorcycle")
    assert lookup_table("synthia_seqs", "cityscapes19")[12] == IGNORE


def test_bdd100k_holds_train_ids():
    expected = np.where(np.arange(256) < 19, np.arange(256), IGNORE)
    np.testing.assert_array_equal(lookup_table("bdd100k", "cityscapes19"), expected)


def test_sixteen_classes_are_the_nineteen_without_three():
    space = LABEL_SPACES.get("cityscapes16")
    assert set(CITYSCAPES_19) - set(space.classes) == {"terrain", "truck", "train"}
    assert set(space.protocols["16"]) - set(space.protocols["13"]) == {"wall", "fence", "pole"}
    assert (len(CITYSCAPES_16), len(CITYSCAPES_13)) == (16, 13)
    for dataset in ("cityscapes", "gta5", "synthia", "bdd100k"):
        wide, narrow = lookup_table(dataset, "cityscapes19"), lookup_table(dataset, "cityscapes16")
        for raw_id in range(256):
            name = CITYSCAPES_19[wide[raw_id]] if wide[raw_id] != IGNORE else None
            expected = space.classes.index(name) if name in space.classes else IGNORE
            assert narrow[raw_id] == expected


def test_eleven_classes_of_camvid_take_in_finer_ones():
    space = LABEL_SPACES.get("camvid11")
    released = lookup_table("camvid11", space)
    assert released[:12].tolist() == [*range(11), IGNORE]

    def members(dataset: str) -> dict[str, list[str]]:
        names, table = ID_TABLES.get(dataset), lookup_table(dataset, space)
        return {
            group: sorted({names[i] for i in names if table[i] == train_id} - {group})
            for train_id, group in enumerate(space.classes)
        }

    assert members("gta5") == {
        "sky": [],
        "building": ["bridge", "tunnel", "wall"],
        "pole": [],
        "road": [],
        "sidewalk": [],
        "vegetation": ["terrain"],
        "traffic sign": ["traffic light"],
        "fence": [],
        "car": ["bus", "train", "truck"],
        "person": [],
        "bicycle": ["motorcycle", "rider"],
    }
    assert members("camvid") == {
        "sky": [],
        "building": ["archway", "bridge", "tunnel", "wall"],
        "pole": ["traffic cone"],
        "road": ["lane marking", "road shoulder"],
        "sidewalk": ["parking block"],
        "vegetation": [],
        "traffic sign": ["text", "traffic light"],
        "fence": [],
        "car": ["other moving", "train", "truck"],
        "person": ["animal", "cart"],
        "bicycle": ["motorcycle"],
    }


@pytest.mark.parametrize("name", ["cityscapes19", "cityscapes16"])
def test_label_ids_are_the_inverse_of_the_lookup(name):
    space = LABEL_SPACES.get(name)
    there, back = to_label_ids(space), lookup_table("cityscapes", space)
    train_ids = np.arange(space.num_classes)
    np.testing.assert_array_equal(back[there[train_ids]], train_ids)
    assert not there[space.num_classes :].any()


def test_spaces_are_consistent():
    for name in LABEL_SPACES:
        space = LABEL_SPACES.get(name)
        assert space.name == name
        assert len(space.colors) == len(set(space.colors)) == len(set(space.classes))
        assert all(set(p) <= set(space.classes) for p in space.protocols.values())
        assert set(space.merged.values()) <= set(space.classes)
        assert not set(space.merged) & set(space.classes)
    assert len(list(LABEL_SPACES)) == 4


def test_misses_name_what_there_is():
    with pytest.raises(UserError, match=r"unknown label space 'cityscape19'.*'cityscapes19'"):
        lookup_table("gta5", "cityscape19")
    with pytest.raises(UserError, match=r"unknown label table 'gta'.*gta5"):
        lookup_table("gta", "cityscapes19")
    with pytest.raises(UserError, match="official Cityscapes script does not apply"):
        to_label_ids("synthia_seqs13")
