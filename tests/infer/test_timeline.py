"""Windows of a long video: their plan, and that each is sampled as a video of its own."""

from __future__ import annotations

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.data.decode import VideoInfo, frame_times, iter_frames
from gtdnet.errors import DecodeError, InputError
from gtdnet.infer import timeline
from gtdnet.infer.timeline import plan_times, plan_windows, read_windows

COLOURS = ["red"] * 9 + ["green"] * 8 + ["blue"] * 6  # 2.3 s


@pytest.mark.parametrize(
    ("num_frames", "fps", "window", "stride", "expected"),
    [
        (10, 1, 4, 4, [(0, 4), (4, 8), (8, 10)]),
        (9, 1, 4, 4, [(0, 4), (4, 8)]),
        (10, 1, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (11, 1, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10), (8, 11)]),
        (10, 1, 2, 4, [(0, 2), (4, 6), (8, 10)]),
        (11, 1, 4, 6, [(0, 4), (6, 10)]),
        (3, 1, 10, 10, [(0, 3)]),
        (1, 30, 2, 2, [(0, 1)]),
        (75, 29.97, 1, 1, [(0, 30), (30, 60), (60, 75)]),
        (4, 10, 0.01, 0.01, [(0, 1), (1, 2), (2, 3), (3, 4)]),
    ],
)
def test_plan(num_frames, fps, window, stride, expected):
    assert plan_windows(num_frames, fps, window, stride) == expected


@given(st.integers(1, 500), st.floats(1, 60), st.floats(0.05, 20), st.floats(0.05, 20))
def test_plan_properties(num_frames, fps, window, stride):
    spans = plan_windows(num_frames, fps, window, stride)
    assert spans[0][0] == 0
    assert all(0 <= start < stop <= num_frames for start, stop in spans)
    assert [start for start, _ in spans] == sorted({start for start, _ in spans})
    assert all(abs(stop - start - window * fps) <= 2 for start, stop in spans[:-1])
    if stride <= window and len(spans) > 1:
        assert all(b[0] <= a[1] + 1 for a, b in itertools.pairwise(spans))
        assert num_frames - spans[-1][1] <= window * fps / 2 + 2
    assert plan_windows(num_frames + 1, fps, window, stride)[: len(spans) - 1] == spans[:-1]


@pytest.mark.parametrize("name", ["window", "stride", "fps"])
def test_plan_refuses(name):
    with pytest.raises(InputError, match=f"{name} must be positive, got 0"):
        plan_windows(10, **{"fps": 1, "window": 1, "stride": 1, name: 0})


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (2, 3)])
def test_a_window_is_sampled_as_a_video_of_its_frames(
    by_colour, write_video, tmp_path, clips, crops
):
    video = write_video(tmp_path / "a.mp4", COLOURS)
    frames = np.stack(list(iter_frames(video)))
    found = list(
        read_windows(video, by_colour.spec, window=1.0, stride=0.5, clips=clips, crops=crops)
    )
    assert [w[:2] for w in found] == [
        (0, 1), (0.5, 1.5), (1, 2), (1.5, 2.3)
    ]  # fmt: skip
    for start, end, views, _ in found:
        part = frames[round(10 * start) : round(10 * end)]
        assert torch.equal(views, by_colour.views(part, clips, crops))


def test_windows_with_several_frames_of_each_segment(by_colour, write_video, tmp_path):
    video = write_video(tmp_path / "a.mp4", COLOURS)
    frames = np.stack(list(iter_frames(video)))
    by_colour.spec = by_colour.spec.with_options(num_segments=2, frames_per_segment=5)
    # 8 frames, and at the end 4, which is less than a group.
    found = list(read_windows(video, by_colour.spec, window=0.8, stride=1.9, clips=2, crops=3))
    assert [w[:2] for w in found] == [(0, 0.8), (1.9, 2.3)]
    for start, end, views, _ in found:
        assert views.shape == (6, 10, 3, 32, 32)
        part = frames[round(10 * start) : round(10 * end)]
        assert torch.equal(views, by_colour.views(part, 2, 3))


