from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gtdnet.report.confusion import clustered_order, confused_pairs, mirror_confusions


@settings(max_examples=50)
@given(
    st.integers(1, 12).flatmap(
        lambda k: st.lists(st.integers(0, 5), min_size=k * k, max_size=k * k)
    )
)
def test_clustered_order_is_a_permutation(cells: list[int]) -> None:
    size = int(len(cells) ** 0.5)
    confusion = np.array(cells, np.int64).reshape(size, size)
    assert sorted(clustered_order(confusion)) == list(range(size))


def test_clustered_order_finds_the_groups() -> None:
    confusion = 20 * np.eye(9, dtype=np.int64)
    for a, b, clips in ((0, 4, 6), (4, 8, 6), (8, 0, 2), (1, 6, 3), (6, 1, 1), (2, 3, 9)):
        confusion[a, b] = clips
    # 4 is confused most with both of the others of its group, and stands between them.
    assert clustered_order(confusion) == [0, 4, 8, 1, 6, 2, 3, 5, 7]


def test_confused_pairs_by_clips_then_share() -> None:
    confusion = np.array([[7, 3, 0], [0, 1, 3], [2, 0, 8]], np.int64)
    pairs = confused_pairs(confusion, ("left", "right", "up"), 2)
    assert [tuple(pair) for pair in pairs] == [
        (1, 2, 3, 0.75, 0, False),
        (0, 1, 3, 0.3, 0, True),
    ]
    assert mirror_confusions(confusion, ("left", "right", "up")) == (14, 6, 3)
    assert mirror_confusions(confusion, ("left", "down", "up")) is None
