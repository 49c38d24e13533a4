"""One function over many jobs, in processes that end with the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from shared.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

# A process takes as long to start as some twenty frames take to render, or fifty to decode.
JOBS_PER_WORKER = 50
# A worker that is asked to end, and that nobody ends, ends by itself after that.
GRACE_SECONDS = 120


def worker_count(workers: int, jobs: int) -> int:
    """`workers` processes for that many jobs; 0 takes what the machine and the work allow."""
    if workers < 0:
        raise UserError(f"got {workers} workers, expected 1 or more, or 0 for automatic")
    if workers == 0:
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        workers = min(cores, jobs // JOBS_PER_WORKER)
    return max(1, min(workers, jobs))


def in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
    """`function(job)` for every job, in their order.

    Args:
        function: of module level, so that other processes find it.
        workers: as in `worker_count`; 1 works in this process.
    """
    workers = worker_count(workers, len(jobs))
    # Forking a process that runs PyTorch's threads can deadlock; a server that has imported what
    # the function needs, and runs none, can be forked.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([function.__module__])
    return prefetch(function, jobs, workers if workers > 1 else 0, context)


def prefetch(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    context: BaseContext | None = None,
) -> Iterator[Result]:
    """`function(job)` for every job, in their order, computed ahead of their use.

    A UserError in a worker is raised here as it is, without the worker's traceback.

    Args:
        workers: processes; 0 computes each result in this one when it is asked for.
        context: of `multiprocessing`, which starts the processes; None: the usual one.
    """
    if workers == 0:
        return map(function, jobs)
    loader = DataLoader(
        _Results(function),
        batch_size=None,
        sampler=jobs,
        collate_fn=_unchanged,
        num_workers=workers,
        multiprocessing_context=context,
        worker_init_fn=_start_worker,
        # Without a generator of its own, it would draw from the network's.
        generator=torch.Generator(),
    )
    with _interrupts_held_off(), one_cv2_thread():
        results = iter(loader)
    return _raising(results)


class _Results(Dataset):
    def __init__(self, function: Callable[[Job], Result]) -> None:
        self.function = function

    def __getitem__(self, job: Job) -> Result | UserError:
        try:
            return self.function(job)
        except UserError as error:
            # Raised in a worker, it would become a page of traceback.
            return error


def _raising(results: Iterator[Result | UserError]) -> Iterator[Result]:
    try:
        for result in results:
            if isinstance(result, UserError):
                raise result
            yield result
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise UserError(
            "a worker process ended too early; it may lack memory, or the calling script its "
            "`if __name__ == '__main__':`; use fewer workers or none; what is finished stays"
        ) from error
    finally:
        # Ends the workers at once; a traceback would keep them for as long as it is kept.
        del results


def _unchanged(result: Result) -> Result:
    return result


@contextmanager
def _interrupts_held_off() -> Iterator[None]:
    """Processes started within ignore Ctrl-C, which reaches the whole group, from the beginning."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def one_cv2_thread() -> Iterator[None]:
    """OpenCV's pool of threads is gone within: a process forked with one would wait for it."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _start_worker(number: int) -> None:
    cv2.setNumThreads(1)
    # Where the start was no main thread's, this was not inherited.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A signal to all processes of a job: the one that trains still needs samples, to save.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.alarm(GRACE_SECONDS))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, the workers of a killed parent wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