def test_fewer_frames_than_packets(by_colour, write_video, tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", COLOURS)
    expected = list(read_windows(video, by_colour.spec, 1.0, 1.0))
    monkeypatch.setattr(timeline.ClipReader, "times", lambda reader: None)
    lie = VideoInfo(len(COLOURS) + 9, 32, 48, 10.0, None, "mpeg4")
    monkeypatch.setattr(timeline.ClipReader, "info", lambda reader: lie)
    found = list(read_windows(video, by_colour.spec, 1.0, 1.0))
    assert [w[:2] for w in found] == [w[:2] for w in expected] == [(0, 1), (1, 2)]
    assert all(torch.equal(a[2], b[2]) for a, b in zip(found, expected, strict=True))


def test_only_chosen_frames_are_kept(by_colour, write_video, tmp_path, monkeypatch):
    resized = []
    original = timeline.resize_short_side
    monkeypatch.setattr(
        timeline, "resize_short_side", lambda f, s: resized.append(1) or original(f, s)
    )
    video = write_video(tmp_path / "a.mp4", ["red"] * 60)
    assert len(list(read_windows(video, by_colour.spec, 3.0, 3.0))) == 2
    assert len(resized) == 2 * by_colour.spec.num_segments


def test_frame_rate(by_colour, tmp_path, monkeypatch, write_video):
    video = write_video(tmp_path / "a.mp4", ["red"] * 20)
    monkeypatch.setattr(timeline.ClipReader, "times", lambda reader: None)
    unknown = VideoInfo(20, 32, 48, None, None, "mpeg4")
    monkeypatch.setattr(timeline.ClipReader, "info", lambda reader: unknown)
    with pytest.raises(DecodeError, match="--fps"):
        next(read_windows(video, by_colour.spec, 1.0, 1.0))
    found = list(read_windows(video, by_colour.spec, 1.0, 1.0, fps=5))
    assert [w[:2] for w in found] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def slowing(path):
    """60 frames in 2 s, then 30 in 6 s; frame i is an even grey of i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.time_base = Fraction(1, 30)
        stream.codec_context.time_base = Fraction(1, 30)
        times = [*range(60), *range(60, 240, 6)]
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(
                np.full((32, 48, 3), 2 * index, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = time, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_time_comes_from_timestamps(by_colour, tmp_path, suffix):
    video = slowing(tmp_path / f"a{suffix}")
    times = frame_times(video)
    assert times is not None
    spans = plan_times(times, 2.0, 2.0)
    assert [span for span, _ in spans] == [(0, 60), (60, 70), (70, 80), (80, 90)]
    found = list(read_windows(video, by_colour.spec, 2.0, 2.0))
    seconds = [(round(start, 2), round(end)) for start, end, *_ in found]
    assert seconds == [(0, 2), (2, 4), (4, 6), (6, 8)]
    for (start, stop), (_, _, views, _) in zip([span for span, _ in spans], found, strict=True):
        grey = views.float().mean(dim=(0, 2, 3, 4)) / 2
        assert start - 2 <= grey.min() and grey.max() <= stop + 1


def test_a_window_in_which_no_frame_begins():
    times = np.array([0, 1, 2, 9, 10.0])
    assert plan_times(times, 2, 2) == [
        ((0, 2), (0, 2)),
        ((2, 3), (2, 4)),
        ((2, 3), (4, 6)),
        ((2, 3), (6, 8)),
        ((3, 4), (8, 10)),
    ]


@given(st.lists(st.floats(0.001, 9), min_size=1, max_size=40), st.floats(0.1, 9), st.floats(0.1, 9))
def test_plan_of_any_times(steps, window, stride):
    times = np.concatenate([[0], np.cumsum(steps)])
    planned = plan_times(times, window, stride)
    assert planned[0][0][0] == 0
    assert all(0 <= a < b <= len(steps) for (a, b), _ in planned)


def test_timestamps_that_never_end(by_colour, write_video, tmp_path, monkeypatch):
    video, times = write_video(tmp_path / "a.mp4", COLOURS), np.array([0, 1e12, 1e12 + 1])
    monkeypatch.setattr(timeline.ClipReader, "times", lambda reader: times)
    with pytest.raises(DecodeError, match="span 1000000000001 seconds"):
        next(read_windows(video, by_colour.spec, 1.0, 1.0))
