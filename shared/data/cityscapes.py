"""Boxes and instances of Cityscapes, and of Foggy Cityscapes, which shares its annotations.

`cityscapes/gtFine/<split>/<city>/*_gtFine_instanceIds.png` is 16-bit: 1000 · class id + number for
an instance; the class id alone for stuff, and for a group of things that nobody separated. Boxes
are the extents of the visible pixels, so a car behind a pole has one box and no hidden part; or, in
data sets whose names end in `_polygons`, those of the outlines in `*_gtFine_polygons.json`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shared.data.annotations import (
    Row,
    annotations_of,
    choose_classes,
    read_rows,
    read_sizes,
    row,
    thing,
)
from shared.data.folders import Place, city_files, matched_names
from shared.data.label_maps import ID_TABLES
from shared.data.records import DetectionDataset, DetectionRecord
from shared.errors import MissingFileError, UserError

CITYSCAPES_THINGS = (*("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),)
FOG_BETAS = ("0.005", "0.01", "0.02")

_FIRST_INSTANCE = 1000
_GROUP = "group"
_THING_IDS = {i: n for i, n in ID_TABLES.get("cityscapes").items() if n in CITYSCAPES_THINGS}


def read_instance_ids(path: str | Path) -> np.ndarray:
    """A 16-bit instance PNG.

    Returns:
        (H, W) uint16.
    """
    try:
        with Image.open(path) as image:
            mode, array = image.mode, np.array(image)
    except FileNotFoundError:
        raise MissingFileError(f"no file {path}") from None
    except (OSError, SyntaxError, ValueError):
        raise UserError(f"{path} is damaged or no image; unpack it again") from None
    # Older Pillows call 16-bit grey "I".
    if mode not in {"I;16", "I"}:
        raise UserError(
            f"{path} holds no instance ids: got an image of mode {mode}, expected 16-bit grey; use "
            "gtFine's *_gtFine_instanceIds.png"
        )
    return array.astype(np.uint16)


def read_instances(path: Path) -> Row:
    """Extents of every instance of the eight classes, and of every class's groups as one crowd."""
    ids = read_instance_ids(path)
    is_present = np.zeros(2**16, bool)
    is_present[ids] = True
    present = np.flatnonzero(is_present)
    class_of = np.where(present < _FIRST_INSTANCE, present, present // _FIRST_INSTANCE)
    values = present[np.isin(class_of, list(_THING_IDS))]
    height, width = ids.shape
    number_of = np.full(2**16, -1, np.int32)
    number_of[values] = np.arange(len(values))
    numbers = number_of[ids]
    ys, xs = np.nonzero(numbers >= 0)
    on_rows = np.zeros((len(values), height), bool)
    on_columns = np.zeros((len(values), width), bool)
    on_rows[numbers[ys, xs], ys] = True
    on_columns[numbers[ys, xs], xs] = True
    things = []
    for value, rows, columns in zip(values.tolist(), on_rows, on_columns, strict=True):
        crowd = value < _FIRST_INSTANCE
        name = _THING_IDS[value if crowd else value // _FIRST_INSTANCE]
        ys, xs = np.flatnonzero(rows), np.flatnonzero(columns)
        box = float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)
        things.append(thing(name, box, crowd=crowd, instance=value))
    return row(height, width, things)


def read_outlines(path: Path) -> Row:
    """Extents of every thing's outline, its hidden parts included; a group's is a crowd.

    A vertex covers its pixel, as in the instance PNGs: an outline from 120 to 180 is 61 wide.
    """
    try:
        drawn = json.loads(path.read_bytes())
        height, width, objects = drawn["imgHeight"], drawn["imgWidth"], drawn["objects"]
        things = []
        for entry in objects:
            name = entry["label"].removesuffix(_GROUP)
            if name in CITYSCAPES_THINGS and not entry.get("deleted"):
                xs, ys = zip(*entry["polygon"], strict=True)
                box = float(min(xs)), float(min(ys)), float(max(xs) + 1), float(max(ys) + 1)
                things.append(thing(name, box, crowd=entry["label"] != name))
    except FileNotFoundError:
        raise MissingFileError(f"no file {path}") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path} is no outline file of Cityscapes, expected imgHeight, imgWidth and objects "
            "with label and polygon; unpack gtFine again"
        ) from None
    return row(height, width, things)


