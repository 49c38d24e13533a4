"""Renders toy data sets into their layouts, over processes; an interrupted run can go on.

`toy/<layout>.json` says what a layout is made with, which files it has, and whether it is complete.
"""

import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from shared.errors import UserError
from shared.files import write_atomically
from shared.processes import in_processes, one_cv2_thread
from shared.toy.layouts.base import LAYOUTS, MAX_FRAMES, Frame
from shared.toy.render import render

FOLDER = "toy"
Job = tuple[Path, str, Frame, dict[str, int]]

logger = logging.getLogger(__name__)


def toy_layouts(names: Sequence[str]) -> list[str]:
    """The toy layouts that the data sets `names` are read from; other data sets have none."""
    stems = {layout: layout for layout in LAYOUTS} | {"foggy_cityscapes": "cityscapes_foggy"}
    split = "train|val|test|trainval|traintest|summer|fall|winter"
    pattern = f"toy_({'|'.join(stems)})(_det|2007|2012|0712)?(_({split}))?(_polygons|_beta_.+)?"
    matches = (re.fullmatch(pattern, name) for name in names)
    return list(dict.fromkeys(stems[match[1]] for match in matches if match))


def ensure(names: Sequence[str], root: Path, *, count: int, val_count: int) -> None:
    """Makes the toy data sets among `names` that `root` lacks; what is there keeps its size."""
    missing = [name for name in toy_layouts(names) if not _is_ready(root / FOLDER, name)]
    if missing:
        logger.info("making the toy data (%s) in %s", ", ".join(missing), root / FOLDER)
        make_toy(root, missing, count=count, val_count=val_count)


def make_toy(
    root: Path,
    layouts: Sequence[str],
    *,
    count: int,
    val_count: int,
    seed: int = 0,
    height: int = 256,
    width: int = 512,
    workers: int = 0,
    progress: bool = True,
    force: bool = False,
) -> bool:
    """Writes toy data sets below `root / "toy"`; finishes what an interrupted run began.

    The same parameters give the same files, whatever the number of workers.

    Args:
        layouts: names in `LAYOUTS`; those that they need are made as well.
        count: training frames of each data set (of each season in SYNTHIA-SEQS).
        val_count: test frames of each data set that has a test split.
        workers: processes; 1 renders in this one, 0 takes what the machine and the work allow.
        force: replace layouts that were made before; otherwise other parameters than theirs are a
            UserError.

    Returns:
        False where all was there.
    """
    if not layouts:
        raise UserError(f"toy data: no layout named; available: {', '.join(LAYOUTS)}")
    if not 1 <= count <= MAX_FRAMES or not 0 <= val_count <= MAX_FRAMES:
        raise UserError(
            f"toy data: got {count} training and {val_count} test frames, expected "
            f"1 to {MAX_FRAMES} and 0 to {MAX_FRAMES}"
        )
    folder, size = Path(root) / FOLDER, {"seed": seed, "height": height, "width": width}
    names = dict.fromkeys(n for name in layouts for n in (*LAYOUTS.get(name).needs, name))
    for name in LAYOUTS:
        # What shows the same scenes in another way has to change with them.
        if names.keys() & set(LAYOUTS.get(name).needs) and _manifest(folder, name).is_file():
            names[name] = None
    copies = [_Copy(folder, name, count, val_count, size) for name in names]
    todo = copies if force else [copy for copy in copies if not copy.is_complete()]
    for copy in todo:
        copy.check(force=force)
    for copy in todo:
        copy.begin(anew=force)
    jobs = [job for copy in todo for job in copy.jobs()]
    total = sum(len(copy.frames) for copy in todo)
    results = in_processes(_make_frame, jobs, workers)
    show = {"desc": "toy data", "unit": "frame", "disable": not progress or not jobs}
    with one_cv2_thread():
        for _ in tqdm(results, total=total, initial=total - len(jobs), **show):
            pass
    for copy in todo:
        copy.finish()
    return bool(todo)


def _make_frame(job: Job) -> None:
    folder, name, frame, size = job
    for file, content in LAYOUTS.get(name).encode(frame, partial(render, **size)).items():
        write_atomically(folder / file, content)


