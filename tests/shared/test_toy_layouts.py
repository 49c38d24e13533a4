"""Every layout on disk holds exactly what was rendered."""

import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.csHelpers import getCsFileInfo
from cityscapesscripts.helpers.labels import name2label
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from PIL import Image

from shared.data.catalog import load_segmentation
from shared.data.images import read_image, read_labels
from shared.data.label_maps import CITYSCAPES_19, ID_TABLES, lookup_table
from shared.toy import ToyFrame, ToyObject, render
from shared.toy.layouts import LAYOUTS
from shared.toy.layouts.annotations import outlines, shapes, visible_objects
from shared.toy.layouts.base import Frame
from shared.toy.layouts.detection import kitti_line, voc_xml
from shared.toy.layouts.segmentation import polygons

HEIGHT, WIDTH = 96, 192
SIZE = {"height": HEIGHT, "width": WIDTH}
SMALL = {"count": 3, "val_count": 2, "workers": 1, "progress": False, **SIZE}


def frames_of(name: str) -> list[Frame]:
    return LAYOUTS.get(name).frames(SMALL["count"], SMALL["val_count"])


def frames_and_files(all_toys: Path, name: str) -> list[tuple[Frame, ToyFrame, list[Path]]]:
    return [
        (
            frame,
            render(frame.domain, frame.index, **SIZE),
            [all_toys / "toy" / file for file in LAYOUTS.get(name).files(frame)],
        )
        for frame in frames_of(name)
    ]


def rgb(path: Path) -> np.ndarray:
    return read_image(path).permute(1, 2, 0).numpy()


def names(label_ids: np.ndarray, data_set: str) -> np.ndarray:
    table = ID_TABLES.get(data_set)
    return np.array([table.get(i, "void") for i in range(256)])[label_ids]


def test_gta5_index_is_the_label_id(all_toys):
    for _, toy, (image, label) in frames_and_files(all_toys, "gta5"):
        assert np.array_equal(rgb(image), toy.image)
        with Image.open(label) as picture:
            assert picture.mode == "P"
            assert np.array_equal(np.asarray(picture), toy.label_ids)
            palette = np.array(picture.getpalette()).reshape(-1, 3)
        for name in CITYSCAPES_19:
            assert tuple(palette[name2label[name].id]) == name2label[name].color


def test_synthia_channels_are_16_bit_class_and_instance(all_toys):
    for _, toy, (image, label, color, depth) in frames_and_files(all_toys, "synthia"):
        assert np.array_equal(rgb(image), toy.image)
        channels = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[..., ::-1]
        assert channels.dtype == np.uint16
        expected = names(toy.label_ids, "cityscapes")
        known = np.isin(expected, list(ID_TABLES.get("synthia").values()))
        got = names(channels[..., 0], "synthia")
        assert np.array_equal(got[known], expected[known])
        assert set(np.unique(got[~known])) <= {"void"}
        assert set(CITYSCAPES_19) & set(expected[~known]) == set()
        thing = toy.instance_ids >= 1000
        assert np.array_equal(channels[..., 1] > 0, thing)
        pairs = np.unique(np.stack([channels[thing, 1], toy.instance_ids[thing]]), axis=1)
        assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))
        assert not channels[..., 2].any()
        on_car = got == "car"
        assert (rgb(color)[on_car] == name2label["car"].color).all()
        centimeters = cv2.imread(str(depth), cv2.IMREAD_UNCHANGED)
        assert centimeters.dtype == np.uint16 and centimeters.shape == channels.shape
        near = toy.depth < 600
        assert np.abs(centimeters[near, 0] / 100.0 - toy.depth[near]).max() < 0.0051


def test_synthia_seqs_have_their_own_ids(all_toys):
    seen = Counter()
    for frame, toy, (image, label) in frames_and_files(all_toys, "synthia_seqs"):
        assert f"SYNTHIA-SEQS-01-{frame.domain.upper()}/RGB/Stereo_Left/Omni_F/" in str(image)
        classes = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[..., 2]
        expected = names(toy.label_ids, "cityscapes")
        expected[expected == "rider"] = "bicycle"
        known = np.isin(expected, list(ID_TABLES.get("synthia_seqs").values()))
        assert np.array_equal(names(classes, "synthia_seqs")[known], expected[known])
        assert not classes[~known].any()
        seen.update(np.unique(classes).tolist())
    assert set(seen) <= {*range(12), 15}
    assert {1, 2, 3, 4, 6, 8} <= set(seen)


