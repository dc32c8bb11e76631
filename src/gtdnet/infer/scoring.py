"""Many clips through a recognizer: decoding processes ahead of the model, failures beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gtdnet.data.dataset import EvalClips, Failure
from gtdnet.data.formats import VideoRecord
from gtdnet.data.loader import ClipLoader
from gtdnet.errors import check_at_least, check_not_negative
from gtdnet.infer.recognizer import Recognizer, check_views
from gtdnet.workers import default_workers


@dataclass(frozen=True)
class ScoredBatch:
    """Probabilities float32 [N, K] of the records with these indices [N]; those that failed."""

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    failures: list[Failure]

    def __len__(self) -> int:
        return len(self.indices) + len(self.failures)


def score_batches(
    recognizer: Recognizer,
    records: Sequence[VideoRecord],
    *,
    clips: int = 1,
    crops: int = 1,
    batch_size: int = 8,
    num_workers: int | None = None,
    fps: float | None = None,
    first_batch: int = 0,
    arrange: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Iterator[ScoredBatch]:
    """Score records in their order, batch by batch; the same arguments give the same batches.

    Args:
        recognizer: the model.
        records: their labels are not looked at.
        clips, crops: test views per record.
        batch_size: views that go through the model at a time; a batch is as many records as that
            makes, at least one.
        num_workers: decoding processes; default: :func:`gtdnet.workers.default_workers`.
        fps: frames per second of what states no rate; where frames are chosen by time.
        first_batch: batches to leave out, when they have been scored already.
        arrange: (views uint8 [N, V, T*f, 3, h, w], indices [N]) -> the views that the model sees
            in their place.

    Raises:
        ValueError: an argument out of range.
    """
    check_views(clips, crops)
    check_loading(batch_size, num_workers)
    size = max(1, batch_size // (clips * crops))
    starts = range(0, len(records), size)[first_batch:]
    if num_workers is None:
        num_workers = default_workers(recognizer.device)
    loader = ClipLoader(
        EvalClips(records, recognizer.spec, clips, crops, fps=fps),
        batch_sampler=[list(range(i, min(i + size, len(records)))) for i in starts],
        num_workers=min(num_workers, len(starts)),
        pin_memory=recognizer.device.type == "cuda",
    )
    for batch in loader:
        scores = np.empty((0, recognizer.spec.num_classes), np.float32)
        if len(batch.indices):
            views = arrange(batch.views, batch.indices) if arrange else batch.views
            scores = recognizer.scores(views, batch_size).numpy()
        yield ScoredBatch(batch.indices.numpy(), scores, batch.failures)


def check_loading(batch_size: int, num_workers: int | None) -> None:
    """Raise InputError for a batch size or a number of processes that makes no sense."""
    check_at_least(1, batch_size=batch_size)
    check_not_negative(num_workers=num_workers)