class _Copy:
    """A layout as it should be in `folder`, and what of it is there."""

    def __init__(
        self, folder: Path, name: str, count: int, val_count: int, size: dict[str, int]
    ) -> None:
        self.folder, self.name, self.size = folder, name, size
        self.layout = LAYOUTS.get(name)
        self.manifest = _manifest(folder, name)
        self.frames = self.layout.frames(count, val_count)
        self.lists = self.layout.lists(self.frames)
        self.files = [f for frame in self.frames for f in self.layout.files(frame)]
        counts = Counter(f"{frame.data_set} {frame.split}" for frame in self.frames)
        self.parameters = {"generator": self.layout.version, **size, "frames": dict(counts)}

    def existing(self) -> dict | None:
        """The manifest on disk, None where there is nothing."""
        if not self.manifest.is_file():
            return None
        manifest = _read(self.manifest)
        # A run that ended before its first file binds nobody to its parameters.
        complete = manifest.get("complete", True)
        return manifest if complete or any(self._present(manifest["files"])) else None

    def is_complete(self) -> bool:
        """Made with these parameters, and every file still there."""
        manifest = self.existing() or {"complete": False}
        return (
            manifest.get("complete", True)
            and self._is_same(manifest)
            and all(self._present(manifest["files"]))
        )

    def check(self, *, force: bool) -> None:
        """UserError where writing would mix these frames with others.

        Args:
            force: other parameters are no objection; files of unknown origin still are.
        """
        manifest = self.existing() or self.parameters | {"files": []}
        if not force and not self._is_same(manifest):
            raise UserError(
                f"{self.folder}: toy layout '{self.name}' is there with "
                f"{_describe(manifest)}; asked for: {_describe(self.parameters)}; "
                "replace it with: python datasets/make_toy.py --force, or choose another root"
            )
        files = set(manifest["files"])
        for path in self._files_on_disk():
            if path.relative_to(self.folder).as_posix() not in files:
                raise UserError(
                    f"{path} was not made by make_toy (it is in no manifest): move it away, or "
                    "choose another root"
                )

    def begin(self, *, anew: bool) -> None:
        """Says on disk what is being written, before the first frame.

        Args:
            anew: deletes first what is there.
        """
        manifest = self.existing()
        if anew and manifest is not None:
            self._write(manifest | {"complete": False})
            for owned in self.layout.owns:
                shutil.rmtree(self.folder / owned, ignore_errors=True)
        if anew or manifest is None:
            self._write(self._content(complete=False))

    def jobs(self) -> Iterator[Job]:
        """The frames that are not there, or not all of whose files are."""
        for frame in self.frames:
            if not all(self._present(self.layout.files(frame))):
                yield self.folder, self.name, frame, self.size

    def finish(self) -> None:
        for file, content in self.lists.items():
            write_atomically(self.folder / file, content)
        self._write(self._content(complete=True))

    def _content(self, *, complete: bool) -> dict:
        return {**self.parameters, "complete": complete, "files": [*self.files, *self.lists]}

    def _write(self, manifest: dict) -> None:
        write_atomically(self.manifest, json.dumps(manifest, indent=1).encode())

    def _is_same(self, manifest: dict) -> bool:
        return {key: manifest.get(key) for key in self.parameters} == self.parameters

    def _present(self, files: Iterable[str]) -> Iterator[bool]:
        return ((self.folder / file).is_file() for file in files)

    def _files_on_disk(self) -> Iterator[Path]:
        for owned in self.layout.owns:
            for path in (self.folder / owned).rglob("*"):
                parts = path.relative_to(self.folder).parts
                # Hidden files are our own temporary ones and indexes, or the file browser's.
                if path.is_file() and not any(part.startswith(".") for part in parts):
                    yield path


def _manifest(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _read(path: Path) -> dict:
    try:
        manifest = json.loads(path.read_text())
        _ = manifest["files"], manifest["frames"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no manifest of toy data; remove it and the folders "
            f"{', '.join(LAYOUTS.get(path.stem).owns)} beside it"
        ) from error
    return manifest


def _is_ready(folder: Path, name: str) -> bool:
    """Whether a complete layout of this version is there, of any size.

    Raises:
        UserError: it was made by another version of the generator.
    """
    path = _manifest(folder, name)
    if not path.is_file():
        return False
    manifest, version = _read(path), LAYOUTS.get(name).version
    if manifest.get("generator") != version:
        raise UserError(
            f"{path} is of version {manifest.get('generator')} of the toy generator, this is "
            f"{version}: renew it with: python datasets/make_toy.py --force --layouts {name}"
        )
    return manifest.get("complete", True)


def _describe(parameters: dict) -> str:
    frames = " + ".join(f"{count} {split}" for split, count in parameters["frames"].items())
    return (
        f"{frames} frames of {parameters.get('height')}x{parameters.get('width')}, "
        f"seed {parameters.get('seed')}, generator {parameters.get('generator')}"
    )