def test_cityscapes_annotations(all_toys):
    for frame, toy, (image, label, instance, color, outline) in frames_and_files(
        all_toys, "cityscapes"
    ):
        assert np.array_equal(rgb(image), toy.image)
        assert np.array_equal(read_labels(label, "index").numpy(), toy.label_ids)
        with Image.open(instance) as picture:
            assert picture.mode == "I;16"
            assert np.array_equal(np.asarray(picture), toy.instance_ids)
        with Image.open(color) as picture:
            assert picture.mode == "RGBA"
            on_road = toy.label_ids == name2label["road"].id
            assert (np.asarray(picture)[on_road] == (*name2label["road"].color, 255)).all()
        for path, kind in ((image, "leftImg8bit"), (label, "gtFine"), (outline, "gtFine")):
            info = getCsFileInfo(str(path))
            assert info.city == path.parent.name and info.type == kind
        assert image.parents[1].name == frame.split


def test_polygons_paint_the_label_ids_again(all_toys):
    agreement = []
    for _, toy, (_, _, _, _, path) in frames_and_files(all_toys, "cityscapes"):
        truth = json.loads(path.read_text())
        assert (truth["imgHeight"], truth["imgWidth"]) == (HEIGHT, WIDTH)
        painted = np.zeros((HEIGHT, WIDTH), np.uint8)
        for item in truth["objects"]:
            assert len(item["polygon"]) >= 3
            label = name2label[item["label"].removesuffix("group")]
            cv2.fillPoly(painted, [np.array(item["polygon"], np.int32)], label.id)
        assert np.array_equal(painted, toy.label_ids)
        annotation = Annotation()
        annotation.fromJsonFile(path)
        official = np.asarray(createLabelImage(annotation, "ids"))
        agreement.append((official == toy.label_ids).mean())
    # Pillow and OpenCV differ on which border pixels belong to a slanted edge.
    assert min(agreement) > 0.97


@pytest.mark.parametrize("domain", ["game", "real", "clipart"])
def test_one_polygon_for_each_instance(domain):
    outlined, things = 0, 0
    for index in range(40):
        toy = render(domain, index, **SIZE)
        for parts in shapes(toy.objects):
            if parts[0].instance:
                things += 1
                outlined += len(outlines(parts, (HEIGHT, WIDTH)))
    assert outlined <= 1.02 * things


def test_foggy_frames_are_the_clear_frames_in_fog(all_toys):
    clear, foggy = frames_of("cityscapes"), frames_and_files(all_toys, "cityscapes_foggy")
    assert [f.index for f in clear] == [f.index for f, _, _ in foggy]
    for frame, (_, _, fogs) in zip(clear, foggy, strict=True):
        image = all_toys / "toy" / LAYOUTS.get("cityscapes").files(frame)[0]
        assert [f.name for f in fogs] == [
            image.name.replace("leftImg8bit", f"leftImg8bit_foggy_beta_{beta}")
            for beta in ("0.005", "0.01", "0.02")
        ]
        for path, beta in zip(fogs, (0.005, 0.01, 0.02), strict=True):
            expected = render("foggy", frame.index, fog_beta=beta, **SIZE).image
            assert np.array_equal(rgb(path), expected)


def test_bdd100k_masks_are_train_ids(all_toys):
    for frame, toy, (image, mask) in frames_and_files(all_toys, "bdd100k"):
        assert image.stem == mask.stem and image.parent.name == frame.split
        table = lookup_table("cityscapes", "cityscapes19")
        assert np.array_equal(read_labels(mask, "index").numpy(), table[toy.label_ids])
        assert np.abs(rgb(image).astype(int) - toy.image).mean() < 4


