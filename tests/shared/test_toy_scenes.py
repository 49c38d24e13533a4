"""The procedural street scenes: ground truth consistent with itself, domains as promised."""

from itertools import combinations

import cv2
import numpy as np
import pytest

from shared.data.label_maps import CITYSCAPES_19
from shared.errors import UserError
from shared.toy import DOMAINS, LABEL_IDS, THINGS, render
from shared.toy.domains import CONTENTS
from shared.toy.world import Item, far_to_near

SMALL = {"height": 128, "width": 256}


@pytest.mark.parametrize("domain", DOMAINS)
def test_same_arguments_same_bytes(domain):
    first = render(domain, 3, seed=1, **SMALL)
    render("game", 8)
    render(domain, 4, seed=1, **SMALL)
    again = render(domain, 3, seed=1, **SMALL)
    for name in ("image", "label_ids", "instance_ids", "depth"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()


def test_index_seed_and_domain_matter():
    base = render("real", 3, seed=1, **SMALL)
    for other in (
        render("real", 4, seed=1, **SMALL),
        render("real", 3, seed=2, **SMALL),
        render("game", 3, seed=1, **SMALL),
    ):
        assert not np.array_equal(base.image, other.image)
        assert not np.array_equal(base.label_ids, other.label_ids)


@pytest.mark.parametrize("domain", DOMAINS)
def test_types_and_instance_convention(domain):
    frame = render(domain, 5, **SMALL)
    assert frame.image.shape == (128, 256, 3)
    assert frame.image.dtype == np.uint8
    assert frame.label_ids.shape == frame.instance_ids.shape == frame.depth.shape == (128, 256)
    assert frame.label_ids.dtype == np.uint8
    assert frame.instance_ids.dtype == np.uint16
    assert frame.depth.dtype == np.float32
    things = frame.instance_ids >= 1000
    expected = np.where(things, frame.instance_ids // 1000, frame.instance_ids)
    np.testing.assert_array_equal(frame.label_ids, expected)
    thing_ids = {LABEL_IDS[name] for name in THINGS}
    assert set(np.unique(frame.label_ids[things])) <= thing_ids
    assert set(np.unique(frame.label_ids)) <= set(LABEL_IDS.values())


@pytest.mark.parametrize("domain", ["game", "real", "synthia", "winter"])
def test_pictures_are_the_painted_polygons(domain):
    for index in range(4):
        frame = render(domain, index, seed=2)
        labels = np.zeros((256, 512), np.uint8)
        instances = np.zeros((256, 512), np.uint16)
        for item in frame.objects:
            assert item.polygon.dtype == np.int32
            value = item.label_id
            if item.instance:
                value = item.label_id * 1000 + item.instance - 1
            cv2.fillPoly(labels, [item.polygon], item.label_id)
            cv2.fillPoly(instances, [item.polygon], value)
        np.testing.assert_array_equal(frame.label_ids, labels)
        np.testing.assert_array_equal(frame.instance_ids, instances)


def test_things_are_numbered_from_one_per_class_and_nothing_else_is():
    for index in range(10):
        numbers: dict[str, set[int]] = {}
        for item in render("real", index, **SMALL).objects:
            if item.label in THINGS:
                numbers.setdefault(item.label, set()).add(item.instance)
            else:
                assert item.instance == 0
        for seen in numbers.values():
            assert seen == set(range(1, len(seen) + 1))


def test_depth_is_that_of_a_pinhole_over_a_flat_road():
    frame = render("game", 0)
    road = frame.label_ids == LABEL_IDS["road"]
    rows = np.flatnonzero(road.any(axis=1))
    # On a plane 1 / depth is linear in the row: three rows of it lie on one line.
    rows = rows[[len(rows) // 2, 3 * len(rows) // 4, -1]]
    inverse = [1.0 / np.median(frame.depth[row][road[row]]) for row in rows]
    slope = (inverse[2] - inverse[0]) / (rows[2] - rows[0])
    assert inverse[1] == pytest.approx(inverse[0] + slope * (rows[1] - rows[0]), rel=0.02)
    assert np.isfinite(frame.depth).all()
    assert frame.depth.min() >= 1.0
    sky = frame.label_ids == LABEL_IDS["sky"]
    np.testing.assert_allclose(frame.depth[sky], 1000.0, rtol=1e-3)


def test_cars_are_as_tall_as_their_depth_says():
    checked = 0
    for index in range(12):
        frame = render("game", index)
        outlines: dict[int, list[np.ndarray]] = {}
        nearest: dict[int, float] = {}
        for item in frame.objects:
            if item.label == "car":
                outlines.setdefault(item.instance, []).append(item.polygon)
                nearest[item.instance] = item.depth
        for number, parts in outlines.items():
            rows = np.concatenate(parts)[:, 1]
            tall = (rows.max() - rows.min()) * nearest[number] / 512
            low, high = CONTENTS["game"].focal
            assert 1.2 * low < tall < 2.4 * high
            checked += 1
    assert checked > 20


def test_fog_is_exponential_in_depth():
    clear = render("real", 2, seed=5)
    thin = render("foggy", 2, seed=5, fog_beta=0.005)
    thick = render("foggy", 2, seed=5, fog_beta=0.02)
    none = render("foggy", 2, seed=5, fog_beta=0.0)
    np.testing.assert_array_equal(clear.label_ids, thick.label_ids)
    np.testing.assert_array_equal(clear.instance_ids, thick.instance_ids)
    np.testing.assert_array_equal(clear.depth, thick.depth)
    assert np.abs(none.image.astype(int) - clear.image).max() <= 1
    # The sky shows the atmospheric light A; then I = J·t + A·(1 − t) everywhere.
    airlight = np.median(thick.image[clear.depth > 900], axis=0)
    for frame, beta in ((thin, 0.005), (thick, 0.02)):
        t = np.exp(-beta * clear.depth)[..., None]
        expected = clear.image * t + airlight * (1.0 - t)
        assert np.abs(frame.image - expected).max() <= 2.0


def test_foggy_differs_from_real_only_by_weather_and_beta_touches_nothing_else():
    assert np.array_equal(
        render("real", 1, fog_beta=0.01, **SMALL).image, render("real", 1, **SMALL).image
    )


@pytest.mark.parametrize(
    "domains",
    [
        ("game", "synthia", "summer", "fall", "winter"),
        ("real", "foggy", "dusk"),
        ("clipart", "watercolor"),
    ],
)
def test_domains_of_one_world_differ_in_their_looks_alone(domains):
    first, *others = frames = [render(name, 6, **SMALL) for name in domains]
    for other in others:
        np.testing.assert_array_equal(first.label_ids, other.label_ids)
        np.testing.assert_array_equal(first.instance_ids, other.instance_ids)
    for frame, other in combinations(frames, 2):
        assert np.abs(frame.image.astype(int) - other.image).mean() > 8


def test_snow_is_gray():
    frames = [render("winter", k, **SMALL) for k in range(8)]
    terrain = np.concatenate([f.image[f.label_ids == LABEL_IDS["terrain"]] for f in frames])
    assert len(terrain) > 0 and terrain.std(axis=1).mean() < 20


@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 256), (512, 1024), (200, 480)])
def test_other_sizes_show_the_same_scene(height, width):
    small = render("real", 9, height=height, width=width)
    assert small.image.shape == (height, width, 3)
    if width == 2 * height:
        full = render("real", 9)
        resized = cv2.resize(full.label_ids, (width, height), interpolation=cv2.INTER_NEAREST)
        assert (resized == small.label_ids).mean() > (0.85 if height == 64 else 0.93)
        assert np.median(np.abs(small.depth / cv2.resize(full.depth, (width, height)) - 1)) < 0.1


@pytest.mark.parametrize("domain", ["game", "real"])
def test_class_frequencies(domain):
    count = 60
    seen = np.zeros(256, int)
    void = 0
    for index in range(count):
        label_ids = render(domain, index, seed=11, **SMALL).label_ids
        areas = np.bincount(label_ids.reshape(-1), minlength=256)
        seen += areas >= 8
        void += sum(areas[k] for k in (1, 4, 5, 6, 9))
    assert void > 0
    for name in CITYSCAPES_19:
        least = 0.05 if name in ("train", "rider", "motorcycle") else 0.1
        assert seen[LABEL_IDS[name]] / count >= least, name


def test_domains_differ_in_more_than_color():
    def residual(domain: str) -> float:
        """Share of fine structure after each channel is normalized."""
        values = []
        for index in range(6):
            image = render(domain, index, **SMALL).image.astype(np.float32)
            image = (image - image.mean(axis=(0, 1))) / image.std(axis=(0, 1))
            flat = np.abs(cv2.Laplacian(image, cv2.CV_32F, ksize=1))
            values.append(np.median(flat))
        return float(np.mean(values))

    assert residual("real") > 5 * residual("game") + 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gme", 0, {}), "did you mean 'game'"),
        (("gme", 0, {}), "watercolor"),
        (("game", 0, {"height": 63, "width": 128}), "64×128"),
        (("game", 0, {"height": 64, "width": 100}), "64×100"),
        (("game", -1, {}), "-1"),
    ],
)
def test_wrong_requests(arguments, message):
    domain, index, options = arguments
    with pytest.raises(UserError, match=message):
        render(domain, index, **options)


def test_long_vehicles_are_painted_before_what_stands_in_front_of_their_side():
    def item(x: float, near: float, far: float) -> Item:
        return Item(x, near, far, lambda: None)

    tram = item(-6.8, 5.0, 29.0)
    beside = item(-3.4, 12.0, 16.0)
    behind = item(-9.0, 8.0, 8.1)
    beyond = item(-3.4, 40.0, 44.0)
    opposite = item(4.0, 10.0, 10.1)
    order = far_to_near([tram, beside, behind, beyond, opposite])
    assert len(order) == 5
    place = {id(thing): k for k, thing in enumerate(order)}
    assert place[id(beyond)] < place[id(tram)] < place[id(beside)]
    assert place[id(behind)] < place[id(tram)]
