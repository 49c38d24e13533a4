"""Images per second of reading 2048x1024 pairs as 1024x512: our input against plain Pillow.

All run in turn on one core and are timed by their processor time; then through a DataLoader with
more and more workers, timed by the wall clock. The frames are toy scenes with a camera's noise,
which makes PNGs as large as those of Cityscapes (some 2.3 MB).
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seg_adapt.data.cache import ResizedFiles
from seg_adapt.data.reading import Reader
from seg_adapt.data.transforms import resize_image, resize_labels
from shared.data.images import read_image, read_labels, remap
from shared.data.label_maps import label_space, lookup_table
from shared.data.records import SegmentationDataset, SegmentationRecord
from shared.toy import render

SOURCE_SIZE, SIZE = (1024, 2048), (512, 1024)
NOISE = 0.8
SPACE = label_space("cityscapes19")
TABLE = lookup_table("cityscapes", SPACE)
# How labels are written here; the records come later.
FRAMES = SegmentationDataset("frames", (), "cityscapes", "index", Path())

Load = Callable[[SegmentationRecord], tuple[Tensor, Tensor]]


def load_ours(record: SegmentationRecord) -> tuple[Tensor, Tensor]:
    image, labels = Reader(FRAMES, SPACE)(record)
    return resize_image(image, SIZE), resize_labels(labels, SIZE)


def load_pillow(record: SegmentationRecord) -> tuple[Tensor, Tensor]:
    """As most published loaders do it, without their conversion to float."""
    image = Image.open(record.image).convert("RGB").resize(SIZE[::-1], Image.Resampling.BICUBIC)
    labels = Image.open(record.label).resize(SIZE[::-1], Image.Resampling.NEAREST)
    return (
        torch.from_numpy(np.array(image)).permute(2, 0, 1),
        torch.from_numpy(TABLE[np.array(labels)]),
    )


def pipelines(cache: Path) -> dict[str, Load]:
    cached = Reader(FRAMES, SPACE, ResizedFiles(cache, SIZE[::-1], "bicubic"))
    return {"Pillow": load_pillow, "ours": load_ours, "ours, DATASETS.CACHE": cached}


class Frames(Dataset):
    """The records over and over, `count` in all."""

    def __init__(self, load: Load, records: Sequence[SegmentationRecord], count: int) -> None:
        self.load = load
        self.records = records
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.load(self.records[index % len(self.records)])


def write_frames(folder: Path, suffix: str, count: int) -> list[SegmentationRecord]:
    records = []
    for index in range(count):
        frame = render("real", index, height=SOURCE_SIZE[0], width=SOURCE_SIZE[1])
        noise = np.random.default_rng([0, index]).normal(0, NOISE, frame.image.shape)
        picture = np.clip(np.rint(frame.image + noise), 0, 255).astype(np.uint8)
        image, label = folder / f"{index}.{suffix}", folder / f"{index}_labels.png"
        Image.fromarray(picture).save(image, **({"quality": 95} if suffix == "jpg" else {}))
        Image.fromarray(frame.label_ids).save(label)
        records.append(SegmentationRecord(str(index), image, label))
    return records


def milliseconds(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor time of a call; the works take turns, the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    return {name: 1000 * statistics.median(s[1:]) for name, s in seconds.items()}


def one_core(loads: dict[str, Load], records: Sequence[SegmentationRecord], repeats: int) -> None:
    works = {n: lambda load=load: [load(r) for r in records] for n, load in loads.items()}
    times = {name: ms / len(records) for name, ms in milliseconds(works, repeats).items()}
    for name, ms in times.items():
        ratio = times["Pillow"] / ms
        print(f"  {name:16} {ms:6.1f} ms  {1000 / ms:6.1f} images/s  {ratio:5.2f} x Pillow")
    image_file, label_file = records[0].image, records[0].label
    image, labels = read_image(image_file), read_labels(label_file, "index")
    steps = {
        "read the image": lambda: read_image(image_file),
        "resize it": lambda: resize_image(image, SIZE),
        "read the labels": lambda: read_labels(label_file, "index"),
        "map them": lambda: remap(labels, TABLE),
        "resize them": lambda: resize_labels(labels, SIZE),
    }
    parts = milliseconds(steps, repeats).items()
    print("  steps of ours: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in parts))


def scaling(
    loads: dict[str, Load],
    records: Sequence[SegmentationRecord],
    workers: Sequence[int],
    count: int,
) -> None:
    for number in workers:
        rates = []
        for name, load in loads.items():
            loader = DataLoader(Frames(load, records, count + 4), batch_size=2, num_workers=number)
            batches = iter(loader)
            # The first two batches pay for the start of the workers.
            next(batches), next(batches)
            start = time.perf_counter()
            images = sum(len(image) for image, _ in batches)
            rates.append(f"{name} {images / (time.perf_counter() - start):.1f}")
        print(f"  {number:2} workers, images/s: " + "; ".join(rates))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=4, help="different frames per format")
    parser.add_argument("--repeats", type=int, default=9, help="of all frames, on one core")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=60, help="per number of workers")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        loads = pipelines(Path(folder) / "cache")
        for suffix in ("png", "jpg"):
            records = write_frames(Path(folder), suffix, args.frames)
            megabytes = statistics.mean(r.image.stat().st_size for r in records) / 1e6
            print(f"{suffix}, {megabytes:.2f} MB a frame, one core:")
            one_core(loads, records, args.repeats)
            print(f"{suffix}, DataLoader on {os.cpu_count()} cores:")
            scaling(loads, records, args.workers, args.images)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
