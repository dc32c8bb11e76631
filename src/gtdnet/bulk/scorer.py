"""The answers to a block's clips, each decoded here and then shown to the model in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gtdnet.bulk.listing import Block, Row
from gtdnet.bulk.shards import Answer, Counts, Shards
from gtdnet.data.dataset import Sample, collate, read_views
from gtdnet.errors import DecodeError, InputError
from gtdnet.infer.answers import above, best_of
from gtdnet.infer.recognizer import Recognizer, load
from gtdnet.places import FetchError, fetched, shown
from gtdnet.text import first_line

_FEW = 8
"""From so many clips of a block on that their place does not answer, it is not the clips."""


@dataclass(frozen=True)
class Setup:
    """What a process needs to answer; it crosses process borders.

    Attributes:
        run: digest of what the answers depend on.
        topk, threshold: most classes of a clip, and the probability that they must reach.
        num_features: of the features that are kept, C; None: none are.
        others: those of :class:`gtdnet.bulk.options.BulkOptions`.
    """

    model: str
    shards: Shards
    run: str
    topk: int
    threshold: float
    num_features: int | None
    clips: int
    crops: int
    average: str
    num_segments: int | None
    batch_size: int
    max_mib: int
    device: str
    engine: str | None
    precision: str | None


class Scorer:
    """The model of a setup, loaded; ``number`` says which GPU it takes where there are several."""

    def __init__(self, setup: Setup, number: int = 0) -> None:
        device = setup.device
        if device in ("auto", "cuda") and (gpus := torch.cuda.device_count()) > 1:
            device = f"cuda:{number % gpus}"
        self.setup = setup
        self.recognizer: Recognizer = load(
            setup.model,
            device,
            engine=setup.engine,
            precision=setup.precision,
            num_segments=setup.num_segments,
            average=setup.average,
        )

    def write(self, block: Block, alive: Callable[[], object]) -> tuple[Counts, list[str]]:
        """Answer a block's clips into its shard; tells how many, and the reasons of those without.

        ``alive`` is called after each clip.

        Raises:
            InputError: the model gives no numbers, or the clips' place does not answer.
        """
        answers = self.answers(block.rows, alive)
        setup = self.setup
        counts = setup.shards.write(block.number, answers, setup.run, setup.num_features)
        return counts, [answer.reason for answer in answers if answer.reason is not None]

    def answers(self, rows: Sequence[Row], alive: Callable[[], object]) -> list[Answer]:
        """An answer to each clip, in order. The same rows have the same answers, to the last bit.

        They go through the model in the batches of ``gtdnet predict``: rows 0 to 7, 8 to 15, ...,
        without those that cannot be read.
        """
        size = max(1, self.setup.batch_size // (self.setup.clips * self.setup.crops))
        found: list[Answer] = []
        unfetched: list[str] = []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            samples: list[Sample] = []
            reasons: dict[int, str] = {}
            for index, row in enumerate(part):
                try:
                    samples.append(Sample(self._views(row), -1, index))
                except FetchError as error:
                    unfetched.append(reasons.setdefault(index, str(error)))
                except InputError as error:
                    reasons[index] = str(error)
                except Exception as error:  # a reader's mistake costs that clip alone
                    reasons[index] = f"{type(error).__name__}: {first_line(error)}"
                alive()
            found += self._scored(part, samples, reasons)
        if len(unfetched) == len(rows) >= _FEW:
            raise InputError(
                f"none of {len(rows)} neighbouring clips, of them {shown(rows[0].path)}, could be "
                f"fetched: {unfetched[0]}; see that their place can be reached"
            )
        return found

    def _views(self, row: Row) -> torch.Tensor:
        with fetched(row.path, self.setup.max_mib) as path:
            try:
                return read_views(path, self.recognizer.spec, self.setup.clips, self.setup.crops)
            except DecodeError as error:  # of a folder of pictures it names the one that is broken
                inner = "" if error.path == str(path) else f"{Path(error.path).name}: "
                raise InputError(f"{inner}{error.reason}") from error

    def _scored(
        self, rows: Sequence[Row], samples: Sequence[Sample], reasons: dict[int, str]
    ) -> list[Answer]:
        answers = [Answer(row.id, row.path, reasons.get(i)) for i, row in enumerate(rows)]
        if not samples:
            return answers
        setup, recognizer = self.setup, self.recognizer
        views = collate(samples).views
        features = [None] * len(samples)
        if setup.num_features is None:
            scores = recognizer.scores(views, setup.batch_size)
        else:
            scores, seen = recognizer.scores_and_features(views, setup.batch_size)
            # [N, V, T, C], V = clips x crops: the mean over crops, then over clips and frames
            seen = seen.unflatten(1, (-1, setup.crops)).mean(dim=2)
            features = list(seen.flatten(1, 2).mean(dim=1).numpy())
        for sample, row, kept in zip(samples, scores, features, strict=True):
            best = above(best_of(row, recognizer.spec, setup.topk), setup.threshold)
            answers[sample.index] = answers[sample.index]._replace(scores=best, features=kept)
        return answers
