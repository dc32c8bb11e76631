"""Processes that do jobs, of which any may die at any time.

Each has one job at a time, so it is known what a process was at when it died. The job is tried
again in another; after some attempts it is given up. What is sent is small: what is large, a
process writes to a file itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from gtdnet.errors import InputError
from gtdnet.text import counted, first_line
from gtdnet.workers import keep_freed_memory, signals_held

_STILLBORN = 3
"""Processes in a row that may end before they are ready."""
_LOOK = 1.0  # seconds between two looks whether one hangs

Work = Callable[[Any, Callable[[], object]], Any]
"""Does a job, in a process; what it is given beside the job tells that the process is alive."""


class Told(NamedTuple):
    """What became of a job.

    Attributes:
        result: of the job.
        why: what its processes died of, where it is given up; else None.
        deaths: processes that died at it.
    """

    job: Any
    result: Any
    why: str | None
    deaths: int


@dataclass
class _Task:
    job: Any
    attempts: int
    deaths: int = 0


@dataclass
class _Worker:
    process: BaseProcess
    link: Connection
    is_ready: bool = False
    task: _Task | None = None
    heard: float = field(default_factory=time.monotonic)
    killed: str = ""  # why, if by us


class Crew:
    """So many processes; to be used as a context.

    Args:
        make: makes what does a job, in each process, of the process's number.
        begin: what each calls first (:func:`gtdnet.workers.beginning`).
        size: how many, at most.
        attempts: at a job, before it is given up.
        timeout: seconds without a sign of life after which a process is killed.
        folder: where they work; paths may be relative to it.
        first: number of the first, where other machines have crews as well.
    """

    def __init__(
        self,
        make: Callable[[int], Work],
        begin: Callable[[], object],
        size: int,
        *,
        attempts: int,
        timeout: float,
        folder: str,
        first: int = 0,
    ) -> None:
        self._make, self._begin, self._size = make, begin, size
        self._attempts, self._timeout, self._folder = attempts, timeout, folder
        self._workers: list[_Worker] = []
        self._started, self._stillborn = first, 0
        self._again: deque[_Task] = deque()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.link.close()
        self._workers.clear()

    def add(self, jobs: Iterable[Any], attempts: int) -> None:
        """Do these before those that are still to come; to be called while :meth:`run` runs."""
        self._again.extend(_Task(job, attempts) for job in jobs)

    def run(self, jobs: Iterable[Any]) -> Iterator[Told]:
        """Do jobs; each is told of as soon as it is done, or given up.

        Raises:
            InputError: processes cannot be started or made ready, or one refuses to go on.
            RuntimeError: a mistake of ours in a process.
        """
        tasks = (_Task(job, self._attempts) for job in jobs)
        upcoming = next(tasks, None)
        while True:
            while self._again or upcoming:
                if (worker := self._idle()) is None:
                    break
                if self._again:
                    task = self._again.popleft()
                else:
                    task, upcoming = upcoming, next(tasks, None)
                assert task is not None
                worker.task, worker.heard = task, time.monotonic()
                with suppress(OSError):  # it has died; that is heard below
                    worker.link.send(task.job)
            if all(w.task is None for w in self._workers) and not (self._again or upcoming):
                return
            yield from self._hear()

    def _idle(self) -> _Worker | None:
        """One that is ready and has no job; those that are lacking are started."""
        while len(self._workers) < self._size:
            self._start()
        return next((w for w in self._workers if w.is_ready and w.task is None), None)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._make, self._begin, self._folder, self._started)
        process = context.Process(target=_work, args=arguments, daemon=True)
        with signals_held():
            process.start()
        theirs.close()  # so that the end of the process is the end of the link
        self._workers.append(_Worker(process, ours))
        self._started += 1

    def _hear(self) -> Iterator[Told]:
        """What the processes say within a moment, and which of them have died."""
        links = {worker.link: worker for worker in self._workers}
        for link in wait(list(links), _LOOK):
            worker = links[link]  # type: ignore[index]
            try:
                kind, what = worker.link.recv()
            except (EOFError, OSError):
                yield from self._bury(worker)
                continue
            worker.heard = time.monotonic()
            if kind == "ready":
                worker.is_ready, self._stillborn = True, 0
            elif kind == "refused":
                raise InputError(what)
            elif kind == "failed":
                raise RuntimeError(what)
            elif kind == "done" and worker.task is not None:
                task, worker.task = worker.task, None
                yield Told(task.job, what, None, task.deaths)
        for worker in self._workers:
            is_silent = time.monotonic() - worker.heard > self._timeout
            if worker.task and is_silent and not worker.killed:
                worker.killed = f"no sign of life for {self._timeout:g} s"
                worker.process.kill()

    def _bury(self, worker: _Worker) -> Iterator[Told]:
        """Try what a process died of once more, or give it up."""
        worker.process.join()
        worker.link.close()
        self._workers.remove(worker)
        why = worker.killed or _cause(worker.process.exitcode)
        if (task := worker.task) is None:
            self._stillborn += not worker.is_ready
            if self._stillborn >= _STILLBORN:
                raise InputError(
                    f"{counted(_STILLBORN, 'process', 'processes')} ended before they were ready "
                    f"({why}); lower --num_workers, or try one clip by itself"
                )
            return
        task.deaths += 1
        if task.deaths < task.attempts:
            self._again.appendleft(task)
        else:
            yield Told(task.job, None, why, task.deaths)


def _work(
    link: Connection,
    make: Callable[[int], Work],
    begin: Callable[[], object],
    folder: str,
    number: int,
) -> None:
    """What a process does: the jobs that it is sent, until there is nobody to send."""
    try:
        keep_freed_memory()  # the command's own holds for what it forks; this is a new program
        os.chdir(folder)
        begin()
        work = make(number)
        link.send(("ready", None))
        while True:
            link.send(("done", work(link.recv(), lambda: link.send(("alive", None)))))
    except (EOFError, BrokenPipeError):
        return
    except InputError as error:
        link.send(("refused", str(error)))
    except BaseException as error:
        link.send(("failed", f"{type(error).__name__}: {first_line(error)}"))


def _cause(code: int | None) -> str:
    """Why a process ended, from its exit status."""
    if code is None or code >= 0:
        return f"exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # one without a name
        return f"signal {-code}"
    return f"{name}: most likely memory ran out" if name == "SIGKILL" else name
