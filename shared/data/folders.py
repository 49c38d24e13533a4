"""Where data sets lie on disk, and which of their files belong together."""

import os
from dataclasses import dataclass
from pathlib import Path

from shared.data.records import Fault, Frame, Severity
from shared.errors import MissingFileError, UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

Files = dict[str, Path]


def data_root(named: str = "") -> Path:
    """The folder that holds the data sets: as named, else `DETECTRON2_DATASETS`, else `datasets/`.

    `datasets/` of the current folder (Detectron2's rule) comes before the repository's own.
    """
    named = named or os.environ.get("DETECTRON2_DATASETS", "")
    if named:
        return Path(named).expanduser()
    repository = Path(__file__).parents[2]
    if not Path("datasets").is_dir() and (repository / "setup.cfg").is_file():
        return repository / "datasets"
    return Path("datasets")


@dataclass(frozen=True)
class Location:
    """The folder that the layout of data set `name` begins at, and what helps where it is empty."""

    name: str
    root: Path
    remedy: str

    def folder(self, *candidates: str) -> Path:
        """The first of `candidates` (paths below the root) that is a folder."""
        for candidate in candidates:
            if (self.root / candidate).is_dir():
                return self.root / candidate
        others = "".join(f" (nor {self.root / c})" for c in candidates[1:])
        raise self.missing(f"no folder {self.root / candidates[0]}{others}")

    def missing(self, text: str) -> MissingFileError:
        return MissingFileError(f"data set '{self.name}': {text}; {self.remedy}")


def locate(name: str, root: Path) -> Location:
    """Of a real data set the data root itself; toy data sets have the same layouts below `toy/`."""
    if name.startswith("toy_"):
        return Location(name, root / "toy", "make it with: street-adapt toy")
    remedy = (
        "datasets/README.md says where to get it; "
        "DETECTRON2_DATASETS names the folder that holds all data sets"
    )
    return Location(name, root, remedy)


def files_in(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> Files:
    """Stem without `ending` → file, for the visible files directly in `folder`."""
    return {
        path.stem.removesuffix(ending): path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and path.stem.endswith(ending) and path.name[0] != "."
    }


def city_files(folder: Path, ending: str, suffix: str = ".png") -> Files:
    """Stem without `ending` → file, over the city folders of a Cityscapes split."""
    files = {}
    for city in sorted(p for p in folder.iterdir() if p.is_dir()):
        files |= files_in(city, (suffix,), ending)
    return files


def match(
    location: Location, images: Files, labels: Files | None, folder: Path
) -> tuple[tuple[Frame, ...], list[Fault]]:
    """The frames that have both files, sorted by name, and the files without a partner.

    Without `labels`, all images. UserError where no frame is left.

    Args:
        images, labels: frame's name → file.
        folder: of the images; named in errors.
    """
    if not images:
        raise UserError(f"data set '{location.name}': no images in {folder}; {location.remedy}")
    if labels is None:
        return tuple(Frame(name, images[name], None) for name in sorted(images)), []
    names = images.keys() & labels.keys()
    if not names:
        raise UserError(
            f"data set '{location.name}': none of the {len(images)} images in {folder} has a label "
            f"of the same name; {location.remedy}"
        )
    faults = [
        Fault(Severity.WARNING, message, files[name])
        for message, files in (
            ("image without label: left out", images),
            ("label without image: left out", labels),
        )
        for name in sorted(files.keys() - names)
    ]
    return tuple(Frame(name, images[name], labels[name]) for name in sorted(names)), faults
