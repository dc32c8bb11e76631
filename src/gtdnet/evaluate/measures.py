"""What is measured of scores: accuracies of one class a clip, or mAP and F1 of any number.

Pure functions of an :class:`Evaluation`; which of the two it is, the shape of its labels says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtdnet.evaluate.metrics import confusion_matrix, mean_class_accuracy, top_k_accuracy
from gtdnet.evaluate.statistics import bootstrap_interval, wilson_interval
from gtdnet.ranking import Counts, Ranking, mean_known

if TYPE_CHECKING:
    from gtdnet.evaluate.results import Evaluation

Table = tuple[str, list[Sequence[object]]]
"""The name of a file, and its rows."""


class Measure(ABC):
    """One way to measure.

    Attributes:
        figures: the keys of what is measured, and what people call them.
    """

    figures: ClassVar[Mapping[str, str]]

    @abstractmethod
    def known(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a clip's label is known: [N]."""

    @abstractmethod
    def metrics(self, of: Evaluation) -> dict[str, Any]:
        """Figures as fractions, over the scored clips that have a label; None: not measurable."""

    @abstractmethod
    def intervals(self, of: Evaluation) -> dict[str, list[float] | None]:
        """95 % confidence intervals of the figures; None where there is none to be had."""

    @abstractmethod
    def tables(self, of: Evaluation) -> Iterator[Table]:
        """CSV files; there is a clip with a label."""


# ------------------------------------------------------------------------- one class a clip


