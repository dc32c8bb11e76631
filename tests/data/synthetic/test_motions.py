"""Courses as tables: the orders of one course are permutations of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gtdnet.data.synthetic.motions import go_and_return, hide, pass_once


@pytest.mark.parametrize(
    ("course", "num_frames", "unit", "expected"),
    [
        (pass_once, 6, 5, [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]),
        (
            go_and_return,
            12,
            8,
            [[0, 1, 3, 5, 7, 8, 8, 7, 5, 3, 1, 0], [8, 7, 5, 3, 1, 0, 0, 1, 3, 5, 7, 8]],
        ),
        (
            hide,
            10,
            3.5,
            [
                [0, 0, 1, 2, 3, 4, 5, 6, 7, 7],
                [7, 7, 6, 5, 4, 3, 2, 1, 0, 0],
                [0, 1, 3, 5, 7, 7, 6, 4, 2, 0],
                [7, 6, 4, 2, 0, 0, 1, 3, 5, 7],
            ],
        ),
    ],
)
def test_courses(
    course: Callable[..., np.ndarray], num_frames: int, unit: float, expected: list[list[int]]
) -> None:
    for order, positions in enumerate(expected):
        drawn = course(num_frames, order, 0.0, np.random.default_rng(0))
        assert (drawn * unit).tolist() == pytest.approx(positions)
