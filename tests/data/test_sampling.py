"""Index arithmetic: literal tables, and properties for every length of video."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtdnet.data.sampling import (
    dense_indices,
    eval_indices,
    random_dense_indices,
    random_segment_indices,
    segment_indices,
    train_indices,
)
from gtdnet.data.spec import ClipSpec

lengths = st.integers(1, 400)
segments = st.integers(1, 32)
clip_counts = st.integers(1, 12)
seeds = st.integers(0, 2**32)

# ------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("num_frames", "num_segments", "num_clips", "wanted"),
    [
        (12, 4, 1, [[1, 4, 7, 10]]),
        (12, 4, 2, [[1, 4, 7, 10], [0, 3, 6, 9]]),
        (12, 4, 3, [[1, 4, 7, 10], [2, 5, 8, 11], [0, 3, 6, 9]]),
        (30, 8, 1, [[1, 5, 9, 13, 16, 20, 24, 28]]),
        (30, 8, 2, [[1, 5, 9, 13, 16, 20, 24, 28], [0, 3, 7, 11, 15, 18, 22, 26]]),
        (8, 8, 1, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (8, 8, 2, [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]]),
        (5, 8, 1, [[0, 0, 1, 2, 2, 3, 4, 4]]),
        (3, 8, 1, [[0, 0, 0, 1, 1, 2, 2, 2]]),
        (2, 8, 2, [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1]]),
        (1, 8, 1, [[0, 0, 0, 0, 0, 0, 0, 0]]),
        (1, 1, 3, [[0], [0], [0]]),
        (7, 1, 1, [[3]]),
        (
            40,
            4,
            10,
            [
                [5, 15, 25, 35],
                [6, 16, 26, 36],
                [7, 17, 27, 37],
                [8, 18, 28, 38],
                [9, 19, 29, 39],
                [0, 10, 20, 30],
                [1, 11, 21, 31],
                [2, 12, 22, 32],
                [3, 13, 23, 33],
                [4, 14, 24, 34],
            ],
        ),
    ],
)
def test_segment_table(
    num_frames: int, num_segments: int, num_clips: int, wanted: list[list[int]]
) -> None:
    indices = segment_indices(num_frames, num_segments, num_clips)
    assert indices.tolist() == wanted
    assert indices.dtype == np.int64


@pytest.mark.parametrize(
    ("num_frames", "num_clips", "wanted"),
    [
        # T = 8, interval 8: a window of 57 frames.
        (300, 1, [[121, 129, 137, 145, 153, 161, 169, 177]]),
        (64, 1, [[3, 11, 19, 27, 35, 43, 51, 59]]),
        (58, 1, [[0, 8, 16, 24, 32, 40, 48, 56]]),
        (57, 1, [[0, 8, 16, 24, 32, 40, 48, 56]]),
        (57, 2, [[0, 8, 16, 24, 32, 40, 48, 56]] * 2),
        (56, 1, [[3, 10, 17, 24, 31, 38, 45, 52]]),
        (56, 2, [[3, 10, 17, 24, 31, 38, 45, 52]] * 2),
        (4, 1, [[0, 0, 1, 1, 2, 2, 3, 3]]),
        (1, 1, [[0] * 8]),
        (100, 2, [[s + 8 * i for i in range(8)] for s in (0, 43)]),
        (100, 3, [[s + 8 * i for i in range(8)] for s in (0, 21, 43)]),
        (66, 10, [[s + 8 * i for i in range(8)] for s in range(10)]),
        (60, 10, [[s + 8 * i for i in range(8)] for s in (0, 0, 0, 1, 1, 1, 2, 2, 2, 3)]),
    ],
)
def test_dense_table(num_frames: int, num_clips: int, wanted: list[list[int]]) -> None:
    indices = dense_indices(num_frames, 8, 8, num_clips)
    assert indices.tolist() == wanted
    assert indices.dtype == np.int64


@pytest.mark.parametrize(
    ("num_frames", "num_segments", "wanted"),
    [
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (5, 8, [0, 0, 1, 1, 2, 3, 3, 4]),
        (3, 8, [0, 0, 0, 1, 1, 1, 2, 2]),
        (1, 4, [0, 0, 0, 0]),
    ],
)
def test_random_sampling_of_short_videos_leaves_no_choice(
    num_frames: int, num_segments: int, wanted: list[int]
) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert random_segment_indices(num_frames, num_segments, rng).tolist() == wanted


# --------------------------------------------------------------------------------------- properties


@given(n=lengths, t=segments, clips=clip_counts)
def test_segment_indices_lie_in_their_segments(n: int, t: int, clips: int) -> None:
    indices = segment_indices(n, t, clips)
    assert indices.shape == (clips, t)
    for clip in indices.tolist():
        assert all(0 <= i < n for i in clip)
        assert clip == sorted(clip)
        for segment, i in enumerate(clip):
            assert segment * n // t <= i
            assert i * t < (segment + 1) * n


@given(t=segments, clips=clip_counts, data=st.data())
def test_short_videos_repeat_evenly(t: int, clips: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, t))
    drawn = random_segment_indices(n, t, np.random.default_rng(0))
    for clip in [*segment_indices(n, t, clips).tolist(), drawn.tolist()]:
        counts = Counter(clip)
        assert set(counts) == set(range(n))
        assert max(counts.values()) - min(counts.values()) <= 1


@given(n=lengths, t=segments)
def test_one_clip_is_its_own_mirror_image_but_for_rounding(n: int, t: int) -> None:
    clip = segment_indices(n, t)[0]
    mirrored = (n - 1 - clip)[::-1]
    assert np.abs(clip - mirrored).max() <= 1  # centres: no leaning to either end


@settings(max_examples=200)
@given(n=st.integers(1, 10**12), t=segments, clips=clip_counts)
def test_exact_for_any_length(n: int, t: int, clips: int) -> None:
    length = Fraction(n, t)
    wanted = [
        [floor((s + (Fraction(1, 2) + Fraction(j, clips)) % 1) * length) for s in range(t)]
        for j in range(clips)
    ]
    assert segment_indices(n, t, clips).tolist() == wanted


@given(n=lengths, t=segments, seed=seeds)
def test_random_segment_indices_lie_in_their_segments(n: int, t: int, seed: int) -> None:
    indices = random_segment_indices(n, t, np.random.default_rng(seed)).tolist()
    assert len(indices) == t
    assert indices == sorted(indices)
    for segment, i in enumerate(indices):
        low, high = segment * n // t, (segment + 1) * n // t
        assert low <= i < max(high, low + 1)
        assert i < n


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 25), t=st.integers(1, 8))
def test_random_sampling_reaches_every_frame(n: int, t: int) -> None:
    rng = np.random.default_rng(0)
    seen = {i for _ in range(400) for i in random_segment_indices(n, t, rng).tolist()}
    assert seen == set(range(n))


def test_random_sampling_is_even_within_a_segment() -> None:
    rng = np.random.default_rng(0)
    counts = Counter(i for _ in range(2000) for i in random_segment_indices(20, 4, rng).tolist())
    assert all(320 < counts[i] < 480 for i in range(20))  # 400 expected, deviation 18


@given(n=lengths, t=segments, interval=st.integers(1, 16), clips=clip_counts)
def test_dense_indices_are_one_interval_apart_and_spread(
    n: int, t: int, interval: int, clips: int
) -> None:
    indices = dense_indices(n, t, interval, clips)
    assert indices.shape == (clips, t)
    assert indices.min() >= 0
    assert indices.max() < n
    span = (t - 1) * interval + 1
    if n < span:
        assert indices.tolist() == segment_indices(n, t).tolist() * clips
        return
    assert (np.diff(indices, axis=1) == interval).all()
    before, after = indices[:, 0], n - 1 - indices[:, -1]
    if clips == 1:
        assert 0 <= after[0] - before[0] <= 1
    else:
        assert before[0] == 0
        assert after[-1] == 0
        steps = np.diff(before)
        assert steps.max() - steps.min() <= 1


@given(n=lengths, t=segments, interval=st.integers(1, 16), seed=seeds)
def test_random_dense_indices(n: int, t: int, interval: int, seed: int) -> None:
    indices = random_dense_indices(n, t, interval, np.random.default_rng(seed))
    assert indices.shape == (t,)
    assert indices.min() >= 0
    assert indices.max() < n
    if n < (t - 1) * interval + 1:
        assert indices.tolist() == segment_indices(n, t)[0].tolist()
    else:
        assert (np.diff(indices) == interval).all()


def test_random_dense_sampling_reaches_every_start() -> None:
    rng = np.random.default_rng(0)
    starts = {int(random_dense_indices(12, 3, 4, rng)[0]) for _ in range(200)}
    assert starts == {0, 1, 2, 3}


@given(n=lengths, t=segments, seed=seeds)
def test_same_generator_same_frames(n: int, t: int, seed: int) -> None:
    one, other = np.random.default_rng(seed), np.random.default_rng(seed)
    assert np.array_equal(random_segment_indices(n, t, one), random_segment_indices(n, t, other))


# ------------------------------------------------------------------- several frames of each segment


def grouped(t: int, f: int, **options: Any) -> ClipSpec:
    return ClipSpec(("a",), num_segments=t, frames_per_segment=f, **options)


@pytest.mark.parametrize(
    ("n", "t", "f", "clips", "wanted"),
    [
        # The drawn example: 9 places, of three parts 0-2, 3-5, 6-8.
        (12, 3, 4, 1, [[1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10]]),
        (12, 3, 4, 2, [
            [1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10],
            [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9],
        ]),
        # Groups that do not touch: 36 places.
        (40, 2, 5, 1, [[9, 10, 11, 12, 13, 27, 28, 29, 30, 31]]),
        (40, 2, 5, 3, [
            [9, 10, 11, 12, 13, 27, 28, 29, 30, 31],
            [15, 16, 17, 18, 19, 33, 34, 35, 36, 37],
            [3, 4, 5, 6, 7, 21, 22, 23, 24, 25],
        ]),
        # Fewer places than segments: the places repeat evenly. 7 frames, 3 places; then one place.
        (7, 4, 5, 1, [[0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6]]),
        (5, 2, 5, 1, [[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]]),
        # Shorter than one group.
        (4, 2, 5, 1, [[0, 1, 2, 3, 3, 0, 1, 2, 3, 3]]),
        (2, 2, 4, 1, [[0, 1, 1, 1, 0, 1, 1, 1]]),
        (1, 2, 3, 2, [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]),
    ],
)  # fmt: skip
def test_groups_table(n: int, t: int, f: int, clips: int, wanted: list[list[int]]) -> None:
    indices = eval_indices(grouped(t, f), n, clips)
    assert indices.tolist() == wanted
    assert indices.dtype == np.int64


@pytest.mark.parametrize(
    ("n", "clips", "wanted"),
    [
        # T = 2, f = 3, interval 4: 5 places in a row, and 2 frames beyond the last.
        (7, 1, [[0, 1, 2, 4, 5, 6]]),
        (12, 1, [[2, 3, 4, 6, 7, 8]]),
        (12, 2, [[0, 1, 2, 4, 5, 6], [5, 6, 7, 9, 10, 11]]),
        (6, 1, [[1, 2, 3, 3, 4, 5]]),  # by segments: 4 places
        (2, 1, [[0, 1, 1, 0, 1, 1]]),
    ],
)
def test_dense_groups_table(n: int, clips: int, wanted: list[list[int]]) -> None:
    spec = grouped(2, 3, sampling="dense", frame_interval=4)
    assert eval_indices(spec, n, clips).tolist() == wanted


@pytest.mark.parametrize(
    ("options", "n", "starts"),
    [
        ({}, 12, {(a, b, c) for a in (0, 1, 2) for b in (3, 4, 5) for c in (6, 7, 8)}),
        ({}, 6, {(0, 1, 2)}),
        ({}, 4, {(0, 0, 0)}),
        ({}, 2, {(0, 0, 0)}),
        ({"sampling": "dense", "frame_interval": 2}, 11, {(s, s + 2, s + 4) for s in range(4)}),
        ({"sampling": "dense", "frame_interval": 2}, 7, {(0, 2, 3)}),  # 4 places, by segments
    ],
)
def test_training_groups_table(
    options: dict[str, Any], n: int, starts: set[tuple[int, ...]]
) -> None:
    """T = 3, f = 4: every choice that there is, and no other."""
    rng = np.random.default_rng(0)
    seen = {tuple(train_indices(grouped(3, 4, **options), n, rng).tolist()) for _ in range(600)}
    assert seen == {tuple(min(p + k, n - 1) for p in ps for k in range(4)) for ps in starts}


@given(n=lengths, t=st.sampled_from([4, 8, 16]), f=st.integers(1, 7))
def test_one_clip_is_that_of_the_published_tdn(n: int, t: int, f: int) -> None:
    """Its centres of n - f + 1 places (Wang et al., CVPR 2021), where there are more than T."""
    tick = (n - f + 1) / t
    if tick > 1:
        wanted = [int(tick / 2 + tick * i) + k for i in range(t) for k in range(f)]
        assert eval_indices(grouped(t, f), n)[0].tolist() == wanted


@given(
    n=lengths,
    t=segments,
    f=st.integers(1, 9),
    dense=st.booleans(),
    interval=st.integers(1, 16),
    clips=clip_counts,
    seed=seeds,
)
def test_groups_are_neighbours_of_the_frames_that_one_each_would_take(
    n: int, t: int, f: int, dense: bool, interval: int, clips: int, seed: int
) -> None:
    options: dict[str, Any] = {"sampling": "dense" if dense else "segment"}
    one = grouped(t, 1, frame_interval=interval, **options)
    several = replace(one, frames_per_segment=f)
    places = max(1, n - f + 1)
    for first, found in (
        (eval_indices(one, places, clips), eval_indices(several, n, clips)),
        (
            train_indices(one, places, np.random.default_rng(seed))[None],
            train_indices(several, n, np.random.default_rng(seed))[None],
        ),
    ):
        assert found.shape == (len(first), t * f)
        groups = found.reshape(len(first), t, f)
        assert (groups[:, :, 0] == first).all()
        assert found.min() >= 0
        assert found.max() < n
        if n >= f:
            assert (np.diff(groups, axis=2) == 1).all()
        else:
            assert (groups == np.minimum(np.arange(f), n - 1)).all()


# ------------------------------------------------------------------------- as in TSM's own code


def official_test(n: int, t: int, clips: int = 10) -> list[list[int]]:
    """Its windows of 64 frames, by plain loops: the starts, then the frames of each."""
    places = max(1, 1 + n - 64)
    starts = [int(start) for start in np.linspace(0, places - 1, clips)]
    return [[(start + 64 // t * i) % n for i in range(t)] for start in starts]


@pytest.mark.parametrize("t", [4, 8, 16, 32])
def test_tsm_dense_windows_are_the_official_ones(t: int) -> None:
    spec = ClipSpec(("a",), num_segments=t, sampling="dense-tsm", frame_interval=64 // t)
    for n in range(1, 400):
        assert eval_indices(spec, n, 10).tolist() == official_test(n, t), n


def test_tsm_dense_table() -> None:
    spec = ClipSpec(("a",), num_segments=8, sampling="dense-tsm", frame_interval=8)
    first = list(range(0, 64, 8))
    assert eval_indices(spec, 300, 10)[:, 0].tolist() == [
        0, 26, 52, 78, 104, 131, 157, 183, 209, 236,
    ]  # fmt: skip
    assert eval_indices(spec, 300, 10)[-1].tolist() == [236 + i for i in first]  # 299 - 7 - 56
    assert eval_indices(spec, 100, 3)[:, 0].tolist() == [0, 18, 36]
    assert eval_indices(spec, 64, 2).tolist() == [first, first]
    assert eval_indices(spec, 60).tolist() == [first]
    assert eval_indices(spec, 20).tolist() == [[0, 8, 16, 4, 12, 0, 8, 16]]
    assert eval_indices(spec, 1).tolist() == [[0] * 8]
    assert eval_indices(spec, 100).tolist() == [[18 + i for i in first]]


def test_tsm_dense_training_draws_what_the_official_code_draws() -> None:
    spec = ClipSpec(("a",), num_segments=4, sampling="dense-tsm", frame_interval=2)
    rng = np.random.default_rng(0)
    for n, starts in ((11, {0, 1, 2}), (9, {0}), (8, {0}), (5, {0})):
        seen = {tuple(train_indices(spec, n, rng).tolist()) for _ in range(100)}
        assert seen == {tuple((s + 2 * i) % n for i in range(4)) for s in starts}


# ---------------------------------------------------------------------------------- by spec; errors


def test_spec_decides() -> None:
    segment = ClipSpec(("a",), num_segments=4)
    dense = ClipSpec(("a",), num_segments=4, sampling="dense", frame_interval=2)
    assert eval_indices(segment, 12, 2).tolist() == [[1, 4, 7, 10], [0, 3, 6, 9]]
    assert eval_indices(dense, 12).tolist() == [[2, 4, 6, 8]]
    assert eval_indices(dense, 12, 2).tolist() == [[0, 2, 4, 6], [5, 7, 9, 11]]
    assert train_indices(segment, 4, np.random.default_rng(0)).tolist() == [0, 1, 2, 3]
    assert train_indices(dense, 7, np.random.default_rng(0)).tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: segment_indices(0, 8), "num_frames must be at least 1, got 0"),
        (lambda rng: segment_indices(8, 0), "num_segments must be at least 1, got 0"),
        (lambda rng: segment_indices(8, 8, 0), "num_clips must be at least 1, got 0"),
        (lambda rng: dense_indices(8, 8, 0), "frame_interval must be at least 1, got 0"),
        (lambda rng: dense_indices(8, 8, 1, -1), "num_clips must be at least 1, got -1"),
        (lambda rng: random_segment_indices(0, 8, rng), "num_frames must be at least 1, got 0"),
        (lambda rng: random_dense_indices(8, 8, 0, rng), "frame_interval must be at least 1"),
        (lambda rng: eval_indices(grouped(2, 5), 0), "num_frames must be at least 1, got 0"),
        (lambda rng: train_indices(grouped(2, 5), 0, rng), "num_frames must be at least 1, got 0"),
        (lambda rng: eval_indices(grouped(2, 5), 9, 0), "num_clips must be at least 1, got 0"),
    ],
)
def test_bad_arguments(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
