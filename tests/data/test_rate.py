"""Rate sampling: frames by the clock, whatever the frame rate of the video."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from gtdnet.data.dataset import EvalClips, Failure, Sample, TrainClips, read_views
from gtdnet.data.decode import ArrayReader, frame_times, read_frames, times_of
from gtdnet.data.formats import VideoRecord, read_annotations
from gtdnet.data.pack import PackOptions, pack
from gtdnet.data.pack.shards import _entry
from gtdnet.data.sampling import (
    dense_indices,
    eval_indices,
    frames_at,
    random_rate_indices,
    rate_indices,
    train_indices,
)
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import DecodeError, InputError
from gtdnet.infer.timeline import read_windows


def even(frames: int, fps: float) -> NDArray[np.float64]:
    return np.arange(frames + 1) / fps


UNEVEN = np.array([0, 0.5, 1, 1.5, 2, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6])
"""Two frames a second, then ten; the last number is the end."""


# ------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("times", "num_segments", "rate", "num_clips", "wanted"),
    [
        (even(20, 10), 4, 2.5, 1, [[3, 7, 11, 15]]),
        (even(20, 10), 4, 2.5, 2, [[0, 4, 8, 12], [7, 11, 15, 19]]),
        (even(20, 10), 4, 2.5, 3, [[0, 4, 8, 12], [3, 7, 11, 15], [7, 11, 15, 19]]),
        # 3.75 frames apart: those that are shown when they are due
        (even(60, 30), 4, 8, 1, [[23, 27, 31, 35]]),
        (even(60, 30), 4, 8, 2, [[0, 3, 7, 11], [47, 51, 55, 59]]),
        # as many a second as the video has, and more
        (even(8, 8), 8, 8, 1, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (even(10, 8), 4, 16, 1, [[3, 4, 4, 5]]),
        # exactly as long as a clip goes, and too short for one: by segments
        (even(13, 10), 4, 2.5, 1, [[0, 4, 8, 12]]),
        (even(12, 10), 4, 2.5, 1, [[1, 4, 7, 10]]),
        (even(12, 10), 4, 2.5, 2, [[1, 4, 7, 10]] * 2),
        (even(3, 25), 8, 8, 1, [[0, 0, 0, 1, 1, 2, 2, 2]]),
        (even(1, 25), 4, 8, 1, [[0, 0, 0, 0]]),
        (even(1, 25), 1, 8, 2, [[0], [0]]),
        # at .65 1.05 1.45 1.85; at 0 .4 .8 1.2, and 1.3 1.7 2.1 2.5
        (UNEVEN, 4, 2.5, 1, [[1, 2, 2, 3]]),
        (UNEVEN, 4, 2.5, 2, [[0, 0, 1, 2], [2, 3, 5, 9]]),
        # a still of nine seconds is looked at again and again
        (np.array([0, 1, 2, 11, 12.0]), 6, 0.5, 1, [[0, 2, 2, 2, 2, 2]]),
        # whole milliseconds, as of Matroska
        (even(20, 30).round(3), 4, 10, 1, [[5, 8, 11, 14]]),
        (np.zeros(5), 2, 8, 1, [[1, 3]]),
    ],
)
def test_deterministic(
    times: NDArray[np.float64], num_segments: int, rate: float, num_clips: int, wanted: Any
) -> None:
    assert rate_indices(times, num_segments, rate, num_clips).tolist() == wanted
    spec = ClipSpec(("a",), num_segments, "rate", rate=rate)
    assert eval_indices(spec, len(times) - 1, num_clips, times).tolist() == wanted
    later = eval_indices(spec, len(times) - 1, num_clips, times + 100)
    assert later.tolist() == wanted  # whenever the first frame is shown


def test_which_frame_is_shown() -> None:
    at = np.array([-1, 0, 0.49, 0.4999, 0.5, 1.99, 2.6, 99])
    assert frames_at(UNEVEN, at).tolist() == [0, 0, 0, 1, 1, 3, 9, 9]


def test_groups_of_frames() -> None:
    """f = 3: the frames at which a group begins are all but the last two."""
    spec = ClipSpec(("a",), 2, "rate", rate=2.5, frames_per_segment=3)
    assert eval_indices(spec, 10, 1, even(10, 10)).tolist() == [[1, 2, 3, 5, 6, 7]]
    drawn = train_indices(spec, 10, np.random.default_rng(0), even(10, 10)).reshape(2, 3)
    assert (np.diff(drawn, axis=1) == 1).all()
    assert drawn[1, 0] - drawn[0, 0] == 4


# --------------------------------------------------------------------------------------- properties

parts = st.integers(1, 12)


@given(st.integers(1, 200), parts, st.integers(1, 9), st.integers(1, 9), st.integers(8, 60))
def test_of_even_frames_it_is_dense_sampling(
    frames: int, num_segments: int, interval: int, clips: int, fps: int
) -> None:
    found = rate_indices(even(frames, fps), num_segments, fps / interval, clips)
    assert found.tolist() == dense_indices(frames, num_segments, interval, clips).tolist()


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=60), parts, st.floats(0.01, 100), parts,
    st.integers(0, 9),
)  # fmt: skip
def test_of_any_times(
    steps: list[float], num_segments: int, rate: float, clips: int, seed: int
) -> None:
    times = np.concatenate([[0], np.cumsum(steps)])
    for indices in (
        *rate_indices(times, num_segments, rate, clips),
        random_rate_indices(times, num_segments, rate, np.random.default_rng(seed)),
    ):
        assert indices.shape == (num_segments,) and indices.dtype == np.int64
        assert (np.diff(indices) >= 0).all()
        assert indices[0] >= 0 and indices[-1] < len(steps)


def test_random_clips_begin_at_any_moment() -> None:
    """7 + 1 places among even frames, each as likely; among others as their time is long."""
    rng = np.random.default_rng(0)
    seen = Counter(tuple(random_rate_indices(even(20, 10), 4, 2.5, rng)) for _ in range(4000))
    assert set(seen) == {(i, i + 4, i + 8, i + 12) for i in range(8)}
    assert all(420 < count < 580 for count in seen.values())
    begins = Counter(int(random_rate_indices(UNEVEN, 2, 2, rng)[0]) for _ in range(4000))
    assert set(begins) == {0, 1, 2, 3, 4}  # the last: at 2, and at 2.5; it lasts .1 of 2.1 seconds
    assert all(850 < begins[i] < 1050 for i in range(4)) and 120 < begins[4] < 260
    short = {tuple(random_rate_indices(even(5, 10), 8, 2.5, rng)) for _ in range(9)}
    assert short == {(0, 0, 1, 2, 2, 3, 4, 4)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rate_indices(even(0, 1), 4, 8), "num_frames must be at least 1, got 0"),
        (lambda: rate_indices(even(9, 1), 4, 0), "rate must be positive, got 0"),
        (lambda: rate_indices(even(9, 1), 4, 8, 0), "num_clips must be at least 1, got 0"),
        (lambda: eval_indices(SPEC, 9), "their times are unknown"),
        (lambda: eval_indices(SPEC, 9, times=even(8, 1)), "their times are unknown"),
        (lambda: eval_indices(SPEC, 9, times=even(9, np.nan)), "their times are unknown"),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


# -------------------------------------------------------------------------------------------- spec


def test_a_spec_has_a_rate_where_it_needs_one() -> None:
    assert ClipSpec.from_dict(SPEC.to_dict()) == SPEC
    assert (SPEC.to_dict()["sampling"], SPEC.to_dict()["rate"]) == ("rate", 8.0)
    assert "rate" not in ClipSpec(("a",)).to_dict()
    assert isinstance(SPEC.rate, float) and SPEC.by_time
    assert SPEC.describe() == "4 frames (rate/8), short side 36, crop 32"
    bad: list[tuple[dict[str, Any], str]] = [
        ({"sampling": "rate"}, "sampling rate needs a rate"),
        ({"rate": 8}, "rate=8 is of sampling rate alone, not of segment"),
        ({"sampling": "rate", "rate": 0}, "rate must be a positive number .* got 0"),
        ({"sampling": "rate", "rate": float("inf")}, "rate must be a positive number"),
        ({"sampling": "rate", "rate": "8"}, "rate must be a positive number .* got 8"),
        ({"sampling": "rate", "rate": True}, "rate must be a positive number"),
    ]
    for changes, message in bad:
        with pytest.raises(InputError, match=message):
            ClipSpec(("a",), **changes)


# ------------------------------------------------------------------------------------------- videos

SPEC = ClipSpec(("a",), 4, "rate", rate=8, short_side=36, crop_size=32)


def video(path: Path, times: list[int], *, per_second: int = 30) -> Path:
    """Frame i is an even grey of 8 i, shown at times[i] / per_second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=per_second, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 36, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, per_second)
        for index, time in enumerate(times):
            grey = np.full((36, 48, 3), 8 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, per_second)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbers(views: Tensor) -> list[list[int]]:
    """The frames of each view, by their greys."""
    return (views.float().mean(dim=(2, 3, 4)) / 8).round().int().tolist()


