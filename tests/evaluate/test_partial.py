"""Scores on the way: what a file gives back, and to whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gtdnet.data.dataset import Failure
from gtdnet.evaluate import partial as module
from gtdnet.evaluate.partial import PartialScores
from gtdnet.infer.scoring import ScoredBatch


def batch(*indices: int, failed: int | None = None) -> ScoredBatch:
    scores = np.array([[i, 1 - i] for i in indices], np.float32).reshape(len(indices), 2)
    failures = [] if failed is None else [Failure(failed, f"{failed}.mp4", "größe")]
    return ScoredBatch(np.array(indices, np.int64), scores, failures)


def test_what_was_saved_is_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "scores.partial.npz"
    first = PartialScores(path, "key")
    assert (first.num_batches, first.num_records, first.save()) == (0, 0, False)
    first.add(batch(0, 1))
    first.add(batch(3, failed=2))
    assert first.save()
    second = PartialScores(path, "key")
    assert (second.num_batches, second.num_records) == (2, 4)
    second.add(batch(4, 5))
    assert (second.num_batches, second.num_records) == (3, 6)
    assert second.save()
    third = PartialScores(path, "key")
    assert third.num_batches == 3
    whole = third.together()
    assert whole.indices.tolist() == [0, 1, 3, 4, 5]
    assert whole.scores.tolist() == [[0, 1], [1, 0], [3, -2], [4, -3], [5, -4]]
    assert whole.failures == [Failure(2, "2.mp4", "größe")]
    third.remove()
    assert not path.exists()
    third.remove()


@pytest.mark.parametrize("content", [None, b"", b"no numbers", b"PK\x03\x04 broken"])
def test_other_scores_and_damaged_ones_are_not_read(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "scores.partial.npz"
    first = PartialScores(path, "key")
    first.add(batch(0))
    first.save()
    if content is not None:
        path.write_bytes(content)
    assert PartialScores(path, "other" if content is None else "key").num_batches == 0


def test_saved_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    path = tmp_path / "scores.partial.npz"
    scores = PartialScores(path, "key")
    for seconds, saved in ((30, 0), (31, 2), (59, 2), (2, 4)):
        now[0] += seconds
        scores.add(batch(0))
        assert PartialScores(path, "key").num_batches == saved


def test_without_a_file_they_are_in_memory_alone() -> None:
    scores = PartialScores()
    scores.add(batch(0))
    assert not scores.save()
    assert scores.together().indices.tolist() == [0]
    scores.remove()