def cityscapes_detection_layout(
    place: Place,
    labelled: bool,
    wanted: Sequence[str] | None,
    *,
    split: str,
    polygons: bool = False,
) -> DetectionDataset:
    """The clear frames of a split.

    Args:
        polygons: boxes around the drawn outlines; without instances, hence without masks.
    """
    images = place.folder(f"cityscapes/leftImg8bit/{split}")
    files = {n: (path, n) for n, path in city_files(images, "_leftImg8bit").items()}
    key = f"cityscapes-{split}"
    return _dataset(place, labelled, wanted, split, images, files, key, polygons)


def foggy_cityscapes_layout(
    place: Place,
    labelled: bool,
    wanted: Sequence[str] | None,
    *,
    split: str,
    beta: str,
    polygons: bool = False,
) -> DetectionDataset:
    """The frames of a split in fog: `<city>_<seq>_<frame>_foggy_beta_<beta>` is a record's name.

    Args:
        beta: attenuation per metre, one of `FOG_BETAS`; or "all", every frame three times.
        polygons: as for the clear frames.
    """
    if beta not in (*FOG_BETAS, "all"):
        raise UserError(f"got fog β {beta}, expected one of {', '.join(FOG_BETAS)}, or all")
    images = place.folder(
        f"cityscapes/leftImg8bit_foggy/{split}", f"cityscapes_foggy/leftImg8bit/{split}"
    )
    found = _foggy_files(place, images)
    files = {}
    for chosen in FOG_BETAS if beta == "all" else (beta,):
        lacking = sorted(frame for frame, paths in found.items() if chosen not in paths)
        if lacking:
            betas = sorted({b for paths in found.values() for b in paths})
            raise UserError(
                f"data set '{place.name}': {len(lacking)} of {len(found)} frames in {images} have "
                f"no picture of β {chosen} (first: {lacking[0]}; there is β {', '.join(betas)}); "
                "unpack leftImg8bit_trainvaltest_foggy.zip again, or name the β that is there"
            )
        for frame, paths in found.items():
            files[f"{frame}_foggy_beta_{chosen}"] = (paths[chosen], frame)
    key = f"foggy-{split}-{beta}"
    return _dataset(place, labelled, wanted, split, images, files, key, polygons)


def _foggy_files(place: Place, folder: Path) -> dict[str, dict[str, Path]]:
    """Frame → β → picture."""
    found: dict[str, dict[str, Path]] = {}
    for stem, path in city_files(folder, "").items():
        frame, cut, beta = stem.partition("_leftImg8bit_foggy_beta_")
        if not cut:
            raise UserError(
                f"data set '{place.name}': {path} has no β in its name; expected "
                "<city>_<seq>_<frame>_leftImg8bit_foggy_beta_<β>.png"
            )
        found.setdefault(frame, {})[beta] = path
    return found


def _dataset(
    place: Place,
    labelled: bool,
    wanted: Sequence[str] | None,
    split: str,
    images: Path,
    files: Mapping[str, tuple[Path, str]],
    key: str,
    polygons: bool,
) -> DetectionDataset:
    """
    Args:
        files: record name → picture, and the frame whose annotations it has.
        key: names the pictures in the index cache.
    """
    classes = choose_classes(place, wanted, CITYSCAPES_THINGS, CITYSCAPES_THINGS)
    pictures = {name: path for name, (path, _) in files.items()}
    official = place.root / "cityscapes" if split == "val" and not polygons else None
    if not labelled:
        names = matched_names(place, pictures, None, images)
        sizes = read_sizes(key, [images], pictures)
        records = tuple(DetectionRecord(n, pictures[n], *sizes[n], None) for n in names)
        return DetectionDataset(place.name, records, classes, split)
    folder = place.folder(f"cityscapes/gtFine/{split}")
    if polygons:
        truths = city_files(folder, "_gtFine_polygons", ".json")
        rows = read_rows(place, f"polygons-{split}", [folder], read_outlines, truths)
    else:
        truths = city_files(folder, "_gtFine_instanceIds")
        rows = read_rows(place, f"instances-{split}", [folder], read_instances, truths)
    labels = {name: truths[frame] for name, (_, frame) in files.items() if frame in truths}
    records = []
    for name in matched_names(place, pictures, labels, images):
        height, width, things, _ = rows[files[name][1]]
        annotations = annotations_of(things, classes)
        instances = None if polygons else labels[name]
        records.append(DetectionRecord(name, pictures[name], height, width, annotations, instances))
    return DetectionDataset(place.name, tuple(records), classes, split, official)
