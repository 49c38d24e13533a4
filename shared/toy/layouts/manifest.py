"""What a toy data set on disk was made with, and whether it is all there.

`toy/<layout>.json` exists once the layout is complete, `toy/<layout>.unfinished.json` before.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from shared.errors import UserError
from shared.files import write_atomically
from shared.toy.layouts.base import LAYOUTS, MAX_FRAMES, Frame, Layout

FOLDER = "toy"
# Raised whenever the same parameters give other files, in the scenes or in a layout: data made by
# another version is refused, not mixed with.
GENERATOR_VERSION = 1


@dataclass(frozen=True)
class Size:
    """How many frames, of which scenes, how large."""

    count: int
    val_count: int
    seed: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_FRAMES or not 0 <= self.val_count <= MAX_FRAMES:
            raise UserError(
                f"toy data: got {self.count} training and {self.val_count} test frames, expected "
                f"1 to {MAX_FRAMES} and 0 to {MAX_FRAMES}"
            )


@dataclass(frozen=True)
class Plan:
    """One layout below `root / FOLDER`."""

    name: str
    root: Path
    size: Size

    @property
    def layout(self) -> Layout:
        return LAYOUTS.get(self.name)

    @property
    def folder(self) -> Path:
        return self.root / FOLDER

    @property
    def finished(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def unfinished(self) -> Path:
        return self.folder / f"{self.name}.unfinished.json"

    @cached_property
    def frames(self) -> list[Frame]:
        return self.layout.frames(self.size.count, self.size.val_count)

    @cached_property
    def lists(self) -> dict[str, bytes]:
        return self.layout.lists(self.frames)

    @cached_property
    def parameters(self) -> dict:
        counts = Counter(f"{frame.data_set} {frame.split}" for frame in self.frames)
        return {
            "layout": self.name,
            "generator": GENERATOR_VERSION,
            "seed": self.size.seed,
            "height": self.size.height,
            "width": self.size.width,
            "frames": dict(counts),
        }

    @cached_property
    def files(self) -> list[str]:
        return [f for frame in self.frames for f in self.layout.files(frame)] + list(self.lists)

    def existing(self) -> dict | None:
        """The manifest on disk: of a complete layout, of one begun, or None."""
        if self.finished.is_file():
            return self._read(self.finished)
        if self.unfinished.is_file():
            manifest = self._read(self.unfinished)
            # A run that ended before its first file binds nobody to its parameters.
            if any((self.folder / file).is_file() for file in manifest["files"]):
                return manifest
        return None

    def _read(self, path: Path) -> dict:
        try:
            manifest = json.loads(path.read_text())
            _ = manifest["files"], manifest["frames"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is no manifest of toy data; remove it and the folders "
                f"{', '.join(self.layout.owns)} beside it"
            ) from error
        return manifest

    def complete(self) -> bool:
        """Made with these parameters, and every file still there."""
        if not self.finished.is_file():
            return False
        manifest = self.existing()
        return _without_files(manifest) == self.parameters and all(
            (self.folder / file).is_file() for file in manifest["files"]
        )

    def check(self, *, force: bool) -> None:
        """UserError where writing would mix these frames with others.

        Args:
            force: other parameters are no objection; files of unknown origin still are.
        """
        manifest = self.existing()
        if manifest is not None and not force and _without_files(manifest) != self.parameters:
            raise UserError(
                f"{self.folder}: toy layout '{self.name}' is there with "
                f"{_describe(manifest)}; asked for: {_describe(self.parameters)}; "
                "replace it with: python datasets/make_toy.py --force, or choose another root"
            )
        known = set(manifest["files"]) if manifest else set()
        for file in self._files_on_disk():
            if file not in known:
                raise UserError(
                    f"{self.folder / file} was not made by make_toy (it is in no manifest): move "
                    "it away, or choose another root"
                )

    def begin(self) -> None:
        """Says on disk what is being written, before the first frame."""
        if self.existing() is None:
            write_atomically(self.unfinished, self._content())

    def finish(self) -> None:
        write_atomically(self.finished, self._content())
        self.unfinished.unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes what the manifest lists, the folders that this empties, then the manifest."""
        manifest = self.existing()
        if manifest is None:
            return
        write_atomically(self.unfinished, json.dumps(manifest).encode())
        self.finished.unlink(missing_ok=True)
        emptied = set()
        for file in manifest["files"]:
            path = self.folder / file
            path.unlink(missing_ok=True)
            emptied.update(self.folder / parent for parent in Path(file).parents)
        for folder in sorted(emptied - {self.folder}, reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        self.unfinished.unlink()

    def _content(self) -> bytes:
        return json.dumps(self.parameters | {"files": self.files}, indent=1).encode()

    def _files_on_disk(self) -> Iterable[str]:
        for owned in self.layout.owns:
            for path in (self.folder / owned).rglob("*"):
                file = path.relative_to(self.folder)
                # Hidden files are our own temporary ones and indexes, or the file browser's.
                if path.is_file() and not any(part.startswith(".") for part in file.parts):
                    yield file.as_posix()


def is_ready(root: Path, name: str) -> bool:
    """Whether a complete layout of this generator is there, of any size.

    Raises:
        UserError: it was made by another version of the generator.
    """
    path = root / FOLDER / f"{name}.json"
    if not path.is_file():
        return False
    version = json.loads(path.read_text()).get("generator")
    if version != GENERATOR_VERSION:
        raise UserError(
            f"{path} is of version {version} of the toy generator, this is {GENERATOR_VERSION}: "
            f"renew it with: python datasets/make_toy.py --force --layouts {name}"
        )
    return True


def _without_files(manifest: dict) -> dict:
    return {key: value for key, value in manifest.items() if key != "files"}


def _describe(parameters: dict) -> str:
    frames = " + ".join(f"{count} {split}" for split, count in parameters["frames"].items())
    return (
        f"{frames} frames of {parameters.get('height')}x{parameters.get('width')}, "
        f"seed {parameters.get('seed')}, generator {parameters.get('generator')}"
    )
