"""Data sets by name: which files they consist of, and what their numbers mean.

A layout is a pure function of a place on disk; a name is a layout with its arguments. The toy data
sets are the same layouts below `<root>/toy`.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.errors import MissingFileError, UserError
from shared.registry import Registry

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
# Frames whose image and label do not belong together, or cannot be read.
GTA5_INVALID = frozenset({"15188", "17705"})


@dataclass(frozen=True)
class SegmentationRecord:
    """One frame. `name` is unique in its data set; `label` is None where there is none."""

    name: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class SegmentationDataset:
    """The frames of a data set, sorted by name.

    Attributes:
        dataset: name of its id table (`shared.label_maps.ID_TABLES`).
        encoding: how its label files hold the ids (`shared.images.read_labels`).
        label_folder: where its labels are, or would be.
        official_root: the Cityscapes tree whose `gtFine/val` the official script reads; None where
            that script does not apply.
    """

    name: str
    records: tuple[SegmentationRecord, ...]
    dataset: str
    encoding: str
    split: str
    label_folder: Path
    official_root: Path | None = None


@dataclass(frozen=True)
class Place:
    """Where a data set should be, and what to say where it is not."""

    name: str
    root: Path
    mend: str

    def folder(self, *candidates: str) -> Path:
        """The first of `candidates` (paths below the root) that is a folder."""
        for candidate in candidates:
            if (self.root / candidate).is_dir():
                return self.root / candidate
        others = "".join(f" (nor {self.root / c})" for c in candidates[1:])
        raise MissingFileError(
            f"data set '{self.name}': no folder {self.root / candidates[0]}{others}; {self.mend}"
        )


def data_root() -> Path:
    """The folder that holds the data sets: `DETECTRON2_DATASETS`, else `datasets/`.

    `datasets/` of the current folder (Detectron2's rule) comes before the repository's own.
    """
    if os.environ.get("DETECTRON2_DATASETS"):
        return Path(os.environ["DETECTRON2_DATASETS"]).expanduser()
    repository = Path(__file__).parents[1]
    if not Path("datasets").is_dir() and (repository / "setup.cfg").is_file():
        return repository / "datasets"
    return Path("datasets")


def _files(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> dict[str, Path]:
    """Stem without `ending` → file, for the visible files directly in `folder`."""
    found = {}
    for path in folder.iterdir():
        if path.suffix.lower() in suffixes and path.stem.endswith(ending) and path.name[0] != ".":
            found[path.stem.removesuffix(ending)] = path
    return found


def _pair(
    place: Place, images: dict[str, Path], labels: dict[str, Path] | None, folder: Path
) -> tuple[SegmentationRecord, ...]:
    """Records of the frames that have both files; of all images where `labels` is None."""
    if not images:
        raise UserError(f"data set '{place.name}': no images in {folder}; {place.mend}")
    if labels is None:
        return tuple(SegmentationRecord(n, images[n], None) for n in sorted(images))
    names = sorted(images.keys() & labels.keys())
    dropped = len(images.keys() ^ labels.keys())
    if not names:
        raise UserError(
            f"data set '{place.name}': none of the {len(images)} images in {folder} has a label of "
            f"the same name ({len(labels)} label files); {place.mend}"
        )
    if dropped:
        logger.warning(
            "data set '%s': %d pairs, %d images without label and %d labels without image left out",
            place.name,
            len(names),
            len(images) - len(names),
            len(labels) - len(names),
        )
    return tuple(SegmentationRecord(n, images[n], labels[n]) for n in names)


def gta5_layout(place: Place) -> SegmentationDataset:
    """`gta5/{images,labels}/00001.png`; label files are palette images whose index is the id."""
    images = place.folder("gta5/images")
    labels = place.root / "gta5/labels"
    pngs = {n: p for n, p in _files(images, (".png",)).items() if n not in GTA5_INVALID}
    targets = _files(labels, (".png",)) if labels.is_dir() else None
    if targets is not None:
        targets = {n: p for n, p in targets.items() if n not in GTA5_INVALID}
    records = _pair(place, pngs, targets, images)
    return SegmentationDataset(place.name, records, "gta5", "index", "train", labels)


def synthia_layout(place: Place) -> SegmentationDataset:
    """`RAND_CITYSCAPES/{RGB,GT/LABELS}/0000000.png`, or one of the 8-bit label folders in use."""
    images = place.folder("RAND_CITYSCAPES/RGB", "synthia/RAND_CITYSCAPES/RGB")
    choices = ("GT/LABELS", "parsed_LABELS", "synthia_mapped_to_cityscapes")
    folders = [images.parent / choice for choice in choices]
    labels = next((f for f in folders if f.is_dir()), folders[0])
    targets = _files(labels, (".png",)) if labels.is_dir() else None
    records = _pair(place, _files(images, (".png",)), targets, images)
    return SegmentationDataset(place.name, records, "synthia", "synthia", "train", labels)


def synthia_seqs_layout(place: Place, season: str) -> SegmentationDataset:
    """`synthia_seqs/SYNTHIA-SEQS-<nn>-<SEASON>/{RGB,GT/LABELS}/Stereo_Left/Omni_F/000000.png`.

    Every sequence that exists in the season, the left forward camera.
    """
    pattern = f"SYNTHIA-SEQS-[0-9][0-9]-{season.upper()}"
    camera = "Stereo_Left/Omni_F"
    root = place.folder("synthia_seqs")
    sequences = sorted(p for p in root.glob(pattern) if (p / "RGB" / camera).is_dir())
    if not sequences:
        place.folder(f"synthia_seqs/{pattern}/RGB/{camera}")

    def frames(folder: str) -> dict[str, Path]:
        found = {}
        for sequence in sequences:
            if (sequence / folder / camera).is_dir():
                pngs = _files(sequence / folder / camera, (".png",))
                found |= {f"{sequence.name}_{n}": p for n, p in pngs.items()}
        return found

    label_folder = root / pattern / "GT/LABELS" / camera
    labelled = any((s / "GT/LABELS" / camera).is_dir() for s in sequences)
    records = _pair(place, frames("RGB"), frames("GT/LABELS") if labelled else None, root)
    return SegmentationDataset(place.name, records, "synthia_seqs", "synthia", season, label_folder)


def cityscapes_layout(place: Place, split: str) -> SegmentationDataset:
    """`cityscapes/leftImg8bit/<split>/<city>/*_leftImg8bit.png`, `cityscapes/gtFine/…`."""
    images = place.folder(f"cityscapes/leftImg8bit/{split}")
    labels = place.root / "cityscapes/gtFine" / split

    def frames(folder: Path, ending: str) -> dict[str, Path]:
        found = {}
        for city in sorted(p for p in folder.iterdir() if p.is_dir()):
            found |= _files(city, (".png",), ending)
        return found

    targets = frames(labels, "_gtFine_labelIds") if labels.is_dir() else None
    records = _pair(place, frames(images, "_leftImg8bit"), targets, images)
    official = place.root / "cityscapes" if split == "val" and labels.is_dir() else None
    return SegmentationDataset(place.name, records, "cityscapes", "index", split, labels, official)


def bdd100k_layout(place: Place, split: str) -> SegmentationDataset:
    """The 10k frames in either release.

    `bdd100k/images/10k/<split>/<id>.jpg` with `bdd100k/labels/sem_seg/masks/<split>/<id>.png`, or
    `bdd100k/seg/images/<split>/<id>.jpg` with `bdd100k/seg/labels/<split>/<id>_train_id.png`.
    """
    images = place.folder(f"bdd100k/images/10k/{split}", f"bdd100k/seg/images/{split}")
    root = place.root / "bdd100k"
    new, old = root / "labels/sem_seg/masks" / split, root / "seg/labels" / split
    if old.is_dir() and not new.is_dir():
        labels, ending = old, "_train_id"
    else:
        labels, ending = new, ""
    targets = _files(labels, (".png",), ending) if labels.is_dir() else None
    records = _pair(place, _files(images, IMAGE_SUFFIXES), targets, images)
    return SegmentationDataset(place.name, records, "bdd100k", "index", split, labels)


SEGMENTATION: Registry[Callable[[Path], SegmentationDataset]] = Registry("segmentation data set")


def _register(name: str, toy_name: str, layout: Callable, **arguments: str) -> None:
    def real(root: Path) -> SegmentationDataset:
        mend = (
            "datasets/README.md says where to get it; "
            "DETECTRON2_DATASETS names the folder that holds all data sets"
        )
        return layout(Place(name, root, mend), **arguments)

    def toy(root: Path) -> SegmentationDataset:
        mend = "make it with: python datasets/make_toy.py"
        return layout(Place(toy_name, root / "toy", mend), **arguments)

    SEGMENTATION.add(name, real)
    SEGMENTATION.add(toy_name, toy)


_register("gta5", "toy_game", gta5_layout)
_register("synthia", "toy_synthia", synthia_layout)
for _split in ("train", "val"):
    _register(f"cityscapes_{_split}", f"toy_real_{_split}", cityscapes_layout, split=_split)
    _register(f"bdd100k_{_split}", f"toy_bdd100k_{_split}", bdd100k_layout, split=_split)
for _season in ("summer", "fall", "winter"):
    _register(f"synthia_seqs_{_season}", f"toy_{_season}", synthia_seqs_layout, season=_season)


def load_segmentation(
    name: str, root: str | Path | None = None, labelled: bool = False
) -> SegmentationDataset:
    """The data set `name` below `root` (default: `data_root()`).

    Args:
        labelled: refuse a data set without labels, which is good for nothing but a target.
    """
    dataset = SEGMENTATION.get(name)(data_root() if root is None else Path(root))
    if labelled and dataset.records[0].label is None:
        raise MissingFileError(
            f"data set '{name}': labels are needed, but there is no folder {dataset.label_folder}"
        )
    return dataset


def image_folder(path: str | Path) -> tuple[SegmentationRecord, ...]:
    """Unlabelled records of one image, or of every PNG and JPEG below a folder.

    A record is named by its path below the folder, without the suffix: `aachen/frame_000019`.
    """
    path = Path(path)
    if path.is_file():
        return (SegmentationRecord(path.stem, path, None),)
    if not path.is_dir():
        raise MissingFileError(f"no image or folder {path}")
    records: dict[str, SegmentationRecord] = {}
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        if file.suffix.lower() not in IMAGE_SUFFIXES or any(p[0] == "." for p in relative.parts):
            continue
        name = relative.with_suffix("").as_posix()
        if name in records:
            raise UserError(
                f"{records[name].image} and {file} would share one result; rename one of them"
            )
        records[name] = SegmentationRecord(name, file, None)
    if not records:
        raise UserError(f"no image in {path}; expected {', '.join(IMAGE_SUFFIXES)} files")
    return tuple(records.values())
