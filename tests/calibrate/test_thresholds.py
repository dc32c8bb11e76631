"""Thresholds of classes: literal tables, and what holds of any answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtdnet.calibrate.thresholds import class_thresholds, least_clips
from gtdnet.evaluate.statistics import wilson_interval

NAMES = ("nod", "wave")


def two(nod: list[float]) -> np.ndarray:
    """Probabilities of both classes, of the first one's."""
    return np.array([[p, 1 - p] for p in nod])


def test_the_smallest_threshold_with_enough_right_answers() -> None:
    # Of the clips called nod, the 10 surest are right; then a mistake; then 4 that are right.
    p = [*np.linspace(0.99, 0.9, 10), 0.8, *np.linspace(0.79, 0.6, 4)]
    labels = np.array([0] * 10 + [1] + [0] * 4)
    nod, wave = class_thresholds(two(p), labels, NAMES, precision=0.9, confidence=0.8)
    assert nod.threshold == 0.8001
    assert (nod.clips, nod.named, nod.precision, nod.recall) == (14, 10, 1.0, 10 / 14)
    assert nod.low == pytest.approx(wilson_interval(10, 10, 0.6)[0])
    assert wave == ("wave", 1, None, 0, None, None, 0.0)
    # Fewer right answers are asked for: all of them count, however sure.
    nod, _ = class_thresholds(two(p), labels, NAMES, precision=0.8, confidence=0.8)
    assert (nod.threshold, nod.named, nod.precision) == (0.0, 15, 14 / 15)


def test_three_clips_make_no_promise_and_seven_do() -> None:
    assert least_clips(0.9, 0.8) == 7
    for clips, threshold in ((3, None), (6, None), (7, 0.0)):
        nod, _ = class_thresholds(two([0.95] * clips), np.zeros(clips, np.int64), NAMES, 0.9, 0.8)
        assert (nod.threshold, nod.named, nod.precision) == (threshold, clips, 1.0)


def test_a_clip_of_one_class_is_only_ever_given_its_best() -> None:
    scores = np.array([[0.4, 0.6]] * 20)
    nod, wave = class_thresholds(scores, np.zeros(20, np.int64), NAMES, 0.5, 0.8)
    assert (nod.named, nod.threshold, wave.named, wave.threshold) == (0, None, 20, None)


def test_answers_that_are_as_sure_as_can_be_leave_no_room() -> None:
    scores, labels = two([1.0] * 20), np.array([0, 1] * 10)
    assert [row.threshold for row in class_thresholds(scores, labels, NAMES, 0.9, 0.8)] == [
        None
    ] * 2


def test_of_multi_label_clips_every_class_counts_by_itself() -> None:
    scores = np.array([[0.7, 0.9]] * 20)
    scores[10:, 0] = 0.2
    labels = np.array([[1, 1]] * 10 + [[0, 1]] * 10)
    nod, wave = class_thresholds(scores, labels, NAMES, 0.8, 0.8)
    assert (nod.threshold, wave.threshold) == (0.2001, 0.0)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 0.95), st.floats(0.55, 0.95), st.booleans())
def test_every_threshold_keeps_its_word_and_no_smaller_one_does(
    seed: int, precision: float, confidence: float, multi: bool
) -> None:
    rng = np.random.default_rng(seed)
    p = two(rng.random(60).tolist())
    truth = (rng.random((60, 2)) < p).astype(np.int64)
    labels = truth if multi else truth[:, 1]

    def low(k: int, threshold: float) -> float:
        named = p[:, k] >= threshold
        if not multi:
            named &= p.argmax(axis=1) == k
        right = labels[named, k] > 0 if multi else labels[named] == k
        if not len(right):
            return 0.0
        return wilson_interval(int(right.sum()), len(right), 2 * confidence - 1)[0]

    for k, found in enumerate(class_thresholds(p, labels, NAMES, precision, confidence)):
        asked = p[multi | (p.argmax(axis=1) == k), k]
        steps = np.array([0, *np.unique(np.floor(asked * 10_000) + 1)]) / 10_000
        kept = [t for t in steps.tolist() if low(k, t) >= precision]
        assert found.threshold == (min(kept) if kept else None)
        if found.threshold is not None:
            assert found.low == pytest.approx(low(k, found.threshold))


@given(st.floats(0.01, 0.99), st.floats(0.51, 0.99))
def test_least_clips_is_where_wilsons_bound_first_reaches_it(
    precision: float, confidence: float
) -> None:
    n = least_clips(precision, confidence)
    assert wilson_interval(n, n, 2 * confidence - 1)[0] >= precision - 1e-6
    if n > 1:
        assert wilson_interval(n - 1, n - 1, 2 * confidence - 1)[0] < precision + 1e-6
