"""Scores of an evaluation that is under way, on disk, so that an interrupted one can go on."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gtdnet.data.dataset import Failure
from gtdnet.files import atomic_path
from gtdnet.infer.scoring import ScoredBatch


@dataclass
class Scored:
    """Whole batches in their order; the first stands for ``merged`` of them."""

    batches: list[ScoredBatch] = field(default_factory=list)
    merged: int = 1

    @property
    def num_batches(self) -> int:
        """Batches done."""
        return len(self.batches) + self.merged - 1 if self.batches else 0

    @property
    def num_records(self) -> int:
        """Records done, failed ones included."""
        return sum(map(len, self.batches))

    def together(self) -> ScoredBatch:
        """All batches as one; there must be at least one."""
        return ScoredBatch(
            np.concatenate([batch.indices for batch in self.batches]),
            np.concatenate([batch.scores for batch in self.batches]),
            [failure for batch in self.batches for failure in batch.failures],
        )


class PartialScores:
    """One file of :class:`Scored`.

    Args:
        path: the file, ``*.npz``.
        key: everything the scores depend on, as text; scores under another key are not read.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def read(self) -> Scored | None:
        """What was saved under this key, or None."""
        try:
            with np.load(self.path) as file:
                if str(file["key"]) != self.key:
                    return None
                failed = zip(file["failed"], file["paths"], file["reasons"], strict=True)
                failures = [Failure(int(i), str(path), str(reason)) for i, path, reason in failed]
                batch = ScoredBatch(file["indices"], file["scores"], failures)
                return Scored([batch], int(file["num_batches"]))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            return None

    def write(self, scored: Scored) -> None:
        """Save, atomically."""
        batch = scored.together()
        with atomic_path(self.path) as temporary:
            np.savez(
                temporary,
                key=np.array(self.key),
                num_batches=np.array(scored.num_batches),
                indices=batch.indices,
                scores=batch.scores,
                failed=np.array([f.index for f in batch.failures], dtype=np.int64),
                paths=np.array([f.path for f in batch.failures], dtype=np.str_),
                reasons=np.array([f.reason for f in batch.failures], dtype=np.str_),
            )

    def remove(self) -> None:
        """Delete the file, if it is there."""
        self.path.unlink(missing_ok=True)
