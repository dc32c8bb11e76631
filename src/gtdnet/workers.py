"""Processes: how many there may be, how they start and end, and how they keep memory."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import multiprocessing.connection
import os
import platform
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

_SECONDS_AT_HAND = 3.0  # that a job which has begun has to end, when its process is to


def num_cores() -> int:
    """Cores that this process may use, as a container or a scheduler allows."""
    return math.ceil(min(len(allowed_cores()), cpu_quota() or math.inf))


def allowed_cores() -> set[int]:
    """Numbers of the cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return affinity(0) if affinity else set(range(os.cpu_count() or 1))


def cpu_quota(root: str | Path = "/") -> float | None:
    """Cores whose time the control groups of this process may use up, as a container's limit.

    The lowest of its group's and those above, of version 1 or 2 (Linux); None: there is no limit.
    """
    root, quotas = Path(root), []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        # A container may see its own group at the top, whatever the path says.
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            for place in ("", controllers, "cpu"):
                folder = root / "sys/fs/cgroup" / place / str(group).lstrip("/")
                v1 = [_read(folder / f"cpu.cfs_{what}_us") for what in ("quota", "period")]
                limit = (_read(folder / "cpu.max") or " ".join(v1)).split()
                if len(limit) == 2 and all(word.isdecimal() and int(word) for word in limit):
                    quotas.append(int(limit[0]) / int(limit[1]))  # microseconds of each period
    return min(quotas, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def default_workers(device: torch.device, devices: int = 1) -> int:
    """Decoding processes for each of several devices: one per core up to 8, half on the CPU."""
    return max(1, min(8, num_cores() // devices // (2 if device.type == "cpu" else 1)))


def map_in_processes(
    function: Callable[[T], R], jobs: Iterable[T], workers: int
) -> Generator[R, None, None]:
    """What a function of a module gives for each job, in the order of the jobs.

    With one worker it is called here. More are started afresh, for forking a process that runs
    PyTorch's threads may hang; each has one thread, leaves signals to this process and ends with
    it. They are a few jobs ahead of what is taken; closing the iterator ends them, the jobs at hand
    being finished if that takes no more than seconds.
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    jobs = iter(jobs)
    with new_processes(workers, start_worker) as submit:
        waiting: deque[Future[R]] = deque(
            submit(function, job) for job in islice(jobs, 3 * workers)
        )
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(submit(function, job) for job in islice(jobs, 1))
            yield result


_registering: list[str] = []  # modules that this process imported for what they register


def import_registering(module: str) -> None:
    """Import a module that registers models, formats, ...: here, and in every new process."""
    import_module(module)
    _registering.append(module)


def registering() -> list[str]:
    """The modules that were imported so."""
    return list(_registering)


@contextmanager
def new_processes(number: int, start: Callable[[], object]) -> Iterator[Callable[..., Future[Any]]]:
    """So many processes, started afresh; ``start``, of a module, is called in each of them first.

    Yields what submits a function of a module and its arguments to them.

    They know what :func:`import_registering` imported. At the end, jobs that nobody has begun are
    dropped, and those at hand have some seconds.
    """
    begin = beginning(start)
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), begin)

    def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        with signals_held():  # it may start a process
            return pool.submit(function, *arguments)

    try:
        yield submit
    finally:
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + _SECONDS_AT_HAND
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
        for process in processes:
            process.kill()
            process.join()


def beginning(start: Callable[[], object]) -> Callable[[], None]:
    """What a new process calls first: ``start``, and imports of what this process registered."""
    return partial(_begin, start, tuple(_registering))


def _begin(start: Callable[[], object], registering: Sequence[str]) -> None:
    start()
    for module in registering:
        import_module(module)


def start_worker(number: int = 0) -> None:
    """Compute in one thread, and :func:`obey_parent`."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for a PyTorch that is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    obey_parent()


def obey_parent() -> None:
    """Leave Ctrl-C and SIGTERM to the parent of this process, and end with it.

    Both signals reach a whole group of processes, from a terminal or a scheduler, and the parent
    may need its workers to end well. SIGTERM from the parent itself does end a worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if hasattr(signal, "sigwaitinfo"):  # says who sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, args=(parent.pid,), daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if hasattr(signal, "pthread_sigmask"):  # held by the parent
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_when_told(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM come afterwards, and to processes that are started when they want them.

    Those that are forked first have our handlers, others the system's, until they say otherwise.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Terminated(KeyboardInterrupt):
    """SIGTERM asked this process to end."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated`, so that what is open is closed as after Ctrl-C."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated("terminated")

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---------------------------------------------------------------------------------------- memory

_USERS_OWN = (
    "GLIBC_TUNABLES",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 32 * 2**20  # bytes; the highest threshold that glibc takes


def keep_freed_memory() -> bool:
    """Let this process keep blocks of up to 32 MiB that it frees, and take them again.

    By default glibc gives large blocks back to the system as soon as they are freed. A network
    frees and takes such blocks in every layer, and the system clears each of their pages anew when
    it is first touched (docs/performance.md). The command gtdnet does this for itself; programs
    that use the package may. It holds for the whole process and what it forks, until it ends.
    Larger blocks still come and go, lest memory fall to pieces.

    Returns:
        Whether it does now: not where the C library is another, or where the environment has
        settings of its own for glibc's malloc.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _USERS_OWN):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
