"""One function over many jobs, in processes that end with the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from shared.errors import MORE_SHARED_MEMORY, UserError, of_lost_worker

Job = TypeVar("Job")
Result = TypeVar("Result")
_END = object()

# A process takes as long to start as some twenty frames take to render, or fifty to decode.
JOBS_PER_WORKER = 50
# Results that a worker computes ahead, PyTorch's default.
PREFETCHED = 2
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
    *,
    timeout: int = 0,
) -> Iterator[Result]:
    """`function(job)` for every job, in their order, computed ahead of their use.

    A UserError in a worker is raised here as it is, without the worker's traceback.

    Args:
        workers: processes; 0 computes each result in this one when it is asked for.
        context: of `multiprocessing`, which starts the processes; None: the usual one.
        timeout: seconds after which a result that does not come is a UserError; 0: never.
    """
    if workers == 0:
        return map(function, jobs)
    loader = DataLoader(
        _Results(function),
        batch_size=None,
        sampler=jobs,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=PREFETCHED,
        multiprocessing_context=context,
        worker_init_fn=_start_worker,
        # Without a generator of its own, it would draw from the network's.
        generator=torch.Generator(),
    )
    # They ignore Ctrl-C, which reaches the whole group, from the beginning.
    with _handling(signal.SIGINT, signal.SIG_IGN), one_cv2_thread():
        before = set(multiprocessing.active_children())
        results = iter(loader)
        processes = set(multiprocessing.active_children()) - before
    return _raising(results, processes, timeout)


class _Results(Dataset):
    def __init__(self, function: Callable[[Job], Result]) -> None:
        self.function = function

    def __getitem__(self, job: Job) -> Result | UserError:
        try:
            result = self.function(job)
        except UserError as error:
            # Raised in a worker, it would become a page of traceback.
            return error
        return _in_shared_memory(result)


def _in_shared_memory(result: Result) -> Result | UserError:
    """The result, its tensors where another process finds them.

    PyTorch would bring them there as well, but in a thread whose errors nobody hears of: without
    room, the result would never come.
    """
    try:
        for tensor in tensors_in(result):
            tensor.share_memory_()
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        return UserError("a loader process found no room in /dev/shm: " + MORE_SHARED_MEMORY)
    return result


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of nested containers and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        yield from tensors_in([getattr(value, field.name) for field in fields(value)])
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def shared_memory_room() -> int | None:
    """Free bytes where workers put their results; None where the system has no such place."""
    try:
        status = os.statvfs("/dev/shm")
    except (OSError, AttributeError):
        return None
    return status.f_bavail * status.f_frsize


def _raising(
    results: Iterator[Result | UserError], processes: Iterable[BaseProcess], timeout: int
) -> Iterator[Result]:
    deadline = _Deadline(processes, timeout)
    try:
        while True:
            with deadline:
                result = next(results, _END)
            if result is _END:
                return
            if isinstance(result, UserError):
                raise result
            yield result
    except (RuntimeError, OSError, EOFError) as error:
        if deadline.passed:
            with _handling(signal.SIGCHLD, signal.SIG_DFL):  # PyTorch would report each as lost
                for process in processes:
                    process.join()
            raise UserError(
                f"a loader process gave nothing for {timeout} s: is the disk slow, or gone? "
                "DATALOADER.TIMEOUT sets the seconds, 0 waits for ever"
            ) from error
        line = of_lost_worker(error) if isinstance(error, RuntimeError) else None
        if line is None:
            raise
        raise line from error
    finally:
        # Ends the workers at once; a traceback would keep them for as long as it is kept.
        del results


class _Deadline:
    """Kills processes, and so ends the wait for them, where the context takes too long.

    PyTorch's own limit does not hold where a process stops in the middle of handing over.
    """

    def __init__(self, processes: Iterable[BaseProcess], seconds: int) -> None:
        self.processes = processes
        self.seconds = seconds
        self.passed = False

    def __enter__(self) -> None:
        self._timer = threading.Timer(self.seconds, self._end)
        self._timer.daemon = True
        if self.seconds:
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.passed = True
        for process in self.processes:
            process.kill()


def _unchanged(result: Result) -> Result:
    return result


@contextmanager
def _handling(number: signal.Signals, handler: signal.Handlers) -> Iterator[None]:
    """Within, a signal is handled so; in another thread than the main one, as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, former)


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
