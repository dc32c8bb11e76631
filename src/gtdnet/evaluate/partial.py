"""Scores of an evaluation that is under way, on disk, so that an interrupted one can go on."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.dataset import Failure
from gtdnet.files import atomic_path
from gtdnet.infer.scoring import ScoredBatch


@dataclass
class Scored:
    """Whole batches in their order: how many, and what they gave."""

    num_batches: int = 0
    indices: list[NDArray[np.int64]] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, batch: ScoredBatch) -> None:
        """Append one batch."""
        self.num_batches += 1
        self.indices.append(batch.indices)
        self.scores.append(batch.scores)
        self.failures.extend(batch.failures)

    @property
    def num_records(self) -> int:
        """Records done, failed ones included."""
        return sum(map(len, self.indices)) + len(self.failures)


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
                failures = zip(file["failed"], file["paths"], file["reasons"], strict=True)
                return Scored(
                    int(file["num_batches"]),
                    [file["indices"]],
                    [file["scores"]],
                    [Failure(int(i), str(path), str(reason)) for i, path, reason in failures],
                )
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            return None

    def write(self, scored: Scored) -> None:
        """Save, atomically."""
        with atomic_path(self.path) as temporary:
            np.savez(
                temporary,
                key=np.array(self.key),
                num_batches=np.array(scored.num_batches),
                indices=np.concatenate(scored.indices),
                scores=np.concatenate(scored.scores),
                failed=np.array([f.index for f in scored.failures], dtype=np.int64),
                paths=np.array([f.path for f in scored.failures], dtype=np.str_),
                reasons=np.array([f.reason for f in scored.failures], dtype=np.str_),
            )

    def remove(self) -> None:
        """Delete the file, if it is there."""
        self.path.unlink(missing_ok=True)
