"""Processes that answer blocks, of which any may die at any time.

Each has one block at a time, so it is known what a process was at when it died. The block is tried
again in another; after some attempts its clips go one by one, and one that kills its process then
too is answered by that. What is sent is small: a process writes its shards itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from gtdnet.bulk.listing import Block
from gtdnet.bulk.scorer import Scorer, Setup
from gtdnet.bulk.shards import Answer, Counts
from gtdnet.errors import InputError
from gtdnet.text import counted, first_line
from gtdnet.workers import keep_freed_memory, signals_held

_TRIES_ALONE = 2
"""Of a clip, which an accident of another's making may have hit once."""
_STILLBORN = 3
"""Processes in a row that may end before they have the model."""
_LOOK = 1.0  # seconds between two looks whether one hangs


class Done(NamedTuple):
    """A block whose shard is there.

    Attributes:
        counts: its rows, and those without an answer.
        reasons: of these.
        deaths: processes that died of it.
    """

    block: int
    counts: Counts
    reasons: list[str]
    deaths: int


class Job(NamedTuple):
    """A block, or one clip of it alone by its place."""

    block: Block
    alone: int | None = None


@dataclass
class _Worker:
    process: BaseProcess
    link: Connection
    is_ready: bool = False
    job: Job | None = None
    heard: float = field(default_factory=time.monotonic)
    killed: str = ""  # why, if by us


class Crew:
    """So many processes with a model each; to be used as a context.

    Args:
        setup: what they answer.
        begin: what each calls first (:func:`gtdnet.workers.beginning`).
        size: how many, at most.
        attempts: at a block, before its clips are tried one by one.
        timeout: seconds without a sign of life after which a process is killed.
        folder: where they work; paths may be relative to it.
        first: number of the first, where other machines have crews as well.
    """

    def __init__(
        self,
        setup: Setup,
        begin: Callable[[], object],
        size: int,
        *,
        attempts: int,
        timeout: float,
        folder: str,
        first: int = 0,
    ) -> None:
        self._setup, self._begin, self._size = setup, begin, size
        self._attempts, self._timeout, self._folder = attempts, timeout, folder
        self._workers: list[_Worker] = []
        self._started, self._stillborn = first, 0
        self._again: deque[Job] = deque()
        self._tried: Counter[tuple[int, int | None]] = Counter()
        self._apart: dict[int, dict[int, Answer]] = {}  # answers of blocks done clip by clip

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.link.close()
        self._workers.clear()

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """Answer blocks; each is told of as soon as its shard is there.

        Raises:
            InputError: processes cannot be started or load the model, or one refuses to go on.
            RuntimeError: a mistake of ours in a process.
        """
        jobs = (Job(block) for block in blocks)
        upcoming = next(jobs, None)
        while True:
            while self._again or upcoming:
                if (worker := self._idle()) is None:
                    break
                if self._again:
                    job = self._again.popleft()
                else:
                    job, upcoming = upcoming, next(jobs, None)
                worker.job, worker.heard = job, time.monotonic()
                with suppress(OSError):  # it has died; that is heard below
                    worker.link.send(job)
            if all(w.job is None for w in self._workers) and not (self._again or upcoming):
                return
            yield from self._hear()

    # ------------------------------------------------------------------------------ processes

    def _idle(self) -> _Worker | None:
        """One that has the model and no job; those that are lacking are started."""
        while len(self._workers) < self._size:
            self._start()
        return next((w for w in self._workers if w.is_ready and w.job is None), None)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._setup, self._begin, self._folder, self._started)
        process = context.Process(target=_work, args=arguments, daemon=True)
        with signals_held():
            process.start()
        theirs.close()  # so that the end of the process is the end of the link
        self._workers.append(_Worker(process, ours))
        self._started += 1

    def _hear(self) -> Iterator[Done]:
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
            elif kind == "done":
                job, worker.job = worker.job, None
                yield from self._take(job, what)
        for worker in self._workers:
            is_silent = time.monotonic() - worker.heard > self._timeout
            if worker.job and is_silent and not worker.killed:
                worker.killed = f"no sign of life for {self._timeout:g} s"
                worker.process.kill()

    def _take(self, job: Job | None, what: Any) -> Iterator[Done]:
        if job is None:
            return
        if job.alone is None:
            counts, reasons = what
            yield Done(job.block.number, counts, reasons, self._tried[job.block.number, None])
        else:
            yield from self._alone(job, what)

    def _bury(self, worker: _Worker) -> Iterator[Done]:
        """Try what a process died of once more, or give it up."""
        worker.process.join()
        worker.link.close()
        self._workers.remove(worker)
        why = worker.killed or _cause(worker.process.exitcode)
        if worker.job is None:
            self._stillborn += not worker.is_ready
            if self._stillborn >= _STILLBORN:
                raise InputError(
                    f"{counted(_STILLBORN, 'process', 'processes')} ended before they had the "
                    f"model ({why}); lower --num_workers, or try gtdnet predict on one clip"
                )
            return
        job = worker.job
        key = job.block.number, job.alone
        self._tried[key] += 1
        if self._tried[key] < (self._attempts if job.alone is None else _TRIES_ALONE):
            self._again.appendleft(job)
        elif job.alone is None:
            self._apart[job.block.number] = {}
            self._again.extend(Job(job.block, place) for place in range(len(job.block.rows)))
        else:
            row = job.block.rows[job.alone]
            reason = f"its process died each time that it was read ({why})"
            yield from self._alone(job, Answer(row.id, row.path, reason))

    def _alone(self, job: Job, answer: Answer) -> Iterator[Done]:
        """Keep the answer to one clip; the last of its block makes the shard."""
        block = job.block
        answers = self._apart[block.number]
        answers[job.alone or 0] = answer
        if len(answers) < len(block.rows):
            return
        ordered = [answers[place] for place in range(len(block.rows))]
        setup = self._setup
        counts = setup.shards.write(block.number, ordered, setup.run, setup.num_features)
        del self._apart[block.number]
        deaths = sum(self._tried.pop(key) for key in list(self._tried) if key[0] == block.number)
        reasons = [a.reason for a in ordered if a.reason is not None]
        yield Done(block.number, counts, reasons, deaths)


def _work(
    link: Connection, setup: Setup, begin: Callable[[], object], folder: str, number: int
) -> None:
    """What a process does: answer what it is sent, until there is nobody to send."""
    try:
        keep_freed_memory()  # the command's own holds for what it forks; this is a new program
        os.chdir(folder)
        begin()
        scorer = Scorer(setup, number)
        link.send(("ready", None))
        while True:
            block, alone = link.recv()
            if alone is None:
                what: Any = scorer.write(block, lambda: link.send(("alive", None)))
            else:
                (what,) = scorer.answers(block.rows[alone : alone + 1], lambda: None)
            link.send(("done", what))
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