SLOWING = [*range(16), *range(16, 80, 4)]
"""Of 30 a second: 16 frames at that rate, then 16 at 7.5."""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_time_comes_from_timestamps(tmp_path: Path, suffix: str) -> None:
    """Clips of 3/8 s: the first at the beginning, the last at the end."""
    path = video(tmp_path / f"a{suffix}", SLOWING)
    times = frame_times(path)
    assert times is not None
    wanted = eval_indices(SPEC, 32, 2, times).tolist()
    assert wanted == [[0, 3, 7, 11], [28, 29, 30, 31]]
    assert numbers(read_views(path, SPEC, 2)) == wanted
    clips = TrainClips([VideoRecord("a", str(path), 0)], SPEC, seed=1)
    for epoch in range(6):
        sample = clips[epoch, 0]
        assert isinstance(sample, Sample)
        (chosen,) = numbers(sample.views)
        apart = np.diff(times[chosen])
        assert (abs(apart - 1 / 8) < 0.14).all()  # a frame is shown for 4/30 s at most
        again = clips[epoch, 0]
        assert isinstance(again, Sample) and torch.equal(again.views, sample.views)


def test_windows_of_a_video(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", SLOWING)
    times = frame_times(path)
    assert times is not None
    found = [numbers(w.views)[0] for w in read_windows(path, SPEC, 0.8, 0.8)]
    starts = [0, 0.8, 1.6]
    spans = [np.searchsorted(times[:-1], [a - 0.001, a + 0.799]) for a in starts]
    assert found == [
        [int(a) + i for i in eval_indices(SPEC, int(b - a), times=times[a : b + 1])[0]]
        for a, b in spans
    ]


def test_a_packed_clip_keeps_its_times(tmp_path: Path) -> None:
    for name, times in (("uneven", SLOWING), ("even", list(range(0, 96, 3)))):
        video(tmp_path / "data" / "val" / "a" / f"{name}.mp4", times)
    pack(PackOptions(str(tmp_path / "data"), str(tmp_path / "packed"), workers=1, short_side=36))
    views = []
    for root in ("data", "packed"):
        records = read_annotations(tmp_path / root, "validation").records
        samples = [EvalClips(records, SPEC, 2)[i] for i in range(2)]
        views.append([numbers(s.views) for s in samples if isinstance(s, Sample)])
    assert views[0] == views[1]
    assert views[0][1] == [[0, 3, 7, 11], [28, 29, 30, 31]]


def test_times_of_more_and_fewer_frames_than_there_are_timestamps() -> None:
    assert times_of(UNEVEN, 10).tolist() == UNEVEN.tolist()
    assert times_of(UNEVEN, 3).tolist() == [0, 0.5, 1, 1.5]
    assert times_of(UNEVEN, 13).tolist() == pytest.approx([i / 5 for i in range(14)])


@pytest.mark.parametrize("times", [[0, 1, 2], [0, 2, 1, 3], [0, 1, 2, float("inf")], "text"])
def test_a_pack_with_other_times_is_damaged(times: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        _entry(start=0, frames=3, times=times)
    assert _entry(start=0, frames=3, times=[0, 1, 1, 3]).times == [0, 1, 1, 3]


def test_without_times_a_rate_is_asked_for(tmp_path: Path) -> None:
    frames = np.repeat(np.arange(32, dtype=np.uint8) * 8, 36 * 40 * 3).reshape(32, 36, 40, 3)
    assert numbers(read_views(ArrayReader(frames, fps=16), SPEC)) == [[12, 14, 16, 18]]
    assert numbers(read_views(ArrayReader(frames), SPEC, fps=8)) == [[14, 15, 16, 17]]
    with pytest.raises(DecodeError, match=r"frame rate is unknown.*by time.*--fps"):
        read_views(ArrayReader(frames), SPEC)
    for index in range(3):
        av.VideoFrame.from_ndarray(frames[index], format="rgb24").to_image().save(
            tmp_path / f"{index}.png"
        )
    record = VideoRecord("a", str(tmp_path), 0)
    failure = EvalClips([record], SPEC)[0]
    assert isinstance(failure, Failure) and "frame rate is unknown" in failure.reason
    assert isinstance(TrainClips([record], SPEC)[0, 0], Failure)
    assert isinstance(EvalClips([record], SPEC, fps=5)[0], Sample)


def test_what_one_that_chooses_by_time_is_given(tmp_path: Path) -> None:
    path, seen = video(tmp_path / "a.mp4", list(range(10))), []

    def choose(count: int, times: NDArray[np.float64]) -> NDArray[np.int64]:
        seen.append((count, len(times), round(float(times[-1]), 3)))
        return np.arange(count)

    read_frames(path, choose, by_time=True)
    assert seen == [(10, 11, 0.333)]
