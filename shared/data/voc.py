"""Data sets in the form of PASCAL VOC: Sim10k, VOC2007, VOC2012, Clipart1k, Watercolor2k.

`<tree>/{JPEGImages/<id>.jpg,Annotations/<id>.xml,ImageSets/Main/<list>.txt}`. The XML counts pixels
from 1 and includes both ends: xmin 1, xmax 3 is the box from 0 to 3.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from shared.data.annotations import AnnotationFile, DetectionFiles
from shared.data.folders import IMAGE_SUFFIXES, Location, files_in, match
from shared.data.records import Annotation, Fault, Frame, Severity
from shared.errors import UserError

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


def read_voc_xml(path: Path) -> AnnotationFile:
    """One annotation file; UserError where it cannot be read or a name or number is missing."""
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path} is no well-formed XML ({error}); unpack it again") from None
    objects = tuple(
        _object(entry, f"{path}: object {i}") for i, entry in enumerate(root.findall("object"))
    )
    height, width = (root.findtext(f"size/{edge}", "").strip() for edge in ("height", "width"))
    if height.isdecimal() and width.isdecimal() and int(height) > 0 and int(width) > 0:
        return AnnotationFile(objects, (int(height), int(width)))
    return AnnotationFile(objects)


def _object(entry: ElementTree.Element, where: str) -> Annotation:
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
    return Annotation(name, (edges[0] - 1, edges[1] - 1, edges[2], edges[3]), difficult)


def voc_files(
    location: Location,
    labeled: bool,
    *,
    lists: Mapping[str, Sequence[str]],
    classes: Sequence[str] = VOC_CLASSES,
    default: tuple[str, ...] | None = None,
) -> DetectionFiles:
    """The frames that lists name.

    Args:
        lists: tree → names of its lists, whose union is meant.
        classes: those that its files should hold.
        default: those of them to keep where none are chosen.
    """
    frames: list[Frame] = []
    faults: list[Fault] = []
    watched: list[Path] = []
    for tree, names in lists.items():
        _refuse_mixed_up_sim10k(location, tree)
        folder = location.folder(*(f"{path}/JPEGImages" for path in _folders(tree)))
        watched += [folder, folder.parent / "ImageSets/Main"]
        listed, list_faults = _listed(location, watched[-1], names)
        faults += list_faults
        files = files_in(folder, IMAGE_SUFFIXES)
        faults += [
            Fault(Severity.WARNING, f"listed in {name}.txt, but not there: left out", folder / stem)
            for stem, name in listed.items()
            if stem not in files
        ]
        files, xmls = {stem: files[stem] for stem in listed if stem in files}, None
        if labeled:
            annotations = folder.with_name("Annotations").relative_to(location.root)
            watched.append(location.folder(annotations.as_posix()))
            xmls = files_in(watched[-1], (".xml",))
            xmls = {stem: xmls[stem] for stem in files if stem in xmls}
        matched, unmatched = match(location, files, xmls, folder)
        frames += matched
        faults += unmatched
    return DetectionFiles(
        name=location.name,
        records=tuple(sorted(frames, key=lambda frame: frame.name)),
        labeled=labeled,
        read=read_voc_xml,
        names={name: (name,) for name in classes},
        default=default,
        key="-".join(name for tree, names in lists.items() for name in (tree, *names)),
        watched=watched,
        faults=faults,
    )


def _folders(tree: str) -> tuple[str, ...]:
    """Where a tree may be, below the data root; the first that is there counts."""
    return (tree, _UNPACKED[tree]) if tree in _UNPACKED else (tree,)


def _listed(
    location: Location, folder: Path, names: Sequence[str]
) -> tuple[dict[str, str], list[Fault]]:
    """Id → the list that names it, and the lists that are missing."""
    paths = [folder / f"{name}.txt" for name in names]
    missing = [path for path in paths if not path.is_file()]
    if len(missing) == len(paths):
        raise location.missing(f"no list {paths[0]}")
    listed = {stem: path.stem for path in paths if path not in missing for stem in _read_list(path)}
    if not listed:
        raise UserError(f"data set '{location.name}': {paths[0]} is empty")
    text = "is missing: it names the frames; unpack the data set again"
    return listed, [Fault(Severity.ERROR, text, path) for path in missing]


def _read_list(path: Path) -> Iterator[str]:
    """The ids in a list of frames; some copies name files instead."""
    for line in path.read_text(errors="replace").splitlines():
        # A second column, where there is one, is the flag of a class.
        for token in line.split()[:1]:
            suffix = next((s for s in (*IMAGE_SUFFIXES, ".xml") if token.lower().endswith(s)), "")
            yield token[: len(token) - len(suffix)]


def _refuse_mixed_up_sim10k(location: Location, tree: str) -> None:
    """Sim10k's archives unpack to `VOC2012`, over the files of the real one."""
    lists = (location.root / f / "ImageSets/Main/trainval10k.txt" for f in _folders("VOC2012"))
    stray = next((path for path in lists if path.is_file()), None)
    if stray is None:
        return
    target = location.root / "sim10k"
    if tree == "VOC2012" or (tree == "sim10k" and not target.is_dir()):
        raise UserError(
            f"data set '{location.name}': {stray} belongs to Sim10k, whose archives unpack to "
            f"VOC2012 and over the files of PASCAL's VOC2012: rename {stray.parents[2]} to "
            f"{target}; if PASCAL's was there before, unpack it again"
        )
