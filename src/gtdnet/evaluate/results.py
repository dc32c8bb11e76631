"""What an evaluation gives, in memory and as files.

The files in its folder:

    metrics.json    accuracies as fractions, what they were measured on and how; written last
    per_class.csv   clips, accuracy and most frequent mistake of each class
    confusion.csv   number of clips by true class (rows) and predicted class (columns)
    scores.npz      ids, scores (probabilities [N, K]), labels, class_names, fingerprint
    failures.csv    clips that could not be decoded or are not there, with the reason; if any
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.spec import class_fingerprint
from gtdnet.evaluate.metrics import confusion_matrix, mean_class_accuracy, top_k_accuracy
from gtdnet.files import atomic_path, write_json, write_text

RESULT_FILES = ("metrics.json", "per_class.csv", "confusion.csv", "scores.npz", "failures.csv")


class FailedClip(NamedTuple):
    """A clip without scores: its id, its label in the model's order (-1: none), where and why."""

    id: str
    label: int
    path: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split.

    Attributes:
        class_names: the model's, in the order of the scores.
        ids: of the scored clips, in the order of the annotations.
        scores: probabilities, float32 [N, K].
        labels: int64 [N] in the model's order; -1 where the annotations have none.
        failures: clips that could not be decoded, then those that are not there.
    """

    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    failures: tuple[FailedClip, ...]

    @property
    def metrics(self) -> dict[str, float | int | None]:
        """Accuracies as fractions, over the scored clips that have a label, and counts.

        None where there is nothing to measure: without labels, and top-5 of 5 classes or fewer.
        ``top1_counting_failures_as_errors`` is over the failed clips as well.
        """
        known = self.labels >= 0
        scores, labels = self.scores[known], self.labels[known]
        top1 = top5 = mean_class = with_failures = None
        if len(labels):
            top1 = top_k_accuracy(scores, labels, 1)
            top5 = top_k_accuracy(scores, labels, 5) if len(self.class_names) > 5 else None
            mean_class = mean_class_accuracy(scores, labels)
            failed = sum(clip.label >= 0 for clip in self.failures)
            with_failures = top1 * len(labels) / (len(labels) + failed)
        return {
            "top1": top1,
            "top5": top5,
            "mean_class_accuracy": mean_class,
            "top1_counting_failures_as_errors": with_failures,
            "num_evaluated": len(self.ids),
            "num_failed": len(self.failures),
        }


def write_results(folder: Path, evaluation: Evaluation, result: Mapping[str, Any]) -> None:
    """Write all files, metrics.json last; those of an earlier evaluation are replaced."""
    names = evaluation.class_names
    with atomic_path(folder / "scores.npz") as temporary:
        np.savez(
            temporary,
            ids=np.array(evaluation.ids),
            scores=evaluation.scores,
            labels=evaluation.labels,
            class_names=np.array(names),
            fingerprint=np.array(class_fingerprint(names)),
        )
    known = evaluation.labels >= 0
    tables: dict[str, Iterable[Sequence[object]]] = {}
    if known.any():
        confusion = confusion_matrix(evaluation.scores[known], evaluation.labels[known])
        tables["per_class.csv"] = _per_class(confusion, names)
        tables["confusion.csv"] = [
            ("true class", *names),
            *((name, *row) for name, row in zip(names, confusion.tolist(), strict=True)),
        ]
    if evaluation.failures:
        tables["failures.csv"] = [
            ("id", "path", "reason"),
            *((clip.id, clip.path, clip.reason) for clip in evaluation.failures),
        ]
    for name in ("per_class.csv", "confusion.csv", "failures.csv"):
        if name in tables:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(tables[name])
            write_text(folder / name, text.getvalue())
        else:
            (folder / name).unlink(missing_ok=True)
    write_json(folder / "metrics.json", result)


def _per_class(confusion: NDArray[np.int64], names: Sequence[str]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [
        ("class", "clips", "correct", "accuracy", "most_confused_with")
    ]
    for label, row in enumerate(confusion):
        clips, correct = int(row.sum()), int(row[label])
        wrong = row.copy()
        wrong[label] = 0
        rows.append(
            (
                names[label],
                clips,
                correct,
                round(correct / clips, 6) if clips else "",
                names[wrong.argmax()] if wrong.any() else "",
            )
        )
    return rows
