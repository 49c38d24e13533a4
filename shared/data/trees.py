"""What the folders and lists of a detection data set show to be wrong before any file is opened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.data.cityscapes import CITYSCAPES_THINGS, FOG_BETAS
from shared.data.detection import DEFAULT_BETA
from shared.data.findings import Finding, Severity
from shared.data.folders import IMAGE_SUFFIXES
from shared.data.kitti import DONT_CARE, KITTI_CLASSES
from shared.data.voc import VOC_CLASSES, VOC_DATASETS, read_list, tree_folders

_FOG = "_leftImg8bit_foggy_beta_"
_KITTI_TYPES = (*KITTI_CLASSES, "Misc", DONT_CARE)


@dataclass(frozen=True)
class Tree:
    """A folder of images, one of annotations, and the lists of the frames that are meant.

    Attributes:
        lists: empty where all images are meant.
    """

    images: Path
    annotations: Path
    suffix: str
    lists: tuple[Path, ...]

    def listed(self) -> dict[str, Path]:
        """Id → the list that names it."""
        found = {}
        for path in self.lists:
            if path.is_file():
                found.update(dict.fromkeys(read_list(path), path))
        return found

    def frames(self) -> list[Path]:
        """The images that are there, of those that are meant."""
        images = _files(self.images, IMAGE_SUFFIXES)
        chosen = self.listed() if self.lists else images
        return [images[stem] for stem in sorted(chosen) if stem in images]


def trees(name: str, root: Path) -> tuple[Tree, ...]:
    """The VOC or KITTI trees that data set `name` reads; none where its layout is another one."""
    real = name.removeprefix("toy_")
    base = _base(name, root)
    if real == "kitti_train":
        folder = base / "kitti/training"
        return (Tree(folder / "image_2", folder / "label_2", ".txt", ()),)
    found = []
    for part in VOC_DATASETS[real]["parts"] if real in VOC_DATASETS else ():
        folders = [base / tree for tree in tree_folders(part.tree)]
        # As the loader does: the first that holds images.
        folder = next((f for f in folders if (f / "JPEGImages").is_dir()), folders[0])
        lists = tuple(folder / f"ImageSets/Main/{which}.txt" for which in part.lists)
        found.append(Tree(folder / "JPEGImages", folder / "Annotations", ".xml", lists))
    return tuple(found)


def listed_images(name: str, root: Path) -> list[Path]:
    """The images of data set `name`, found without its loader."""
    if is_foggy(name):
        betas = foggy_betas(name)
        paths = foggy_frames(name, root).values()
        return [pictures[beta] for pictures in paths for beta in betas if beta in pictures]
    return [image for tree in trees(name, root) for image in tree.frames()]


def class_names(name: str) -> tuple[str, ...]:
    """The class names that the annotation files of `name` may hold."""
    real = name.removeprefix("toy_")
    if real == "kitti_train":
        return _KITTI_TYPES
    if real in VOC_DATASETS:
        return tuple(VOC_DATASETS[real].get("known", VOC_CLASSES))
    return CITYSCAPES_THINGS


def check_tree(name: str, root: Path) -> Iterator[Finding]:
    """Findings about the folders of `name`; nothing where they are not there."""
    for tree in trees(name, root):
        if tree.images.is_dir():
            yield from _check_pairs(name, tree)
    if is_foggy(name):
        yield from _check_foggy(name, root)


def is_foggy(name: str) -> bool:
    return name.removeprefix("toy_").startswith("foggy_cityscapes_")


def foggy_frames(name: str, root: Path) -> dict[str, dict[str, Path]]:
    """Frame → β → picture, of the split of Foggy Cityscapes data set `name`."""
    base, split = _base(name, root), _foggy_split(name)
    folder = base / "cityscapes/leftImg8bit_foggy" / split
    if not folder.is_dir():
        folder = base / "cityscapes_foggy/leftImg8bit" / split
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob(f"*/[!.]*{_FOG}*.png")):
        frame, beta = path.stem.split(_FOG)
        found.setdefault(frame, {})[beta] = path
    return found


def foggy_betas(name: str) -> tuple[str, ...]:
    """The β that Foggy Cityscapes data set `name` consists of."""
    beta = name.partition("_beta_")[2] or DEFAULT_BETA
    return FOG_BETAS if beta == "all" else (beta,)


def _foggy_split(name: str) -> str:
    return "train" if "_train" in name else "val"


def _base(name: str, root: Path) -> Path:
    return root / "toy" if name.startswith("toy_") else root


def _files(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    visible = (path for path in folder.iterdir() if path.name[0] != ".")
    return {path.stem: path for path in visible if path.suffix.lower() in suffixes}


def _check_pairs(name: str, tree: Tree) -> Iterator[Finding]:
    images = _files(tree.images, IMAGE_SUFFIXES)
    annotations = _files(tree.annotations, (tree.suffix,))
    listed = tree.listed()
    for path in tree.lists:
        if not path.is_file():
            message = "is missing: it names the frames; unpack the data set again"
            yield Finding(Severity.ERROR, name, message, path)
    for stem in sorted(listed.keys() - images.keys()):
        yield Finding(Severity.WARNING, name, f"lists {stem}: no such image", listed[stem])
    if not annotations:
        return
    meant = listed if tree.lists else images
    for stem in sorted(meant.keys() & images.keys() - annotations.keys()):
        yield Finding(Severity.WARNING, name, "image without annotation: left out", images[stem])
    for stem in () if tree.lists else sorted(annotations.keys() - images.keys()):
        message = "annotation without image: left out"
        yield Finding(Severity.WARNING, name, message, annotations[stem])


def _check_foggy(name: str, root: Path) -> Iterator[Finding]:
    found = foggy_frames(name, root)
    for beta in foggy_betas(name):
        if not any(beta in paths for paths in found.values()):
            continue  # the loader says so in one line
        for paths in found.values():
            if beta not in paths:
                message = f"has no twin of β {beta}; unpack the archive again"
                yield Finding(Severity.ERROR, name, message, next(iter(paths.values())))
    truth = _base(name, root) / "cityscapes/gtFine" / _foggy_split(name)
    for frame, paths in found.items() if truth.is_dir() else ():
        if not (truth / frame.split("_")[0] / f"{frame}_gtFine_instanceIds.png").is_file():
            message = "has no gtFine annotation: left out"
            yield Finding(Severity.WARNING, name, message, next(iter(paths.values())))
