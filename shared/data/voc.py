"""Data sets in the form of PASCAL VOC: Sim10k, VOC2007, VOC2012, Clipart1k, Watercolor2k.

`<tree>/{JPEGImages/<id>.jpg,Annotations/<id>.xml,ImageSets/Main/<list>.txt}`. The XML counts pixels
from 1 and includes both ends: xmin 1, xmax 3 is the box from 0 to 3.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from shared.data.annotations import (
    AnnotationFile,
    Row,
    Thing,
    annotations_of,
    choose_classes,
    read_rows,
    read_sizes,
    row,
    thing,
)
from shared.data.folders import IMAGE_SUFFIXES, Place, files_in, matched_names
from shared.data.images import image_size
from shared.data.records import DetectionDataset, DetectionRecord
from shared.errors import MissingFileError, UserError

logger = logging.getLogger(__name__)

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
WATERCOLOR_CLASSES = ("bicycle", "bird", "car", "cat", "dog", "person")
# What Sim10k annotates; papers train on its cars only.
SIM10K_CLASSES = ("car", "motorbike", "person")

# Where the archives unpack to when nobody moves anything.
_UNPACKED = {
    "sim10k": "sim10k/VOC2012",
    "VOC2007": "VOCdevkit/VOC2007",
    "VOC2012": "VOCdevkit/VOC2012",
}


@dataclass(frozen=True)
class VOCPart:
    """One tree and those of its lists whose union is meant.

    Attributes:
        mend: what to say where a list is missing, besides where the data set comes from.
    """

    tree: str
    lists: tuple[str, ...]
    mend: str = ""


def parse_voc_xml(path: Path) -> AnnotationFile:
    """One annotation file; UserError where it cannot be read or a name or number is missing."""
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path} is no well-formed XML ({error}); unpack it again") from None
    things = tuple(
        _thing(entry, f"{path}: object {i}") for i, entry in enumerate(root.findall("object"))
    )
    height, width = (root.findtext(f"size/{edge}", "").strip() for edge in ("height", "width"))
    if height.isdecimal() and width.isdecimal() and int(height) > 0 and int(width) > 0:
        return AnnotationFile(things, (int(height), int(width)))
    return AnnotationFile(things)


def read_voc_xml(path: Path, image: Path) -> Row:
    """One annotation file; the size is the XML's, or the image header's where the XML has none."""
    content = parse_voc_xml(path)
    return row(*(content.size or image_size(image)), content.things)


def _thing(entry: ElementTree.Element, where: str) -> Thing:
    name = entry.findtext("name", "").strip()
    if not name:
        raise UserError(f"{where} has no <name>; expected a PASCAL VOC annotation")
    edges = []
    for tag in ("xmin", "ymin", "xmax", "ymax"):
        text = entry.findtext(f"bndbox/{tag}", "").strip()
        try:
            edges.append(float(text))
        except ValueError:
            raise UserError(
                f"{where} ('{name}') has '{text}' for bndbox/{tag}, expected a number; unpack the "
                "annotations again"
            ) from None
    # Sim10k leaves the flag out.
    difficult = entry.findtext("difficult", "0").strip().lower() in {"1", "true"}
    return thing(name, (edges[0] - 1, edges[1] - 1, edges[2], edges[3]), difficult=difficult)


def tree_folders(tree: str) -> tuple[str, ...]:
    """Where a tree may be, below the data root; the first that is there counts."""
    return (tree, _UNPACKED[tree]) if tree in _UNPACKED else (tree,)


def voc_layout(
    place: Place,
    labelled: bool,
    wanted: Sequence[str] | None,
    *,
    parts: Sequence[VOCPart],
    split: str,
    known: Sequence[str] = VOC_CLASSES,
    default: Sequence[str] = VOC_CLASSES,
) -> DetectionDataset:
    """The frames of all `parts`; a class of the XML that is not chosen gives no box."""
    classes = choose_classes(place, wanted, known, default)
    records = [record for part in parts for record in _records(place, part, classes, labelled)]
    records.sort(key=lambda record: record.name)
    return DetectionDataset(place.name, tuple(records), classes, split)


def _records(
    place: Place, part: VOCPart, classes: Sequence[str], labelled: bool
) -> list[DetectionRecord]:
    _refuse_mixed_up_sim10k(place, part.tree)
    images = place.folder(*(f"{tree}/JPEGImages" for tree in tree_folders(part.tree)))
    tree = images.parent
    stems = _listed(place, part, tree / "ImageSets/Main")
    files = _only(files_in(images, IMAGE_SUFFIXES), stems)
    if files and len(files) < len(stems):
        logger.warning(
            "data set '%s': %d of %d listed frames have no image in %s and are left out",
            place.name,
            len(stems) - len(files),
            len(stems),
            images,
        )
    key = f"{part.tree}-{'-'.join(part.lists)}"
    if not labelled:
        names = matched_names(place, files, None, images)
        sizes = read_sizes(key, [images, tree / "ImageSets/Main"], files)
        return [DetectionRecord(n, files[n], *sizes[n], None) for n in names]
    folder = place.folder((tree / "Annotations").relative_to(place.root).as_posix())
    xmls = _only(files_in(folder, (".xml",)), stems)
    names = matched_names(place, files, xmls, images)
    pairs = {n: (xmls[n], files[n]) for n in names}
    watched = [folder, images, tree / "ImageSets/Main"]
    rows = read_rows(place, key, watched, lambda pair: read_voc_xml(*pair), pairs)
    return [_record(n, files[n], rows[n], classes) for n in names]


def _record(name: str, image: Path, found: Row, classes: Sequence[str]) -> DetectionRecord:
    height, width, things, _ = found
    return DetectionRecord(name, image, height, width, annotations_of(things, classes))


def _only(files: dict[str, Path], stems: Sequence[str]) -> dict[str, Path]:
    return {stem: files[stem] for stem in stems if stem in files}


def _listed(place: Place, part: VOCPart, folder: Path) -> list[str]:
    """The ids in the lists of a part, each once."""
    stems: dict[str, None] = {}
    for name in part.lists:
        path = folder / f"{name}.txt"
        if not path.is_file():
            mend = f"{part.mend}; " if part.mend else ""
            raise MissingFileError(f"data set '{place.name}': no list {path}; {mend}{place.mend}")
        stems.update(dict.fromkeys(read_list(path)))
    if not stems:
        raise UserError(f"data set '{place.name}': {folder / part.lists[0]}.txt is empty")
    return list(stems)


def read_list(path: Path) -> list[str]:
    """The ids in a list of frames."""
    # A second column, where there is one, is the flag of a class.
    lines = path.read_text(errors="replace").splitlines()
    return [_stem(token) for line in lines for token in line.split()[:1]]


def _stem(token: str) -> str:
    """Some copies of the lists name files instead of ids."""
    suffix = next((s for s in (*IMAGE_SUFFIXES, ".xml") if token.lower().endswith(s)), "")
    return token[: len(token) - len(suffix)]


def _refuse_mixed_up_sim10k(place: Place, tree: str) -> None:
    """Sim10k's archives unpack to `VOC2012`, over the files of the real one."""
    folders = tree_folders("VOC2012")
    candidates = (place.root / folder / "ImageSets/Main/trainval10k.txt" for folder in folders)
    stray = next((path for path in candidates if path.is_file()), None)
    if stray is None:
        return
    target = place.root / "sim10k"
    if tree == "VOC2012" or (tree == "sim10k" and not target.is_dir()):
        raise UserError(
            f"data set '{place.name}': {stray} belongs to Sim10k, whose archives unpack to VOC2012 "
            f"and over the files of PASCAL's VOC2012: rename {stray.parents[2]} to {target}; if "
            "PASCAL's was there before, unpack it again"
        )


