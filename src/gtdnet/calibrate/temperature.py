"""One number that makes probabilities mean what they say: the temperature.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017: logits are divided by T, which is
chosen by the likelihood of held-out clips. The order of the classes does not change.

Shapes: N clips, V views, K classes. Logits are float [N, V, K]. Labels are int64 [N], or of
multi-label clips [N, K], zeros and ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gtdnet.data.calibration import Calibration
from gtdnet.data.spec import ClipSpec
from gtdnet.models.classifier import probabilities

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]

RANGE = (0.05, 20.0)
"""Temperatures that are looked at."""
BINS = 10
_GRID = 41
_PRECISION = 1e-4  # of log T
_LEAST = 1e-12  # of a probability whose logarithm is taken


def averaged(logits: Tensor, spec: ClipSpec, temperature: float, average: str) -> Scores:
    """Probabilities [N, K] as prediction makes them: of each view, then their mean, or v.v."""
    spec = replace(spec, calibration=Calibration(temperature=temperature))
    logits = logits.double()
    if average == "logits":
        return probabilities(logits.mean(dim=1), spec).numpy()
    return probabilities(logits, spec).mean(dim=1).numpy()


def nll(scores: Scores, labels: Labels) -> float:
    """Mean negative log likelihood; of multi-label clips binary cross-entropy, mean over K too."""
    p = np.clip(scores, _LEAST, 1.0)
    if labels.ndim == 1:
        return float(-np.log(p[np.arange(len(p)), labels]).mean())
    rest = np.clip(1 - scores, _LEAST, 1.0)
    return float(-np.where(labels > 0, np.log(p), np.log(rest)).mean())


def fit_temperature(
    logits: Tensor, labels: Labels, spec: ClipSpec, average: str = "probabilities"
) -> float | None:
    """The temperature under which the labels are most likely; None where none in `RANGE` is.

    That is so where every clip is right (the colder the better), or the model knows nothing.
    """

    def loss(log_t: float) -> float:
        return nll(averaged(logits, spec, math.exp(log_t), average), labels)

    low, high = map(math.log, RANGE)
    grid = np.linspace(low, high, _GRID)
    best = int(np.argmin([loss(t) for t in grid]))
    if best in (0, _GRID - 1):
        return None
    return math.exp(_minimum(loss, grid[best - 1], grid[best + 1]))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley between two places is lowest: golden section."""
    part = (math.sqrt(5) - 1) / 2
    a, b = high - part * (high - low), low + part * (high - low)
    at_a, at_b = function(a), function(b)
    while high - low > _PRECISION:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - part * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + part * (high - low)
            at_b = function(b)
    return (low + high) / 2


class Bin(NamedTuple):
    """Answers whose probability lies in one stretch of [0, 1].

    How many ``answers`` there are, their mean probability, and the share of them that is right;
    both None where there are none.
    """

    answers: int
    confidence: float | None
    accuracy: float | None


def reliability(scores: Scores, labels: Labels) -> list[Bin]:
    """Bins of equal width over [0, 1].

    The answers are the best class of each clip; of multi-label clips each class of each clip, which
    is right where the clip has it.
    """
    if labels.ndim == 1:
        p, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    else:
        p, right = scores.reshape(-1), labels.reshape(-1) > 0
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    bins = []
    for k in range(BINS):
        chosen = place == k
        count = int(chosen.sum())
        shares = (float(p[chosen].mean()), float(right[chosen].mean())) if count else (None, None)
        bins.append(Bin(count, *shares))
    return bins


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: how far shares and probabilities lie apart, weighted by count."""
    total = sum(one.answers for one in bins)
    apart = sum(
        one.answers * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    )
    return apart / total


class Fit(NamedTuple):
    """How well probabilities fit what is true."""

    nll: float
    ece: float
    bins: list[Bin]


def measure_fit(scores: Scores, labels: Labels) -> Fit:
    """Likelihood, calibration error, and the bins of a reliability diagram."""
    bins = reliability(scores, labels)
    return Fit(nll(scores, labels), calibration_error(bins), bins)
