"""Boxes and instances of Cityscapes, and of Foggy Cityscapes, which shares its annotations.

`cityscapes/gtFine/<split>/<city>/*_gtFine_instanceIds.png` is 16-bit: 1000 · class id + number for
an instance; the class id alone for stuff, and for a group of objects that nobody separated. Boxes
are the extents of the visible pixels, so a car behind a pole has one box and no hidden part; or, in
data sets whose names end in `_polygons`, those of the outlines in `*_gtFine_polygons.json`.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shared.data.annotations import AnnotationFile, DetectionFiles
from shared.data.folders import Files, Location, city_files, match
from shared.data.label_maps import ID_TABLES
from shared.data.records import Annotation, Fault, Severity
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
    # Older Pillows call 16-bit gray "I".
    if mode not in {"I;16", "I"}:
        raise UserError(
            f"{path} holds no instance ids: got an image of mode {mode}, expected 16-bit gray; use "
            "gtFine's *_gtFine_instanceIds.png"
        )
    return array.astype(np.uint16)


def read_instances(path: Path) -> AnnotationFile:
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
    objects = []
    for value, rows, columns in zip(values.tolist(), on_rows, on_columns, strict=True):
        crowd = value < _FIRST_INSTANCE
        name = _THING_IDS[value if crowd else value // _FIRST_INSTANCE]
        ys, xs = np.flatnonzero(rows), np.flatnonzero(columns)
        box = float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)
        objects.append(Annotation(name, box, crowd=crowd, instance=value))
    return AnnotationFile(tuple(objects), (height, width))


def read_outlines(path: Path) -> AnnotationFile:
    """Extents of every object's outline, its hidden parts included; a group's is a crowd.

    A vertex covers its pixel, as in the instance PNGs: an outline from 120 to 180 is 61 wide.
    """
    try:
        drawn = json.loads(path.read_bytes())
        size, objects = (drawn["imgHeight"], drawn["imgWidth"]), []
        for entry in drawn["objects"]:
            name = entry["label"].removesuffix(_GROUP)
            if name in CITYSCAPES_THINGS and not entry.get("deleted"):
                xs, ys = zip(*entry["polygon"], strict=True)
                box = float(min(xs)), float(min(ys)), float(max(xs) + 1), float(max(ys) + 1)
                objects.append(Annotation(name, box, crowd=entry["label"] != name))
    except FileNotFoundError:
        raise MissingFileError(f"no file {path}") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path} is no outline file of Cityscapes, expected imgHeight, imgWidth and objects "
            "with label and polygon; unpack gtFine again"
        ) from None
    return AnnotationFile(tuple(objects), size)


def cityscapes_files(
    location: Location,
    labeled: bool,
    *,
    split: str,
    beta: str | None = None,
    polygons: bool = False,
) -> DetectionFiles:
    """The frames of a split, clear or in fog.

    Args:
        beta: attenuation per meter, one of `FOG_BETAS`; or "all", every frame three times, and
            `<city>_<seq>_<frame>_foggy_beta_<beta>` is a record's name; None: the clear frames.
        polygons: boxes around the drawn outlines; without instances, hence without masks.
    """
    if beta is None:
        folder = location.folder(f"cityscapes/leftImg8bit/{split}")
        images, faults = city_files(folder, "_leftImg8bit"), []
    else:
        folder = location.folder(
            f"cityscapes/leftImg8bit_foggy/{split}", f"cityscapes_foggy/leftImg8bit/{split}"
        )
        betas = FOG_BETAS if beta == "all" else (beta,)
        images, faults = _foggy_images(location, folder, betas)
    key, watched, labels, truths, official = f"cityscapes-{split}-{beta}", [folder], None, {}, None
    if labeled:
        watched = [location.folder(f"cityscapes/gtFine/{split}")]
        key = f"{'polygons' if polygons else 'instances'}-{split}"
        ending = ("_gtFine_polygons", ".json") if polygons else ("_gtFine_instanceIds", ".png")
        truths = city_files(watched[0], *ending)
        truth_names = {name: name.partition("_foggy_beta_")[0] for name in images}
        labels = {name: truths[t] for name, t in truth_names.items() if t in truths}
        if split == "val" and not polygons:
            official = location.root / "cityscapes"
    frames, unmatched = match(location, images, labels, folder)
    return DetectionFiles(
        name=location.name,
        records=frames,
        labeled=labeled,
        read=read_outlines if polygons else read_instances,
        names={name: (name,) for name in CITYSCAPES_THINGS},
        default=None,
        key=key,
        watched=watched,
        faults=[*faults, *unmatched],
        indexed=truths.values(),
        instances=not polygons,
        official_root=official,
    )


def _foggy_images(
    location: Location, folder: Path, betas: Sequence[str]
) -> tuple[Files, list[Fault]]:
    """Record name → picture of those β, and the pictures that are missing or misnamed."""
    pictures: dict[str, Files] = {}  # frame → β → picture
    faults = []
    for stem, path in city_files(folder, "").items():
        frame, cut, beta = stem.partition("_leftImg8bit_foggy_beta_")
        if cut:
            pictures.setdefault(frame, {})[beta] = path
        else:
            text = "has no β in its name: <city>_<seq>_<frame>_leftImg8bit_foggy_beta_<β>.png"
            faults.append(Fault(Severity.ERROR, text, path))
    if faults and not pictures:
        raise UserError(f"data set '{location.name}': {faults[0]}")
    there = sorted({beta for files in pictures.values() for beta in files})
    for beta in betas if pictures else ():
        if beta not in there:
            raise location.missing(
                f"no picture of β {beta} in {folder}, but of β {', '.join(there)}"
            )
        faults += [
            Fault(
                Severity.ERROR,
                f"has no twin of β {beta}; unpack leftImg8bit_trainvaltest_foggy.zip again, or "
                "name a β that is there",
                next(iter(files.values())),
            )
            for files in pictures.values()
            if beta not in files
        ]
    images = {
        f"{frame}_foggy_beta_{beta}": files[beta]
        for frame, files in pictures.items()
        for beta in betas
        if beta in files
    }
    return images, faults