def boxes(toy: ToyFrame, classes: dict[str, str]) -> Counter:
    """(class, x0, y0, x1, y1) of every instance with ten visible pixels, x1 and y1 exclusive."""
    found = Counter()
    for value in np.unique(toy.instance_ids[toy.instance_ids >= 1000]):
        rows, columns = np.nonzero(toy.instance_ids == value)
        name = names(np.array(value // 1000), "cityscapes").item()
        if name in classes and len(rows) >= 10:
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            found[(classes[name], *map(int, box))] += 1
    return found


VOC = {"person": "person", "rider": "person", "car": "car", "bus": "bus", "train": "train"}
VOC |= {"motorcycle": "motorbike", "bicycle": "bicycle"}
SIX = {name: VOC[name] for name in ("person", "rider", "car", "bicycle")}


@pytest.mark.parametrize(
    ("name", "classes"),
    [("sim10k", {"car": "car"}), ("clipart", VOC), ("watercolor", SIX), ("voc", VOC)],
)
def test_voc_boxes_are_one_based_and_inclusive(all_toys, name, classes):
    listed = {}
    total = 0
    for frame, toy, (image, xml) in frames_and_files(all_toys, name):
        tree = ElementTree.parse(xml).getroot()
        assert tree.findtext("filename") == image.name and image.is_file()
        assert int(tree.findtext("size/width")) == WIDTH
        assert int(tree.findtext("size/height")) == HEIGHT
        found = Counter()
        for item in tree.iter("object"):
            edges = [int(item.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax")]
            assert 1 <= edges[0] <= edges[2] <= WIDTH and 1 <= edges[1] <= edges[3] <= HEIGHT
            if item.findtext("difficult") == "0":
                box = (edges[0] - 1, edges[1] - 1, edges[2], edges[3])
                found[(item.findtext("name"), *box)] += 1
        assert found == boxes(toy, classes)
        total += found.total()
        split = all_toys / "toy" / frame.data_set / "ImageSets/Main" / f"{frame.split}.txt"
        listed.setdefault(split, []).append(image.stem)
    assert total > 0
    for split, stems in listed.items():
        assert split.read_text().split() == stems
    assert len({stem for stems in listed.values() for stem in stems}) == len(frames_of(name))


def test_kitti_lines(all_toys):
    types = {"person": "Pedestrian", "rider": "Cyclist", "car": "Car", "truck": "Truck"}
    types |= {"bus": "Misc", "train": "Tram"}
    for _, toy, (image, label) in frames_and_files(all_toys, "kitti"):
        assert np.array_equal(rgb(image), toy.image)
        found = Counter()
        for line in label.read_text().splitlines():
            fields = line.split()
            assert len(fields) == 15
            box = tuple(float(field) for field in fields[4:8])
            assert 0 <= box[0] < box[2] <= WIDTH and 0 <= box[1] < box[3] <= HEIGHT
            if fields[0] != "DontCare":
                assert 0 <= float(fields[1]) <= 1 and fields[2] in {"0", "1", "2"}
                found[(fields[0], *map(int, box))] += 1
        assert found == boxes(toy, types)


def square(left: int, top: int, side: int) -> np.ndarray:
    corners = [(0, 0), (side - 1, 0), (side - 1, side - 1), (0, side - 1)]
    return np.array(corners, np.int32) + np.array([left, top], np.int32)


def test_truncation_and_occlusion_are_shares_of_the_silhouette():
    road = ToyObject("road", square(-50, -50, 200), 0, 1.0)
    half_out = ToyObject("car", square(-10, 10, 20), 1, 30.0)
    half_hidden = ToyObject("car", square(30, 10, 20), 2, 20.0)
    cover = ToyObject("building", square(40, 0, 40), 0, 10.0)
    hidden = ToyObject("person", square(50, 10, 5), 1, 15.0)
    objects = (road, half_out, half_hidden, hidden, cover)
    instance_ids = np.zeros((60, 100), np.uint16)
    for item in objects:
        cv2.fillPoly(instance_ids, [item.polygon], item.instance_id)
    toy = ToyFrame(None, None, instance_ids, None, objects)
    first, second = visible_objects(toy)
    assert (first.box, first.pixels) == ((0, 10, 10, 30), 200)
    assert (first.truncation, first.occlusion) == (0.5, 0.0)
    assert (second.box, second.pixels) == ((30, 10, 40, 30), 200)
    assert (second.truncation, second.occlusion) == (0.0, 0.5)


def test_groups_and_specks_are_boxes_nobody_has_to_find():
    group = ToyObject("persongroup", square(10, 10, 12), 0, 20.0)
    speck = ToyObject("person", square(50, 20, 3), 1, 60.0)
    clear = ToyObject("person", square(70, 20, 4), 2, 50.0)
    instance_ids = np.zeros((60, 100), np.uint16)
    for item in (group, speck, clear):
        cv2.fillPoly(instance_ids, [item.polygon], item.instance_id)
    label_ids = np.where(instance_ids >= 1000, instance_ids // 1000, instance_ids)
    toy = ToyFrame(None, label_ids, instance_ids, None, (group, speck, clear))
    things = visible_objects(toy)
    assert [(t.label, t.group, t.pixels) for t in things] == [
        ("person", True, 144),
        ("person", False, 9),
        ("person", False, 16),
    ]
    unknown = "-1 -1 -1 -1000 -1000 -1000 -10"
    assert [kitti_line(thing) for thing in things] == [
        f"DontCare -1 -1 -10 10.00 10.00 22.00 22.00 {unknown}",
        f"DontCare -1 -1 -10 50.00 20.00 53.00 23.00 {unknown}",
        f"Pedestrian 0.00 0 -10 70.00 20.00 74.00 24.00 {unknown}",
    ]
    xml = voc_xml("VOC2007", "000001.jpg", (60, 100), [("person", t) for t in things])
    difficult = [e.text for e in ElementTree.fromstring(xml).iter("difficult")]
    assert difficult == ["1", "1", "0"]
    assert [item["label"] for item in polygons(toy)["objects"]] == [
        "persongroup",
        "person",
        "person",
    ]


def test_a_hole_is_no_part_of_the_outline():
    ring = tuple(
        ToyObject("bicycle", polygon, 1, 9.0)
        for polygon in (
            np.array([(5, 5), (24, 5), (24, 9), (5, 9)], np.int32),
            np.array([(5, 20), (24, 20), (24, 24), (5, 24)], np.int32),
            np.array([(5, 5), (9, 5), (9, 24), (5, 24)], np.int32),
            np.array([(20, 5), (24, 5), (24, 24), (20, 24)], np.int32),
        )
    )
    (outline,) = outlines(ring, (40, 40))
    painted, expected = np.zeros((2, 40, 40), np.uint8)
    cv2.fillPoly(painted, [outline], 1)
    cv2.fillPoly(expected, [square(5, 5, 20)], 1)
    expected[10:20, 10:20] = 0
    assert np.array_equal(painted, expected)
    assert len(outline) <= 15


def test_no_two_splits_show_the_same_street():
    indices = Counter()
    for name in LAYOUTS:
        if name != "cityscapes_foggy":
            indices.update(f.index for f in LAYOUTS.get(name).frames(40, 30))
    assert max(indices.values()) == 1


def test_the_catalog_finds_every_toy_data_set(all_toys):
    sizes = {
        "toy_gta5": 3,
        "toy_synthia": 3,
        "toy_synthia_seqs_summer": 3,
        "toy_synthia_seqs_fall": 3,
        "toy_synthia_seqs_winter": 3,
    }
    sizes |= {
        "toy_cityscapes_train": 3,
        "toy_cityscapes_val": 2,
        "toy_bdd100k_train": 3,
        "toy_bdd100k_val": 2,
    }
    for name, size in sizes.items():
        dataset = load_segmentation(name, all_toys, labelled=True)
        assert len(dataset.records) == size
        space = "synthia_seqs13" if dataset.id_table == "synthia_seqs" else "cityscapes19"
        table = lookup_table(dataset.id_table, space)
        for record in dataset.records:
            train_ids = table[read_labels(record.label, dataset.encoding).numpy()]
            assert (train_ids != 255).mean() > 0.5
