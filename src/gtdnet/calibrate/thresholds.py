"""From which probability on a class is named, for a stated share of its answers to be right."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtdnet.calibrate.temperature import Labels, Scores
from gtdnet.evaluate.statistics import wilson_interval

Share, Known = NDArray[np.float64], NDArray[np.bool_]

_STEPS = 10_000  # thresholds are written with four digits: what is read is what is compared


class Threshold(NamedTuple):
    """One class at its threshold, over the held-out clips.

    Attributes:
        name: the class.
        clips: that are of it.
        threshold: None where no threshold gives the wanted precision.
        named: clips that are given the class; without a threshold, those that would be at 0.
        precision: the share of these that is right; None where there are none.
        low: what that share is at least, with the stated confidence.
        recall: the share of the class's clips that is given it; None without clips.
    """

    name: str
    clips: int
    threshold: float | None
    named: int
    precision: float | None
    low: float | None
    recall: float | None


def class_thresholds(
    scores: Scores,
    labels: Labels,
    names: tuple[str, ...],
    precision: float,
    confidence: float,
) -> list[Threshold]:
    """Of each class the smallest threshold at which its precision is high enough.

    Of a model whose classes exclude one another a clip is given its best class, if that reaches the
    threshold; of a multi-label model every class that does. Three clips make no promise: it is not
    the share of right answers that must reach ``precision``, but the lower end of what it may be in
    truth, one-sided, at ``confidence`` (Wilson).

    Args:
        scores: probabilities [N, K].
        labels: int64 [N], or [N, K] zeros and ones.
        names: of the classes.
        precision: in (0, 1).
        confidence: above 0.5, below 1.
    """
    truth = labels > 0 if labels.ndim == 2 else labels[:, None] == np.arange(len(names))
    asked = np.ones_like(truth)
    if labels.ndim == 1:
        asked = scores.argmax(axis=1)[:, None] == np.arange(len(names))
    return [
        _of_class(
            name,
            scores[asked[:, k], k],
            truth[asked[:, k], k],
            int(truth[:, k].sum()),
            precision,
            confidence,
        )
        for k, name in enumerate(names)
    ]


def least_clips(precision: float, confidence: float) -> int:
    """How many clips, all of them right, it takes to promise a precision."""
    z = NormalDist().inv_cdf(confidence)
    return max(1, math.ceil(z * z * precision / (1 - precision) - 1e-9))


def _of_class(
    name: str, p: Share, right: Known, clips: int, precision: float, confidence: float
) -> Threshold:
    """Of the probabilities with which clips would be given a class, and whether that is right."""

    def at(threshold: float | None) -> Threshold:
        is_named = p >= (threshold or 0)
        named, hits = int(is_named.sum()), int(right[is_named].sum())
        low = wilson_interval(hits, named, 2 * confidence - 1)[0] if named else None  # one-sided
        share, recall = hits / named if named else None, hits / clips if clips else None
        return Threshold(name, clips, threshold, named, share, low, recall)

    # Just above each answer that may have to go, from none of them on.
    for step in [0.0, *np.unique(np.floor(p * _STEPS) + 1).tolist()]:
        found = at(step / _STEPS)
        if found.low is not None and found.low >= precision:
            return found
    return at(None)
