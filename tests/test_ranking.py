"""Average precision and F1 against tables worked out by hand, and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gtdnet.errors import InputError
from gtdnet.ranking import Ranking, average_precision, counts_at, mean_average_precision


# By hand; the first is the example of sklearn's average_precision_score, whose definition it is.
@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], (1 + 2 / 3) / 2),
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], 1.0),
        ([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1], (1 / 3 + 2 / 4) / 2),
        ([0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1], 1 / 4),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 1 / 4),  # equal scores: one step for all
        ([0.9, 0.5, 0.5, 0.1], [0, 1, 0, 1], (1 / 3 + 2 / 4) / 2),
        ([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0], (1 + 2 / 3) / 2),
        ([0.9, 0.5, 0.5, 0.1], [1, 0, 1, 0], (1 + 2 / 3) / 2),
        ([0.9, 0.9, 0.2, 0.2, 0.2], [1, 0, 1, 1, 0], (1 / 2 + 3 / 5 + 3 / 5) / 3),
        ([0.3], [1], 1.0),
    ],
)
def test_average_precision(scores: list[float], labels: list[int], expected: float) -> None:
    found = average_precision(np.array(scores)[:, None], np.array(labels)[:, None])
    assert found.tolist() == pytest.approx([expected])


SCORES = np.array(
    [
        [0.9, 0.1, 0.5, 0.2],
        [0.6, 0.6, 0.4, 0.9],
        [0.3, 0.7, 0.2, 0.1],
        [0.2, 0.5, 0.1, 0.1],
    ]
)
LABELS = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]])


def test_map_is_over_the_classes_that_have_a_clip() -> None:
    each = average_precision(SCORES, LABELS)
    assert each[:3].tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 2, (1 / 2 + 2 / 4) / 2])
    assert np.isnan(each[3])
    assert mean_average_precision(SCORES, LABELS) == pytest.approx((5 / 6 + 1 / 2 + 1 / 2) / 3)
    assert mean_average_precision(SCORES, np.zeros_like(LABELS)) is None


@pytest.mark.parametrize(
    ("threshold", "tp", "fp", "fn", "micro", "macro"),
    [
        # The score 0.5 is given at 0.5.
        (0.5, [1, 1, 0, 0], [1, 2, 1, 1], [1, 0, 2, 0], 4 / 12, (2 / 4 + 2 / 4 + 0) / 3),
        (0.65, [1, 0, 0, 0], [0, 1, 0, 1], [1, 1, 2, 0], 2 / 8, (2 / 3 + 0 + 0) / 3),
        (0.0, [2, 1, 2, 0], [2, 3, 2, 4], [0, 0, 0, 0], 10 / 21, (4 / 6 + 2 / 5 + 4 / 6) / 3),
    ],
)
def test_f1(
    threshold: float, tp: list[int], fp: list[int], fn: list[int], micro: float, macro: float
) -> None:
    found = counts_at(SCORES, LABELS, threshold)
    assert (found.tp.tolist(), found.fp.tolist(), found.fn.tolist()) == (tp, fp, fn)
    assert found.micro_f1 == pytest.approx(micro)
    assert found.macro_f1 == pytest.approx(macro)


def test_precision_and_recall_where_there_are_none() -> None:
    found = counts_at(SCORES, LABELS, 0.65)
    assert found.precision.tolist() == pytest.approx([1, 0, np.nan, 0], nan_ok=True)
    assert found.recall.tolist() == pytest.approx([0.5, 0, 0, np.nan], nan_ok=True)
    assert found.f1.tolist() == pytest.approx([2 / 3, 0, 0, np.nan], nan_ok=True)
    nothing = counts_at(np.zeros((3, 2)), np.zeros((3, 2), int))
    assert nothing.micro_f1 is None and nothing.macro_f1 is None


def _by_definition(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> list[float]:
    """Steps of recall times the precision there, one step for each distinct score."""
    found = []
    for of, truth in zip(scores.T, labels.T, strict=True):
        positives, recall, area = (weights * truth).sum(), 0.0, 0.0
        for threshold in sorted({*of.tolist()}, reverse=True):
            given = of >= threshold
            if not (weights * given).sum() or not positives:
                continue
            hits = (weights * given * truth).sum()
            area += (hits / positives - recall) * hits / (weights * given).sum()
            recall = hits / positives
        found.append(area if positives else np.nan)
    return found


ROWS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float64, (n, 2), elements=st.integers(0, 4).map(lambda x: x / 4)),
        hnp.arrays(np.int64, (n, 2), elements=st.integers(0, 1)),
        hnp.arrays(np.int64, (n,), elements=st.integers(0, 3)),
        st.permutations(range(n)),
    )
)


@given(ROWS)
def test_ties_weights_and_order(rows: tuple[np.ndarray, ...]) -> None:
    scores, labels, weights, order = rows
    found = average_precision(scores, labels)
    assert found == pytest.approx(_by_definition(scores, labels, np.ones(len(scores))), nan_ok=True)
    shuffled = average_precision(scores[list(order)], labels[list(order)])
    assert shuffled == pytest.approx(found, nan_ok=True)
    assert average_precision(scores**3, labels) == pytest.approx(found, nan_ok=True)
    weighted = Ranking(scores, labels).average_precision(weights)
    assert weighted == pytest.approx(_by_definition(scores, labels, weights), nan_ok=True)
    if weights.any():
        repeated = np.repeat(np.arange(len(scores)), weights)
        again = average_precision(scores[repeated], labels[repeated])
        assert weighted == pytest.approx(again, nan_ok=True)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((3, 2)), np.zeros(3), "expected scores [N, K] and labels [N, K]"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "nothing to measure"),
        (np.zeros((1, 2)), np.full((1, 2), -1), "labels must be 0 or 1"),
        (np.full((1, 2), np.nan), np.ones((1, 2)), "the scores of 1 of 1 clips are not finite"),
    ],
)
def test_what_cannot_be_measured(scores: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError) as error:
        average_precision(scores, labels)
    assert message in str(error.value)
