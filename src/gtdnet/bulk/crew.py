"""Processes that answer blocks, of which any may die at any time.

A block whose process dies is tried again in another; after some attempts its clips go one by one,
and one that kills its process then too is answered by that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from gtdnet.bulk.listing import Block
from gtdnet.bulk.scorer import Scorer, Setup
from gtdnet.bulk.shards import Answer, Counts
from gtdnet.spread.crew import Crew, Told, Work

_TRIES_ALONE = 2
"""Of a clip, which an accident of another's making may have hit once."""


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


class BlockCrew:
    """A crew with a model each, to be used as a context; arguments are those of `Crew`."""

    def __init__(
        self, setup: Setup, begin: Callable[[], object], size: int, **options: Any
    ) -> None:
        self._setup = setup
        self._crew = Crew(partial(_scoring, setup), begin, size, **options)
        self._apart: dict[int, dict[int, Answer]] = {}  # answers of blocks done clip by clip
        self._deaths: Counter[int] = Counter()

    def __enter__(self) -> BlockCrew:
        return self

    def __exit__(self, *_: object) -> None:
        self._crew.__exit__()

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """Answer blocks; each is told of as soon as its shard is there. Raises as `Crew.run`."""
        for told in self._crew.run(Job(block) for block in blocks):
            block, alone = told.job
            self._deaths[block.number] += told.deaths
            if alone is not None:
                yield from self._alone(block, alone, told)
            elif told.why is None:
                counts, reasons = told.result
                yield Done(block.number, counts, reasons, self._deaths.pop(block.number))
            else:
                self._apart[block.number] = {}
                each = [Job(block, place) for place in range(len(block.rows))]
                self._crew.add(each, _TRIES_ALONE)

    def _alone(self, block: Block, place: int, told: Told) -> Iterator[Done]:
        """Keep the answer to one clip; the last of its block makes the shard."""
        answer = told.result
        if told.why is not None:
            row = block.rows[place]
            reason = f"its process died each time that it was read ({told.why})"
            answer = Answer(row.id, row.path, reason)
        answers = self._apart[block.number]
        answers[place] = answer
        if len(answers) < len(block.rows):
            return
        ordered = [answers[place] for place in range(len(block.rows))]
        setup = self._setup
        counts = setup.shards.write(block.number, ordered, setup.run, setup.num_features)
        del self._apart[block.number]
        reasons = [a.reason for a in ordered if a.reason is not None]
        yield Done(block.number, counts, reasons, self._deaths.pop(block.number))


def _scoring(setup: Setup, number: int) -> Work:
    """In a process: what answers a block into its shard, or one of its clips."""
    scorer = Scorer(setup, number)

    def work(job: Job, alive: Callable[[], object]) -> Any:
        block, alone = job
        if alone is None:
            return scorer.write(block, alive)
        (answer,) = scorer.answers(block.rows[alone : alone + 1], lambda: None)
        return answer

    return work
