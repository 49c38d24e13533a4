"""Renders toy data sets into their layouts, over processes; an interrupted run can go on."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from shared.errors import UserError
from shared.files import write_atomically
from shared.processes import in_processes, one_cv2_thread
from shared.toy import render
from shared.toy.layouts.base import LAYOUTS, Frame
from shared.toy.layouts.manifest import Plan, Size

Job = tuple[Path, str, Frame, int, int, int]


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
    plans = _plans(root, layouts, Size(count, val_count, seed, height, width))
    return _make(plans, workers, progress, force)


def _plans(root: Path, layouts: Sequence[str], size: Size) -> list[Plan]:
    if not layouts:
        raise UserError(f"toy data: no layout named; available: {', '.join(LAYOUTS)}")
    names: dict[str, None] = {}
    for name in layouts:
        names.update(dict.fromkeys((*LAYOUTS.get(name).needs, name)))
    for name in LAYOUTS:
        # What shows the same scenes in another way has to change with them.
        if names.keys() & set(LAYOUTS.get(name).needs) and Plan(name, Path(root), size).existing():
            names[name] = None
    return [Plan(name, Path(root), size) for name in names]


def _make(plans: Sequence[Plan], workers: int, progress: bool, force: bool) -> bool:
    todo = list(plans) if force else [plan for plan in plans if not plan.complete()]
    for plan in todo:
        plan.check(force=force)
    for plan in todo:
        if force:
            plan.remove()
        plan.begin()
    jobs = [job for plan in todo for job in _missing(plan)]
    total = sum(len(plan.frames) for plan in todo)
    with (
        tqdm(
            total=total,
            initial=total - len(jobs),
            desc="toy data",
            unit="frame",
            disable=not progress or not jobs,
        ) as bar,
        one_cv2_thread(),
    ):
        for _ in in_processes(_make_frame, jobs, workers):
            bar.update()
    for plan in todo:
        for file, content in plan.lists.items():
            write_atomically(plan.folder / file, content)
        plan.finish()
    return bool(todo)


def _missing(plan: Plan) -> Iterator[Job]:
    size = plan.size
    for frame in plan.frames:
        if not all((plan.folder / file).is_file() for file in plan.layout.files(frame)):
            yield plan.folder, plan.name, frame, size.seed, size.height, size.width


def _make_frame(job: Job) -> None:
    folder, name, frame, seed, height, width = job
    renderer = partial(render, seed=seed, height=height, width=width)
    for file, content in LAYOUTS.get(name).encode(frame, renderer).items():
        write_atomically(folder / file, content)
