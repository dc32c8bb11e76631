"""Scores of an evaluation that is under way, on disk, so that an interrupted one can go on."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from gtdnet import moved
from gtdnet.data.dataset import Failure
from gtdnet.files import NotWritten, atomic_path
from gtdnet.infer.scoring import ScoredBatch
from gtdnet.text import say

_SAVE_SECONDS = 60.0


class PartialScores:
    """Scored batches in their order: what the file holds, then those that are added.

    Args:
        path: the file, ``*.npz``; None: the batches are in memory alone.
        key: everything the scores depend on, as text; scores under another key are not read.
    """

    def __init__(self, path: Path | None = None, key: str = "") -> None:
        self.path = path
        self.key = key
        self.batches: list[ScoredBatch] = []  # the first stands for all that the file held
        self._merged = 1  # batches that the first one stands for
        self._saved = time.monotonic()
        if path:
            self._read(path)

    @property
    def num_batches(self) -> int:
        """Batches done."""
        return len(self.batches) + self._merged - 1 if self.batches else 0

    @property
    def num_records(self) -> int:
        """Records done, failed ones included."""
        return sum(map(len, self.batches))

    def add(self, batch: ScoredBatch) -> None:
        """Add one that is done; all are saved once a minute."""
        self.batches.append(batch)  # one step, which Ctrl-C cannot halve
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            try:
                self.save()
            except NotWritten as error:  # there may be room later
                say(str(error))
                self._saved = time.monotonic()

    def together(self) -> ScoredBatch:
        """All batches as one; there must be at least one."""
        return ScoredBatch(
            np.concatenate([batch.indices for batch in self.batches]),
            np.concatenate([batch.scores for batch in self.batches]),
            [failure for batch in self.batches for failure in batch.failures],
        )

    def save(self) -> bool:
        """Write all batches, atomically; False where there is no file, or nothing to write."""
        if not (self.path and self.batches):
            return False
        batch = self.together()
        with atomic_path(self.path) as temporary:
            np.savez(
                temporary,
                key=np.array(self.key),
                num_batches=np.array(self.num_batches),
                indices=batch.indices,
                scores=batch.scores,
                failed=np.array([f.index for f in batch.failures], dtype=np.int64),
                paths=np.array([f.path for f in batch.failures], dtype=np.str_),
                reasons=np.array([f.reason for f in batch.failures], dtype=np.str_),
            )
        self._saved = time.monotonic()
        return True

    def remove(self) -> None:
        """Delete the file, if it is there."""
        if self.path:
            self.path.unlink(missing_ok=True)

    def _read(self, path: Path) -> None:
        try:
            with np.load(path) as file:
                if str(file["key"]) != self.key:
                    return
                failed = zip(file["failed"], file["paths"], file["reasons"], strict=True)
                failures = [Failure(int(i), str(path), str(reason)) for i, path, reason in failed]
                batch = ScoredBatch(file["indices"], file["scores"], failures)
                self.batches, self._merged = [batch], int(file["num_batches"])
        except Exception:  # of NumPy, zipfile, zlib and others; objects are never unpickled
            return  # nothing that could be gone on from


__getattr__ = moved.names(__name__)
