"""One function over many jobs, in processes that end with the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import cv2

from shared.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

# A process takes as long to start as some twenty frames take to render, or fifty to decode.
JOBS_PER_WORKER = 50
_CHUNK = 4


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
    if workers == 1:
        yield from map(function, jobs)
        return
    # Forking a process that runs PyTorch's threads can deadlock.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        with _interrupts_held_off():
            results = pool.map(function, jobs, chunksize=_CHUNK)
        yield from results
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process ended too early; it may lack memory, or the calling script its "
            "`if __name__ == '__main__':`; use fewer workers (1 needs no process); "
            "what is finished stays"
        ) from error
    finally:
        # Interrupted, the pool finishes what the workers have begun and forgets the rest.
        pool.shutdown(cancel_futures=True)


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


def _start_worker() -> None:
    cv2.setNumThreads(1)
    # Where the start was no main thread's, this was not inherited.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, the workers of a killed parent wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
