"""Accuracies against tables worked out by hand, and against a stable sort."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gtdnet.errors import InputError
from gtdnet.evaluate.metrics import (
    confusion_matrix,
    mean_class_accuracy,
    per_class_accuracy,
    top_k_accuracy,
)

SCORES = np.array(
    [
        [0.7, 0.2, 0.1, 0.0],
        [0.1, 0.6, 0.2, 0.1],
        [0.4, 0.3, 0.2, 0.1],
        [0.1, 0.2, 0.3, 0.4],
        [0.3, 0.3, 0.3, 0.1],
    ]
)
LABELS = np.array([0, 1, 1, 1, 2])


@pytest.mark.parametrize(("k", "expected"), [(1, 0.4), (2, 0.6), (3, 1.0), (4, 1.0), (9, 1.0)])
def test_top_k(k, expected):
    assert top_k_accuracy(SCORES, LABELS, k) == expected


def test_confusion():
    assert confusion_matrix(SCORES, LABELS).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 1],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_per_class():
    found = per_class_accuracy(SCORES, LABELS)
    assert found[:3] == pytest.approx([1, 1 / 3, 0])
    assert math.isnan(found[3])
    assert mean_class_accuracy(SCORES, LABELS) == pytest.approx(4 / 9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_equal_scores_come_in_the_order_of_their_labels(k):
    constant = np.full((4, 4), 0.25)
    labels = np.arange(4)
    assert top_k_accuracy(constant, labels, k) == k / 4
    assert confusion_matrix(constant, labels).tolist() == [[1, 0, 0, 0]] * 4


@given(st.data())
def test_agrees_with_a_stable_sort(data):
    n, classes = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 7))
    # Few values, so that ties are common.
    scores = data.draw(hnp.arrays(np.float32, (n, classes), elements=st.sampled_from([0, 0.5, 1])))
    labels = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    order = np.argsort(-scores, axis=1, kind="stable")
    for k in range(1, classes + 2):
        hits = [label in row[:k] for label, row in zip(labels, order, strict=True)]
        assert top_k_accuracy(scores, labels, k) == np.mean(hits)
    confusion = confusion_matrix(scores, labels)
    assert confusion.sum() == n
    assert np.trace(confusion) / n == pytest.approx(top_k_accuracy(scores, labels, 1))
    assert (confusion.sum(1) == np.bincount(labels, minlength=classes)).all()


@given(st.permutations(range(4)))
def test_renaming_classes_changes_no_accuracy(order):
    scores = np.random.default_rng(0).random((30, 4))
    labels = np.random.default_rng(1).integers(0, 4, 30)
    new = np.argsort(order)  # label i becomes new[i]
    for measure in (top_k_accuracy, mean_class_accuracy):
        assert measure(scores[:, order], new[labels]) == pytest.approx(measure(scores, labels))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros(3), [0, 0, 0], r"shapes \[3\] and \[3\]"),
        (np.zeros((2, 3)), [0], r"shapes \[2, 3\] and \[1\]"),
        (np.zeros((0, 3)), np.zeros(0, int), "nothing to measure"),
        (np.zeros((2, 3)), [0, 3], "labels must be 0 to 2, got 0 to 3"),
        (np.zeros((2, 3)), [-1, 0], "labels must be 0 to 2, got -1 to 0"),
        (np.zeros((2, 3)), [0.0, 1.0], "whole numbers, got float64"),
        ([[0, math.nan], [0, 1]], [0, 1], "1 of 2 clips are not finite"),
    ],
)
def test_refuses(scores, labels, message):
    for measure in (top_k_accuracy, confusion_matrix, per_class_accuracy, mean_class_accuracy):
        with pytest.raises(InputError, match=message):
            measure(scores, labels)


def test_refuses_k():
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        top_k_accuracy(SCORES, LABELS, 0)
