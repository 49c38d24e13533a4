"""Renders toy data sets into their layouts, over processes; an interrupted run can go on.

`toy/<layout>.json` says what a layout is made with, which files it has, and whether it is complete.
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from shared.data.catalog import DETECTION, SEGMENTATION
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
    layouts = {}
    for name in names:
        if name.startswith("toy_") and (name in SEGMENTATION or name in DETECTION):
            fitting = [stem for stem in stems if name.startswith(f"toy_{stem}")]
            layouts |= {stems[stem]: None for stem in sorted(fitting, key=len)[-1:]}
    return list(layouts)


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
        if names.keys() & set(LAYOUTS.get(name).needs) and _read_manifest(folder, name):
            names[name] = None
    targets = [_Target(folder, name, count, val_count, size) for name in names]
    targets = [target for target in targets if force or not target.is_complete()]
    for target in targets:
        target.check(force=force)
    for target in targets:
        target.begin(force=force)
    jobs = [job for target in targets for job in target.jobs()]
    total = sum(len(target.frames) for target in targets)
    results = in_processes(_make_frame, jobs, workers)
    bar = {"desc": "toy data", "unit": "frame", "disable": not progress or not jobs}
    with one_cv2_thread():
        for _ in tqdm(results, total=total, initial=total - len(jobs), **bar):
            pass
    for target in targets:
        target.finish()
    return bool(targets)


def _make_frame(job: Job) -> None:
    folder, name, frame, size = job
    for file, content in LAYOUTS.get(name).encode(frame, partial(render, **size)).items():
        write_atomically(folder / file, content)


class _Target:
    """A layout that is to be in `folder`, and the manifest of what is there (None: nothing)."""

    def __init__(
        self, folder: Path, name: str, count: int, val_count: int, size: dict[str, int]
    ) -> None:
        self.folder, self.name, self.size = folder, name, size
        self.layout = LAYOUTS.get(name)
        self.frames = self.layout.frames(count, val_count)
        self.lists = self.layout.lists(self.frames)
        self.files = [f for frame in self.frames for f in self.layout.files(frame)]
        counts = Counter(f"{frame.data_set} {frame.split}" for frame in self.frames)
        self.parameters = {"generator": self.layout.version, **size, "frames": dict(counts)}
        self.existing = _read_manifest(folder, name)
        # A run that ended before its first file binds nobody to its parameters.
        if self.existing and not self.existing["complete"]:
            self.existing = self.existing if any(self._exist(self.existing["files"])) else None

    def is_complete(self) -> bool:
        """Made with these parameters, and every file still there."""
        return (
            self.existing is not None
            and self.existing["complete"]
            and self._has_the_parameters()
            and all(self._exist(self.existing["files"]))
        )

    def check(self, *, force: bool) -> None:
        """UserError where writing would mix these frames with others.

        Args:
            force: other parameters are no objection; files of unknown origin still are.
        """
        if self.existing and not force and not self._has_the_parameters():
            raise UserError(
                f"{self.folder}: toy layout '{self.name}' is there with "
                f"{_describe(self.existing)}; asked for: {_describe(self.parameters)}; "
                "replace it with: street-adapt toy --force, or choose another root"
            )
        files = set(self.existing["files"]) if self.existing else set()
        for path in self._files_on_disk():
            if path.relative_to(self.folder).as_posix() not in files:
                raise UserError(
                    f"{path} was not made by make_toy (it is in no manifest): move it away, or "
                    "choose another root"
                )

    def begin(self, *, force: bool) -> None:
        """Writes the manifest before the first frame; with `force`, deletes first what is there."""
        if self.existing and force:
            self._write(self.existing | {"complete": False})
            for owned in self.layout.owns:
                shutil.rmtree(self.folder / owned, ignore_errors=True)
        if force or not self.existing:
            self._write(self._content(complete=False))

    def jobs(self) -> Iterator[Job]:
        """The frames that are not there, or not all of whose files are."""
        for frame in self.frames:
            if not all(self._exist(self.layout.files(frame))):
                yield self.folder, self.name, frame, self.size

    def finish(self) -> None:
        for file, content in self.lists.items():
            write_atomically(self.folder / file, content)
        self._write(self._content(complete=True))

    def _content(self, *, complete: bool) -> dict:
        return {**self.parameters, "complete": complete, "files": [*self.files, *self.lists]}

    def _write(self, manifest: dict) -> None:
        content = json.dumps(manifest, indent=1).encode()
        write_atomically(_manifest_path(self.folder, self.name), content)

    def _has_the_parameters(self) -> bool:
        return self.parameters.items() <= self.existing.items()

    def _exist(self, files: Iterable[str]) -> Iterator[bool]:
        return ((self.folder / file).is_file() for file in files)

    def _files_on_disk(self) -> Iterator[Path]:
        for owned in self.layout.owns:
            for path in (self.folder / owned).rglob("*"):
                parts = path.relative_to(self.folder).parts
                # Hidden files are our own temporary ones and indexes, or the file browser's.
                if path.is_file() and not any(part.startswith(".") for part in parts):
                    yield path


def _manifest_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _read_manifest(folder: Path, name: str) -> dict | None:
    path = _manifest_path(folder, name)
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
        _ = manifest["files"], manifest["frames"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no manifest of toy data; remove it and the folders "
            f"{', '.join(LAYOUTS.get(name).owns)} beside it"
        ) from error
    return {"complete": True} | manifest


def _is_ready(folder: Path, name: str) -> bool:
    """Whether a complete layout of this version is there, of any size.

    Raises:
        UserError: it was made by another version of the generator.
    """
    manifest, version = _read_manifest(folder, name), LAYOUTS.get(name).version
    if manifest is None:
        return False
    if manifest.get("generator") != version:
        raise UserError(
            f"{_manifest_path(folder, name)} is of version {manifest.get('generator')} of the toy "
            f"generator, this is {version}: renew it with: "
            f"street-adapt toy --force --layouts {name}"
        )
    return manifest["complete"]


def _describe(parameters: dict) -> str:
    frames = " + ".join(f"{count} {split}" for split, count in parameters["frames"].items())
    return (
        f"{frames} frames of {parameters.get('height')}x{parameters.get('width')}, "
        f"seed {parameters.get('seed')}, generator {parameters.get('generator')}"
    )
