"""Layouts of segmentation data sets: which files they consist of, and what their numbers mean."""

from collections.abc import Iterable
from pathlib import Path

from shared.data.folders import IMAGE_SUFFIXES, Files, Location, city_files, files_in, match
from shared.data.records import Fault, SegmentationDataset, Severity

# Frames whose image and label do not belong together, or cannot be read.
GTA5_INVALID = frozenset({"15188", "17705"})


def _dataset(
    location: Location,
    images: Files,
    labels: Files | None,
    folders: tuple[Path, Path],
    id_table: str,
    *,
    encoding: str = "index",
    official_root: Path | None = None,
    faults: Iterable[Fault] = (),
) -> SegmentationDataset:
    """The frames that have both files; all images where `labels` is None.

    Args:
        folders: of the images and of the labels.
    """
    records, unmatched = match(location, images, labels, folders[0])
    return SegmentationDataset(
        location.name,
        records,
        id_table,
        encoding,
        folders[1],
        official_root,
        (*faults, *unmatched),
    )


def gta5_layout(location: Location) -> SegmentationDataset:
    """`gta5/{images,labels}/00001.png`; label files are palette images whose index is the id."""
    folders = location.folder("gta5/images"), location.root / "gta5/labels"
    images, labels = (files_in(f, (".png",)) if f.is_dir() else None for f in folders)
    text = "is of a frame known to be broken: left out"
    faults = [
        Fault(Severity.INFO, text, files.pop(name))
        for files in (images, labels or {})
        for name in sorted(GTA5_INVALID & files.keys())
    ]
    return _dataset(location, images, labels, folders, "gta5", faults=faults)


def synthia_layout(location: Location) -> SegmentationDataset:
    """`RAND_CITYSCAPES/{RGB,GT/LABELS}/0000000.png`, or one of the 8-bit label folders in use."""
    images = location.folder("RAND_CITYSCAPES/RGB", "synthia/RAND_CITYSCAPES/RGB")
    choices = ("GT/LABELS", "parsed_LABELS", "synthia_mapped_to_cityscapes")
    folders = [images.parent / choice for choice in choices]
    labels = next((f for f in folders if f.is_dir()), folders[0])
    targets = files_in(labels, (".png",)) if labels.is_dir() else None
    return _dataset(
        location,
        files_in(images, (".png",)),
        targets,
        (images, labels),
        "synthia",
        encoding="synthia",
    )


def synthia_seqs_layout(location: Location, season: str) -> SegmentationDataset:
    """`synthia_seqs/SYNTHIA-SEQS-<nn>-<SEASON>/{RGB,GT/LABELS}/Stereo_Left/Omni_F/000000.png`.

    Every sequence that exists in the season, the left forward camera.
    """
    pattern = f"SYNTHIA-SEQS-[0-9][0-9]-{season.upper()}"
    camera = "Stereo_Left/Omni_F"
    root = location.folder("synthia_seqs")
    sequences = sorted(p for p in root.glob(pattern) if (p / "RGB" / camera).is_dir())
    if not sequences:
        raise location.missing(f"no folder {root / pattern / 'RGB' / camera}")

    def frames(folder: str) -> Files | None:
        folders = {s.name: s / folder / camera for s in sequences if (s / folder / camera).is_dir()}
        files = {sequence: files_in(path, (".png",)) for sequence, path in folders.items()}
        return (
            {f"{s}_{n}": p for s, pngs in files.items() for n, p in pngs.items()} if files else None
        )

    return _dataset(
        location,
        frames("RGB"),
        frames("GT/LABELS"),
        (root, root / pattern / "GT/LABELS" / camera),
        "synthia_seqs",
        encoding="synthia",
    )


def cityscapes_layout(location: Location, split: str) -> SegmentationDataset:
    """`cityscapes/leftImg8bit/<split>/<city>/*_leftImg8bit.png`, `cityscapes/gtFine/…`."""
    images = location.folder(f"cityscapes/leftImg8bit/{split}")
    labels = location.root / "cityscapes/gtFine" / split
    targets = city_files(labels, "_gtFine_labelIds") if labels.is_dir() else None
    official = location.root / "cityscapes" if split == "val" and labels.is_dir() else None
    return _dataset(
        location,
        city_files(images, "_leftImg8bit"),
        targets,
        (images, labels),
        "cityscapes",
        official_root=official,
    )


def bdd100k_layout(location: Location, split: str) -> SegmentationDataset:
    """The 10k frames in either release.

    `bdd100k/images/10k/<split>/<id>.jpg` with `bdd100k/labels/sem_seg/masks/<split>/<id>.png`, or
    `bdd100k/seg/images/<split>/<id>.jpg` with `bdd100k/seg/labels/<split>/<id>_train_id.png`.
    """
    images = location.folder(f"bdd100k/images/10k/{split}", f"bdd100k/seg/images/{split}")
    root = location.root / "bdd100k"
    labels, ending = root / "labels/sem_seg/masks" / split, ""
    if not labels.is_dir() and (root / "seg/labels" / split).is_dir():
        labels, ending = root / "seg/labels" / split, "_train_id"
    targets = files_in(labels, (".png",), ending) if labels.is_dir() else None
    return _dataset(
        location, files_in(images, IMAGE_SUFFIXES), targets, (images, labels), "bdd100k"
    )


def kitti_semantics_layout(location: Location) -> SegmentationDataset:
    """`kitti_semantics/training/{image_2,semantic}/000000_10.png`, with Cityscapes' ids."""
    images = location.folder("kitti_semantics/training/image_2", "data_semantics/training/image_2")
    labels = images.parent / "semantic"
    targets = files_in(labels, (".png",)) if labels.is_dir() else None
    return _dataset(location, files_in(images, (".png",)), targets, (images, labels), "cityscapes")


def camvid_layout(
    location: Location, split: str | None = None, sequence: str = ""
) -> SegmentationDataset:
    """CamVid in either release: the frames of a split or of a sequence.

    `CamVid/{train,val,test}/<frame>.png` with ids below `CamVid/{train,val,test}annot/` (480×360,
    11 classes), or `CamVid/701_StillsRaw_full/<frame>.png` with colors in
    `CamVid/LabeledApproved_full/<frame>_L.png` (960×720, 32 classes).
    """
    folder = location.folder("CamVid", "camvid")
    if (folder / "701_StillsRaw_full").is_dir():
        pairs = [(folder / "701_StillsRaw_full", folder / "LabeledApproved_full")]
        id_table, encoding, ending = "camvid", "camvid", "_L"
    else:
        pairs = [(folder / part, folder / f"{part}annot") for part in ("train", "val", "test")]
        id_table, encoding, ending = "camvid11", "index", ""

    def frames(folders: Iterable[Path], ending: str) -> Files:
        files = [files_in(path, (".png",), ending) for path in folders if path.is_dir()]
        return {
            name: path
            for some in files
            for name, path in some.items()
            if name.startswith(sequence) and split in (None, _camvid_split(name))
        }

    images, labels = zip(*pairs, strict=True)
    has_labels = any(path.is_dir() for path in labels)
    return _dataset(
        location,
        frames(images, ""),
        frames(labels, ending) if has_labels else None,
        (images[0], labels[0]),
        id_table,
        encoding=encoding,
    )


def _camvid_split(name: str) -> str:
    """Of Brostow et al. (2009), and the validation frames of SegNet's release."""
    sequence, _, frame = name.partition("_")
    number = int("".join(filter(str.isdigit, frame)) or 0)
    if sequence == "Seq05VD" or (sequence == "0001TP" and number >= 8550):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= number <= 8159 else "train"