_clipart = partial(
    VOCPart, "clipart", mend="train.txt and test.txt ship with Clipart1k: unpack it again"
)
_VOC2007, _VOC2012 = VOCPart("VOC2007", ("trainval",)), VOCPart("VOC2012", ("trainval",))
_WATERCOLOR = {"known": WATERCOLOR_CLASSES, "default": WATERCOLOR_CLASSES}

# Data set → arguments of `voc_layout`. Papers adapt to all of Clipart, unlabelled, and test on it.
VOC_DATASETS: dict[str, dict] = {
    "sim10k": {
        "parts": (VOCPart("sim10k", ("trainval10k",)),),
        "split": "trainval10k",
        "known": SIM10K_CLASSES,
        "default": ("car",),
    },
    "voc2007_trainval": {"parts": (_VOC2007,), "split": "trainval"},
    "voc2007_test": {"parts": (VOCPart("VOC2007", ("test",)),), "split": "test"},
    "voc2012_trainval": {"parts": (_VOC2012,), "split": "trainval"},
    "voc0712_trainval": {"parts": (_VOC2007, _VOC2012), "split": "trainval"},
    "clipart_train": {"parts": (_clipart(("train",)),), "split": "train"},
    "clipart_test": {"parts": (_clipart(("test",)),), "split": "test"},
    "clipart_traintest": {"parts": (_clipart(("train", "test")),), "split": "traintest"},
    "watercolor_train": {
        "parts": (VOCPart("watercolor", ("train",)),),
        "split": "train",
        **_WATERCOLOR,
    },
    "watercolor_test": {
        "parts": (VOCPart("watercolor", ("test",)),),
        "split": "test",
        **_WATERCOLOR,
    },
}
