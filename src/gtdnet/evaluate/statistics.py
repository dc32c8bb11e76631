"""How sure the accuracies are: intervals, paired comparisons, many comparisons at a time.

Pure functions of counts and of arrays with one entry per clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gtdnet.errors import InputError, check_at_least

Interval = tuple[float, float]


class McNemar(NamedTuple):
    """Two classifiers on the same clips: clips that only the first or only the second gets right.

    ``p_value`` is the probability of a split at least as uneven between classifiers that are
    equally good.
    """

    first_only: int
    second_only: int
    p_value: float


def wilson_interval(hits: int, total: int, confidence: float = 0.95) -> Interval:
    """Confidence interval of a proportion (Wilson, JASA 1927).

    Other than hits / total +- z * deviation it stays within [0, 1] and holds for few clips and for
    proportions near 0 and 1.

    Raises:
        ValueError: total < 1, hits outside 0 to total, or confidence outside (0, 1).
    """
    if not 0 <= hits <= total or total < 1:
        raise InputError(
            f"hits must be 0 to total and total at least 1, got hits={hits}, total={total}"
        )
    z = _quantile(confidence)
    share, zz = hits / total, z * z / total
    centre = (share + zz / 2) / (1 + zz)
    half = z / (1 + zz) * math.sqrt(share * (1 - share) / total + zz / (4 * total))
    # Exactly 0 and 1 at the ends, where rounding leaves a trace.
    return (
        0.0 if hits == 0 else max(0.0, centre - half),
        1.0 if hits == total else min(1.0, centre + half),
    )


def paired_difference_interval(
    first_only: int, second_only: int, total: int, confidence: float = 0.95
) -> Interval:
    """Confidence interval of the first classifier's accuracy minus the second's, same clips.

    The interval of Agresti and Min (Statistics in Medicine, 2005): half a clip is added to each of
    the four outcomes, without which few clips would look like certainty.

    Raises:
        ValueError: counts that cannot be, or confidence outside (0, 1).
    """
    if min(first_only, second_only) < 0 or total < max(1, first_only + second_only):
        raise InputError(
            f"of {total} clips, {first_only} and {second_only} cannot be right in one alone"
        )
    difference = (first_only - second_only) / (total + 2)
    spread = first_only + second_only + 1 - (first_only - second_only) ** 2 / (total + 2)
    half = _quantile(confidence) * math.sqrt(spread) / (total + 2)
    return max(-1.0, difference - half), min(1.0, difference + half)


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[NDArray[Any]], float],
    *,
    confidence: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over clips (Efron, 1979).

    ``statistic`` is a figure of what is known of each clip, ``values`` [N, ...]. It is computed for
    ``samples`` arrays of N clips drawn with replacement; the interval holds the middle of them.

    Raises:
        ValueError: no clips, samples < 1, or confidence outside (0, 1).
    """
    clips = np.asarray(values)
    if clips.ndim == 0 or not len(clips):
        raise InputError("a bootstrap needs at least one clip")
    check_at_least(1, samples=samples)
    _quantile(confidence)
    rng = np.random.default_rng(seed)
    figures = [statistic(clips[rng.integers(len(clips), size=len(clips))]) for _ in range(samples)]
    outside = (1 - confidence) / 2
    low, high = np.quantile(figures, [outside, 1 - outside])
    return float(low), float(high)


def mcnemar(first_correct: ArrayLike, second_correct: ArrayLike) -> McNemar:
    """Exact two-sided McNemar test of which clips [N] two classifiers get right.

    Only clips that one of them alone gets right tell them apart; if the two are equally good, each
    of those clips is a toss of a coin.

    Raises:
        ValueError: arrays that are not of the same clips.
    """
    first, second = np.asarray(first_correct), np.asarray(second_correct)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(
            f"expected two arrays [N] of the same clips, got shapes {list(first.shape)} "
            f"and {list(second.shape)}"
        )
    if first.dtype != np.bool_ or second.dtype != np.bool_:
        raise InputError(f"expected arrays of bool, got {first.dtype} and {second.dtype}")
    alone = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(*alone, _coin_p_value(*alone))


def discoveries(p_values: Sequence[float], rate: float = 0.05) -> NDArray[np.bool_]:
    """Which of many tests find something (Benjamini and Hochberg, JRSS B 1995): [M].

    Among those that are named, the expected share of mistakes is at most ``rate``, however many
    tests there are.

    Raises:
        ValueError: p-values or a rate outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not (((p >= 0) & (p <= 1)).all() and 0 <= rate <= 1):
        raise InputError("p-values and their rate must lie between 0 and 1")
    order = np.argsort(p, kind="stable")
    passes = p[order] <= rate * np.arange(1, len(p) + 1) / max(1, len(p))
    found = np.zeros(len(p), dtype=np.bool_)
    if passes.any():
        found[order[: int(np.flatnonzero(passes)[-1]) + 1]] = True
    return found


def _coin_p_value(heads: int, tails: int) -> float:
    """Probability that a fair coin falls at least as unevenly."""
    n, fewer = heads + tails, min(heads, tails)
    if heads == tails:
        return 1.0
    # The tail is summed downwards from its largest term, which is formed in logarithms: neither
    # C(n, k) nor 2^-n overflows, and terms that vanish are as good as 0.
    log_largest = (
        math.lgamma(n + 1) - math.lgamma(fewer + 1) - math.lgamma(n - fewer + 1) - n * math.log(2)
    )
    k = np.arange(fewer, 0, -1, dtype=np.float64)
    relative = 1.0 + float(np.cumprod(k / (n - k + 1)).sum())  # C(n, k-1) / C(n, k)
    return min(1.0, 2 * math.exp(log_largest) * relative)


def _quantile(confidence: float) -> float:
    """How many standard deviations to either side hold this share of a normal distribution."""
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)
