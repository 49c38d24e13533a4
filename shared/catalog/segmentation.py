"""Segmentation data sets by name: which files they consist of, and what their numbers mean.

A layout is a pure function of a place on disk; a name is a layout with its arguments. The toy twin
of `x`, the same layout below `<root>/toy`, is `toy_x`.
"""

from collections.abc import Callable
from pathlib import Path

from shared.catalog.places import (
    IMAGE_SUFFIXES,
    Place,
    city_files,
    data_root,
    files_in,
    matched_names,
    real_place,
    toy_place,
)
from shared.catalog.records import SegmentationDataset, SegmentationRecord
from shared.errors import MissingFileError, UserError
from shared.registry import Registry

# Frames whose image and label do not belong together, or cannot be read.
GTA5_INVALID = frozenset({"15188", "17705"})


def _pair(
    place: Place, images: dict[str, Path], labels: dict[str, Path] | None, folder: Path
) -> tuple[SegmentationRecord, ...]:
    """Records of the frames that have both files; of all images where `labels` is None."""
    names = matched_names(place, images, labels, folder)
    targets = {} if labels is None else labels
    return tuple(SegmentationRecord(n, images[n], targets.get(n)) for n in names)


def gta5_layout(place: Place) -> SegmentationDataset:
    """`gta5/{images,labels}/00001.png`; label files are palette images whose index is the id."""
    images = place.folder("gta5/images")
    labels = place.root / "gta5/labels"
    pngs = {n: p for n, p in files_in(images, (".png",)).items() if n not in GTA5_INVALID}
    targets = files_in(labels, (".png",)) if labels.is_dir() else None
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
    targets = files_in(labels, (".png",)) if labels.is_dir() else None
    records = _pair(place, files_in(images, (".png",)), targets, images)
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
                pngs = files_in(sequence / folder / camera, (".png",))
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
    targets = city_files(labels, "_gtFine_labelIds") if labels.is_dir() else None
    records = _pair(place, city_files(images, "_leftImg8bit"), targets, images)
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
    targets = files_in(labels, (".png",), ending) if labels.is_dir() else None
    records = _pair(place, files_in(images, IMAGE_SUFFIXES), targets, images)
    return SegmentationDataset(place.name, records, "bdd100k", "index", split, labels)


SEGMENTATION: Registry[Callable[[Path], SegmentationDataset]] = Registry("segmentation data set")


def _register(name: str, layout: Callable, **arguments: str) -> None:
    def real(root: Path) -> SegmentationDataset:
        return layout(real_place(name, root), **arguments)

    def toy(root: Path) -> SegmentationDataset:
        return layout(toy_place(f"toy_{name}", root), **arguments)

    SEGMENTATION.add(name, real)
    SEGMENTATION.add(f"toy_{name}", toy)


_register("gta5", gta5_layout)
_register("synthia", synthia_layout)
for _split in ("train", "val"):
    _register(f"cityscapes_{_split}", cityscapes_layout, split=_split)
    _register(f"bdd100k_{_split}", bdd100k_layout, split=_split)
for _season in ("summer", "fall", "winter"):
    _register(f"synthia_seqs_{_season}", synthia_seqs_layout, season=_season)


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