class Accuracies(Measure):
    figures: ClassVar = {
        "top1": "top-1",
        "top5": "top-5",
        "mean_class_accuracy": "mean class accuracy",
    }

    def known(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        return labels >= 0

    def metrics(self, of: Evaluation) -> dict[str, Any]:
        """None where there is nothing to measure: without labels, and top-5 of 5 classes or fewer.

        ``top1_counting_failures_as_errors`` is over the failed clips as well.
        """
        known = of.known
        scores, labels, total = of.scores[known], of.labels[known], int(known.sum())
        top1 = top5 = mean_class = with_failures = None
        if total:
            top1 = top_k_accuracy(scores, labels, 1)
            top5 = top_k_accuracy(scores, labels, 5) if len(of.class_names) > 5 else None
            mean_class = mean_class_accuracy(scores, labels)
            failed = sum(clip.label >= 0 for clip in of.failures)
            with_failures = top1 * total / (total + failed)
        return {
            "top1": top1,
            "top5": top5,
            "mean_class_accuracy": mean_class,
            "top1_counting_failures_as_errors": with_failures,
        }

    def intervals(self, of: Evaluation) -> dict[str, list[float] | None]:
        """Of top-1 and top-5 Wilson's, of the mean class accuracy a bootstrap over clips; that one
        is None as well where a bootstrap would be far too certain: with fewer than ten clips a
        class on average, or all of them right, or none.
        """
        known, metrics = of.known, self.metrics(of)
        total, correct, labels = int(known.sum()), of.correct[known], of.labels[known]
        found: dict[str, list[float] | None] = {}
        for name in ("top1", "top5"):
            share = metrics[name]
            interval = None if share is None else wilson_interval(round(share * total), total)
            found[f"{name}_interval"] = interval and list(interval)
        is_rough = total < 10 * len(np.unique(labels)) or correct.sum() in (0, total)
        clips = np.stack([labels, correct], axis=1)
        found["mean_class_accuracy_interval"] = (
            None if is_rough else list(bootstrap_interval(clips, _class_mean))
        )
        return found

    def tables(self, of: Evaluation) -> Iterator[Table]:
        known, names = of.known, of.class_names
        confusion = confusion_matrix(of.scores[known], of.labels[known])
        yield "per_class.csv", list(_per_class(confusion, names))
        rows = zip(names, confusion.tolist(), strict=True)
        yield "confusion.csv", [("true class", *names), *((name, *row) for name, row in rows)]


def _class_mean(clips: NDArray[Any]) -> float:
    """Mean class accuracy of clips given as label and whether it is right: [N, 2]."""
    labels, correct = clips[:, 0], clips[:, 1]
    count = np.bincount(labels)
    hits = np.bincount(labels, weights=correct)
    return float((hits[count > 0] / count[count > 0]).mean())


def _per_class(confusion: NDArray[np.int64], names: Sequence[str]) -> Iterator[tuple[object, ...]]:
    yield "class", "clips", "correct", "accuracy", "most_confused_with"
    for label, row in enumerate(confusion):
        clips, correct = int(row.sum()), int(row[label])
        wrong = row.copy()
        wrong[label] = 0
        accuracy = round(correct / clips, 6) if clips else None
        yield names[label], clips, correct, accuracy, names[wrong.argmax()] if wrong.any() else None


# --------------------------------------------------------------- any number of classes a clip


class Precisions(Measure):
    figures: ClassVar = {"map": "mAP", "micro_f1": "micro F1", "macro_f1": "macro F1"}

    def known(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        return labels.min(axis=1) >= 0

    def metrics(self, of: Evaluation) -> dict[str, Any]:
        """mAP and macro F1 are means over the classes that have a clip, F1 is at the threshold."""
        found: dict[str, Any] = dict.fromkeys(self.figures)
        without = len(of.class_names)
        if of.known.any():
            found = {key: figure() for key, figure in _figures(of).items()}
            without -= int(of.labels[of.known].any(axis=0).sum())
        threshold = list(of.threshold) if isinstance(of.threshold, tuple) else of.threshold
        return {**found, "threshold": threshold, "num_classes_without_clips": without}

    def intervals(self, of: Evaluation) -> dict[str, list[float] | None]:
        """Bootstraps over clips; None where one would be far too certain: with fewer than ten clips
        a class on average, or a figure of 0 or 1.
        """
        found: dict[str, list[float] | None] = dict.fromkeys(
            f"{key}_interval" for key in self.figures
        )
        truth = of.labels[of.known]
        classes = int(truth.any(axis=0).sum()) if len(truth) else 0
        if not classes or truth.sum() < 10 * classes:
            return found
        clips = np.arange(len(truth))
        for key, figure in _figures(of).items():
            if figure() not in (None, 0, 1):
                found[f"{key}_interval"] = list(bootstrap_interval(clips, _drawn(figure)))
        return found

    def tables(self, of: Evaluation) -> Iterator[Table]:
        rows = [
            tuple(round(v, 6) if isinstance(v, float) else v for v in row)
            for row in class_precisions(of)
        ]
        yield "per_class.csv", [("class", *ClassPrecision._fields[1:]), *rows]


class ClassPrecision(NamedTuple):
    """One class: clips that are of it, average precision, clips that were given it, what is right
    of that, and from which probability on it was given; None where there is nothing to measure,
    or no such probability."""

    name: str
    clips: int
    average_precision: float | None
    given: int
    precision: float | None
    recall: float | None
    f1: float | None
    threshold: float | None


def class_precisions(of: Evaluation) -> list[ClassPrecision]:
    """Every class, in the model's order."""
    scores, truth = of.scores[of.known], of.labels[of.known]
    counts = Counts.of(of.given(scores), truth > 0)
    shares = (
        Ranking(scores, truth).average_precision(), counts.precision, counts.recall, counts.f1
    )  # fmt: skip
    average, *others = ([None if np.isnan(v) else float(v) for v in share] for share in shares)
    clips, given = (n.astype(int).tolist() for n in (counts.tp + counts.fn, counts.tp + counts.fp))
    each = of.threshold
    thresholds = each if isinstance(each, tuple) else [each] * len(clips)
    columns = zip(of.class_names, clips, average, given, *others, thresholds, strict=True)
    return [ClassPrecision(*row) for row in columns]


_Figure = Callable[..., float | None]


def _figures(of: Evaluation) -> dict[str, _Figure]:
    """Each figure as a function of how often every clip counts (default: once)."""
    scores, truth = of.scores[of.known], of.labels[of.known]
    ranking, given, is_true = Ranking(scores, truth), of.given(scores), truth > 0

    def counts(weights: NDArray[np.int64] | None = None) -> Counts:
        return Counts.of(given, is_true, weights)

    return {
        "map": lambda weights=None: mean_known(ranking.average_precision(weights)),
        "micro_f1": lambda weights=None: counts(weights).micro_f1,
        "macro_f1": lambda weights=None: counts(weights).macro_f1,
    }


def _drawn(figure: _Figure) -> Callable[[NDArray[Any]], float]:
    """The figure of clips that were drawn, some of them several times; 0 where there is none."""
    return lambda clips: figure(np.bincount(clips, minlength=len(clips))) or 0.0


ACCURACIES, PRECISIONS = Accuracies(), Precisions()


def measure_of(labels: NDArray[np.int64]) -> Measure:
    """By the labels' shape: [N], a class each, or [N, K], zeros and ones."""
    return PRECISIONS if labels.ndim == 2 else ACCURACIES


def figures_of(result: Mapping[str, Any]) -> Mapping[str, str]:
    """The figures that metrics.json has, and what people call them."""
    return (PRECISIONS if "map" in result else ACCURACIES).figures
