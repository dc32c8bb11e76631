"""A function called for each of many jobs, by processes of this machine or actors of Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from gtdnet.errors import InputError, check_choice
from gtdnet.spread.crew import Crew, Told, Work
from gtdnet.text import say
from gtdnet.workers import beginning, map_in_processes, start_worker

RUNNERS = ("processes", "ray")

_ATTEMPTS = 3  # at a job whose process dies
_AT_ONCE = 8  # jobs that an actor is given, which then cost Ray nothing beside their own time

T = TypeVar("T")
R = TypeVar("R")

Lost = Callable[[T, str], R]
"""What stands for the result of a job whose processes died each time, and of what."""


@dataclass(frozen=True)
class Spread:
    """What spreads the jobs.

    Attributes:
        runner: processes, ray, or auto: ray where an address or RAY_ADDRESS names a cluster.
        address: of the Ray cluster; None: RAY_ADDRESS, else one is started here.
        actors: of Ray; None: one for each of its CPUs but two.
    """

    runner: str = "processes"
    address: str | None = None
    actors: int | None = None

    @property
    def is_ray(self) -> bool:
        return self.chosen() == "ray"

    def chosen(self) -> str:
        """processes or ray.

        Raises:
            InputError: an unknown one, or an address without Ray; or Ray is not installed.
        """
        check_choice("runner", self.runner, ("auto", *RUNNERS))
        name = self.runner
        if name == "auto":
            name = "ray" if self.address or os.environ.get("RAY_ADDRESS") else "processes"
        if name == "ray":
            from gtdnet.spread.on_ray import check_ray

            check_ray()
        elif self.address:
            raise InputError("--ray-address is for --runner ray; give that too, or leave it out")
        return name


def map_spread(
    function: Callable[[T], R],
    jobs: Sequence[T],
    workers: int,
    spread: Spread,
    lost: Lost[T, R],
) -> Generator[R, None, None]:
    """What a function of a module gives for each job, in the order of the jobs.

    A job whose process is killed is done again; one that kills three is ``lost``, of a module too.
    Only of a job that is done by this process itself (``workers`` 0 or 1) nothing of that holds.
    On Ray the jobs name what is there under the same name on all machines.
    """
    if not jobs:
        return
    if spread.is_ray:
        yield from _on_ray(function, jobs, spread, lost)
    else:
        yield from _in_processes(function, jobs, workers, lost)


def _in_processes(
    function: Callable[[T], R], jobs: Sequence[T], workers: int, lost: Lost[T, R]
) -> Iterator[R]:
    done = 0
    try:
        with closing(map_in_processes(function, jobs, workers)) as results:
            for result in results:
                done += 1
                yield result
    except BrokenProcessPool:
        say("a process was killed; what it did is done again")
        crew = Crew(
            partial(_calling, function),
            beginning(start_worker),
            min(workers, len(jobs) - done),
            attempts=_ATTEMPTS,
            timeout=float("inf"),
            folder=str(Path.cwd()),
        )
        with crew:
            yield from _results(crew, islice(jobs, done, None), lost)


def _on_ray(
    function: Callable[[T], R], jobs: Sequence[T], spread: Spread, lost: Lost[T, R]
) -> Iterator[R]:
    from gtdnet.spread.on_ray import cluster, in_actors, put

    make = partial(_doing, function, lost, beginning(start_worker), str(Path.cwd()))
    with cluster(spread.address, spread.actors, -(-len(jobs) // _AT_ONCE)) as size:
        rows = partial(_rows, put(jobs))
        for results in in_order(in_actors(rows, make, size)):
            yield from results


def _rows(jobs: Callable[[], Sequence[T]]) -> Iterator[tuple[int, list[T]]]:
    """Some jobs at a time, with the number of the row."""
    each = iter(jobs())
    number = 0
    while some := list(islice(each, _AT_ONCE)):
        yield number, some
        number += 1


def _doing(
    function: Callable[[T], R], lost: Lost[T, R], begin: Callable[[], None], folder: str
) -> Callable[[tuple[int, list[T]]], tuple[int, list[R]]]:
    """In an actor: what does the jobs of a row."""
    crew = Crew(
        partial(_calling, function),
        begin,
        1,
        attempts=_ATTEMPTS,
        timeout=float("inf"),
        folder=folder,
    )

    def work(row: tuple[int, list[T]]) -> tuple[int, list[R]]:
        number, jobs = row
        return number, list(_results(crew, jobs, lost))

    return work


def _results(crew: Crew, jobs: Iterable[T], lost: Lost[T, R]) -> Iterator[R]:
    """Of a crew, in the order of the jobs."""

    def result(told: Told) -> tuple[int, R]:
        number, job = told.job
        return number, told.result if told.why is None else lost(job, told.why)

    return in_order(map(result, crew.run(enumerate(jobs))))


def _calling(function: Callable[[T], R], _: int) -> Work:
    """In a process: what does a numbered job."""
    return partial(_call, function)


def _call(function: Callable[[T], R], job: tuple[int, T], _: Any) -> R:
    return function(job[1])


def in_order(numbered: Iterable[tuple[int, T]]) -> Iterator[T]:
    """What comes numbered from 0, in any order, in its order."""
    waiting: dict[int, T] = {}
    upcoming = 0
    for number, what in numbered:
        waiting[number] = what
        while upcoming in waiting:
            yield waiting.pop(upcoming)
            upcoming += 1
