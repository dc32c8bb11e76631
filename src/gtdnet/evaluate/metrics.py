"""Accuracies of a classifier from its scores [N, K] and the true labels [N], as fractions.

Ties are broken as a stable descending sort breaks them: of classes with equal scores the one with
the lower label comes first. A classifier that gives every class the same score therefore "predicts"
class 0 and never looks better than that one class's share of the clips.

All raise ValueError for: no clips, shapes that do not match, a label out of range, or scores that
are not finite.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gtdnet.errors import InputError, check_at_least


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Share of the clips whose true class is among the k highest scores (1 for k >= K)."""
    values, truth = _checked(scores, labels)
    check_at_least(1, k=k)
    own = np.take_along_axis(values, truth[:, None], axis=1)
    earlier = np.arange(values.shape[1]) < truth[:, None]
    rank = ((values > own) | ((values == own) & earlier)).sum(axis=1)
    return float((rank < k).mean())


def confusion_matrix(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Number of clips by true class (row) and predicted class (column): [K, K]."""
    values, truth = _checked(scores, labels)
    num_classes = values.shape[1]
    cells = truth * num_classes + values.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Top-1 accuracy of every class: [K]; NaN for a class without clips."""
    confusion = confusion_matrix(scores, labels)
    clips = confusion.sum(axis=1)
    accuracy = np.full(len(clips), np.nan)
    return np.divide(np.diag(confusion), clips, out=accuracy, where=clips > 0)


def mean_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean of the top-1 accuracies of all classes that have clips."""
    return float(np.nanmean(per_class_accuracy(scores, labels)))


def _checked(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    values, truth = np.asarray(scores), np.asarray(labels)
    if values.ndim != 2 or truth.shape != values.shape[:1]:
        raise InputError(
            f"expected scores [N, K] and labels [N], got shapes {list(values.shape)} "
            f"and {list(truth.shape)}"
        )
    if 0 in values.shape:
        raise InputError(f"there is nothing to measure in scores of shape {list(values.shape)}")
    if not np.issubdtype(truth.dtype, np.integer):
        raise InputError(f"labels must be whole numbers, got {truth.dtype}")
    if truth.min() < 0 or truth.max() >= values.shape[1]:
        raise InputError(
            f"labels must be 0 to {values.shape[1] - 1}, got {truth.min()} to {truth.max()}"
        )
    # A comparison with NaN is false: a model gone wrong would pass for a perfect one.
    if bad := int((~np.isfinite(values).all(axis=1)).sum()):
        raise InputError(
            f"the scores of {bad} of {len(values)} clips are not finite: the model has diverged, "
            f"or its numbers overflow in this precision"
        )
    return values, truth.astype(np.int64)
