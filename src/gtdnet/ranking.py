"""Measures of scores [N, K] against labels [N, K] of which any number are 1, as fractions.

A clip whose classes are not known has no row here. Every function takes the class of a column as a
question of its own: which of the clips are of it?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gtdnet.errors import InputError

Floats = NDArray[np.float64]


class Ranking:
    """The clips in the order of each class's scores, sorted once for many weights of the clips.

    Raises:
        ValueError: no clips, shapes that do not match, labels other than 0 and 1, or scores that
            are not finite.
    """

    def __init__(self, scores: ArrayLike, labels: ArrayLike) -> None:
        values, truth = check_multi_label(scores, labels)
        self._order = np.argsort(-values, axis=0, kind="stable")  # [N, K]
        self._truth = np.take_along_axis(truth, self._order, axis=0)
        ranked = np.take_along_axis(values, self._order, axis=0)
        is_end = np.concatenate([ranked[1:] != ranked[:-1], np.ones((1, ranked.shape[1]), bool)])
        ends = np.where(is_end, np.arange(len(ranked))[:, None], len(ranked))
        self._end = np.minimum.accumulate(ends[::-1], axis=0)[::-1]  # of the clips with this score

    def average_precision(self, weights: ArrayLike | None = None) -> Floats:
        """Average precision of each class: [K]; NaN for a class without a clip.

        The mean, over the clips of the class, of the precision among all clips that score at least
        as high: clips with equal scores stand together, so that their order counts nothing. It is
        the area below the precision-recall curve drawn in steps, without interpolation.

        ``weights`` [N] is how often each clip counts.
        """
        weight = np.ones(len(self._order)) if weights is None else np.asarray(weights, np.float64)
        ranked = weight[self._order]
        hits = ranked * self._truth
        precision = np.cumsum(hits, axis=0) / np.maximum(np.cumsum(ranked, axis=0), 1e-300)
        precision = np.take_along_axis(precision, self._end, axis=0)
        positives = hits.sum(axis=0)
        found = np.full(len(positives), np.nan)
        return np.divide((hits * precision).sum(axis=0), positives, out=found, where=positives > 0)


def average_precision(scores: ArrayLike, labels: ArrayLike) -> Floats:
    """Of each class: [K] (:meth:`Ranking.average_precision`)."""
    return Ranking(scores, labels).average_precision()


def mean_average_precision(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """mAP: the mean over the classes that have a clip; None if none has."""
    return mean_known(average_precision(scores, labels))


@dataclass(frozen=True)
class Counts:
    """Clips that were rightly and wrongly given each class, and those that were not given it: [K].

    ``tp``, ``fp`` and ``fn`` are whole numbers.
    """

    tp: Floats
    fp: Floats
    fn: Floats

    @classmethod
    def of(
        cls, given: NDArray[np.bool_], truth: NDArray[np.bool_], weights: ArrayLike | None = None
    ) -> Counts:
        """From what was given and what is true [N, K]; ``weights`` [N]: how often clips count."""
        weight = np.ones(len(given)) if weights is None else np.asarray(weights, np.float64)
        return cls(*(weight @ part for part in (given & truth, given & ~truth, ~given & truth)))

    @property
    def precision(self) -> Floats:
        """[K]; NaN for a class that was given to no clip."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> Floats:
        """[K]; NaN for a class without a clip."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN): [K]; NaN for a class without a clip."""
        f1 = _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)
        return np.where(self.tp + self.fn > 0, f1, np.nan)

    @property
    def micro_f1(self) -> float | None:
        """F1 of all questions at once; None if nothing is true and nothing was given."""
        tp, wrong = float(self.tp.sum()), float((self.fp + self.fn).sum())
        return 2 * tp / (2 * tp + wrong) if tp + wrong else None

    @property
    def macro_f1(self) -> float | None:
        """The mean F1 of the classes that have a clip; None if none has."""
        return mean_known(self.f1)


def counts_at(scores: ArrayLike, labels: ArrayLike, threshold: float = 0.5) -> Counts:
    """What is right and wrong if a clip is given the classes of at least this score.

    Raises:
        ValueError: as :class:`Ranking`.
    """
    values, truth = check_multi_label(scores, labels)
    return Counts.of(values >= threshold, truth.astype(bool))


def mean_known(values: Floats) -> float | None:
    """The mean of the numbers that are not NaN; None without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def check_multi_label(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    """Both as arrays [N, K]; InputError where they are not what can be measured."""
    values, truth = np.asarray(scores), np.asarray(labels)
    if values.ndim != 2 or truth.shape != values.shape:
        raise InputError(
            f"expected scores [N, K] and labels [N, K], got shapes {list(values.shape)} and "
            f"{list(truth.shape)}"
        )
    if 0 in values.shape:
        raise InputError(f"there is nothing to measure in scores of shape {list(values.shape)}")
    if not np.isin(truth, (0, 1)).all():
        raise InputError("labels must be 0 or 1 for each class")
    # A comparison with NaN is false: a model gone wrong would pass for a perfect one.
    if bad := int((~np.isfinite(values).all(axis=1)).sum()):
        raise InputError(
            f"the scores of {bad} of {len(values)} clips are not finite: the model has diverged, "
            f"or its numbers overflow in this precision"
        )
    return values, truth


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
