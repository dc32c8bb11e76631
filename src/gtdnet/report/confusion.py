"""What a confusion matrix has to say: which classes are confused, and an order that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.spec import flip_labels


class ConfusedPair(NamedTuple):
    """``clips`` of class ``true`` were taken for ``predicted``: ``share`` of that class's clips.

    ``reverse`` clips were taken the other way round. ``mirrored``: each class is what the other
    becomes in the mirrored picture.
    """

    true: int
    predicted: int
    clips: int
    share: float
    reverse: int
    mirrored: bool


class MirrorConfusions(NamedTuple):
    """Clips of the classes whose mirror image is a class too: all, wrong, taken for that class."""

    clips: int
    wrong: int
    mirrored: int


def mirror_labels(class_names: Sequence[str]) -> tuple[int | None, ...]:
    """Per class, the other class that it is in the mirrored picture; None if there is none."""
    return tuple(
        other if other != label else None for label, other in enumerate(flip_labels(class_names))
    )


def confused_pairs(
    confusion: NDArray[np.int64], class_names: Sequence[str], limit: int
) -> list[ConfusedPair]:
    """The wrong cells of a confusion matrix [K, K] with the most clips, the most first.

    Of equal ones the larger share of the true class comes first, then the lower labels.
    """
    clips = confusion.sum(axis=1)
    mirror = mirror_labels(class_names)
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    pairs = [
        ConfusedPair(
            true,
            predicted,
            int(wrong[true, predicted]),
            float(wrong[true, predicted] / clips[true]),
            int(wrong[predicted, true]),
            mirror[true] == predicted,
        )
        for true, predicted in np.argwhere(wrong).tolist()
    ]
    return sorted(pairs, key=lambda pair: (-pair.clips, -pair.share))[:limit]


def mirror_confusions(
    confusion: NDArray[np.int64], class_names: Sequence[str]
) -> MirrorConfusions | None:
    """How often left was taken for right; None where no class has its mirror image beside it."""
    pairs = [(a, b) for a, b in enumerate(mirror_labels(class_names)) if b is not None]
    if not pairs:
        return None
    true, other = np.array(pairs).T
    clips = int(confusion[true].sum())
    return MirrorConfusions(
        clips, clips - int(confusion[true, true].sum()), int(confusion[true, other].sum())
    )


def clustered_order(confusion: NDArray[np.int64]) -> list[int]:
    """An order of the classes that puts those that are confused with one another side by side.

    Average linkage on the share of clips confused, either way; two groups are joined at those of
    their ends that are confused most. Classes that nothing is confused with keep their order and
    come with the groups in the order of each group's lowest label.
    """
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    pairwise = share + share.T
    linkage = pairwise.copy()
    groups: dict[int, list[int]] = {label: [label] for label in range(len(confusion))}
    while linkage.any():
        a, b = sorted(map(int, np.unravel_index(linkage.argmax(), linkage.shape)))
        first, second = groups[a], groups.pop(b)
        joints = [
            (pairwise[one[-1], other[0]], one + other)
            for one in (first, first[::-1])
            for other in (second, second[::-1])
        ]
        groups[a] = max(joints, key=lambda joint: joint[0])[1]
        joined = (len(first) * linkage[a] + len(second) * linkage[b]) / len(groups[a])
        linkage[a], linkage[:, a] = joined, joined
        linkage[b], linkage[:, b] = 0, 0
        linkage[a, a] = 0
    return [label for group in sorted(groups.values(), key=min) for label in group]
