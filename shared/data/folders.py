"""Where data sets lie on disk, and which of their files belong together."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import MissingFileError, UserError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


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


def real_place(name: str, root: Path) -> Place:
    """The place of a real data set below the data root."""
    mend = (
        "datasets/README.md says where to get it; "
        "DETECTRON2_DATASETS names the folder that holds all data sets"
    )
    return Place(name, root, mend)


def toy_place(name: str, root: Path) -> Place:
    """The place of a toy data set: the same layouts below `<root>/toy`."""
    return Place(name, root / "toy", "make it with: python datasets/make_toy.py")


def data_root() -> Path:
    """The folder that holds the data sets: `DETECTRON2_DATASETS`, else `datasets/`.

    `datasets/` of the current folder (Detectron2's rule) comes before the repository's own.
    """
    if os.environ.get("DETECTRON2_DATASETS"):
        return Path(os.environ["DETECTRON2_DATASETS"]).expanduser()
    repository = Path(__file__).parents[2]
    if not Path("datasets").is_dir() and (repository / "setup.cfg").is_file():
        return repository / "datasets"
    return Path("datasets")


def files_in(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> dict[str, Path]:
    """Stem without `ending` → file, for the visible files directly in `folder`."""
    found = {}
    for path in folder.iterdir():
        if path.suffix.lower() in suffixes and path.stem.endswith(ending) and path.name[0] != ".":
            found[path.stem.removesuffix(ending)] = path
    return found


def city_files(folder: Path, ending: str, suffix: str = ".png") -> dict[str, Path]:
    """Stem without `ending` → file, over the city folders of a Cityscapes split."""
    found = {}
    for city in sorted(p for p in folder.iterdir() if p.is_dir()):
        found |= files_in(city, (suffix,), ending)
    return found


def matched_names(
    place: Place, images: Mapping[str, Path], labels: Mapping[str, Path] | None, folder: Path
) -> list[str]:
    """The sorted names of the frames that have both files; of all images without `labels`."""
    if not images:
        raise UserError(f"data set '{place.name}': no images in {folder}; {place.mend}")
    if labels is None:
        return sorted(images)
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
    return names
