"""Which frames make a clip: pure index arithmetic, no I/O.

Segment sampling (Wang et al., TSN, ECCV 2016) cuts the video's n frames into T equal segments and
takes one frame of each. n = 12, T = 4:

    frames      0  1  2 | 3  4  5 | 6  7  8 | 9 10 11
    evaluation     1    |    4    |    7    |   10          clip 1 of 1 or 2: centres
    evaluation  0       | 3       | 6       | 9             clip 2 of 2: half a segment earlier
    training    one at random of each segment

Dense sampling takes T frames ``frame_interval`` apart; its windows are spread evenly over the
video. TSM's code and its descendants count a window as T * ``frame_interval`` frames, the last of
which it doesn't look at ("dense-tsm"). n = 20, T = 4, interval 4, the first and the last window:

    dense          0  4  8 12      7 11 15 19      as far as the last frame goes
    dense-tsm      0  4  8 12      4  8 12 16      windows of 16 frames

There a shorter video begins anew at its end (n = 10: 0 4 8 2). In the other samplings the same
arithmetic repeats its frames evenly (n = 3, T = 8: 0 0 0 1 1 2 2 2); nothing is ever padded.

Rate sampling takes T frames 1 / ``rate`` seconds apart: those that are shown at such moments, by
the timestamps. So its clips last as long whatever the frame rate of the video, T / ``rate`` seconds
if each frame stands for its part of them. They are spread like those of dense sampling, as far as
the last frame goes. T = 4, 2.5 frames a second:

    20 frames, 10 a second                     3  7 11 15     dense: interval 4
    shown at 0 .5 1 1.5 2 2.1 2.2 2.3 2.4 2.5
                 .65 1.05 1.45 1.85            1  2  2  3     clip 1 of 1
                 0 .4 .8 1.2                   0  0  1  2     clip 1 of 2
                 1.3 1.7 2.1 2.5               2  3  5  9     clip 2 of 2

Some models take f neighbouring frames where others take one (``frames_per_segment``; Wang et al.,
TDN, CVPR 2021). The same arithmetic then chooses the first frame of each group, out of the
n - (f - 1) at which a whole group begins. n = 12, T = 3, f = 4:

    frames      0  1  2 | 3  4  5 | 6  7  8 | 9 10 11
    evaluation     1  2   3  4                            clip 1 of 1 or 2
                             4  5   6  7
                                       7  8   9 10
    training    a group that begins at random in each of the first three parts

In a video shorter than one group the last frame stands for those that are not there (n = 2, T = 2,
f = 4: 0 1 1 1 0 1 1 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError, check_at_least, check_positive

Indices = NDArray[np.int64]
Times = NDArray[np.float64]
"""Seconds at which the frames of a video begin to be shown, ascending, and its end: [n + 1]."""

ROUNDING = 0.0015  # seconds: Matroska and FLV give whole milliseconds


def segment_indices(num_frames: int, num_segments: int, num_clips: int = 1) -> Indices:
    """Deterministic segment sampling: [num_clips, num_segments], ascending in each clip.

    Clip j takes the point (1/2 + j / num_clips) mod 1 of every segment: the centre first, and
    with two clips the second lies half a segment earlier.
    """
    check_at_least(1, num_frames=num_frames, num_segments=num_segments, num_clips=num_clips)
    clip = np.arange(num_clips, dtype=np.int64)[:, None]
    segment = np.arange(num_segments, dtype=np.int64)[None, :]
    # In units of 1 / (2 * num_clips) of a segment, so that the arithmetic is exact.
    point = 2 * num_clips * segment + (num_clips + 2 * clip) % (2 * num_clips)
    return point * num_frames // (2 * num_clips * num_segments)


def random_segment_indices(num_frames: int, num_segments: int, rng: np.random.Generator) -> Indices:
    """Random segment sampling: [num_segments], one frame drawn from each segment, ascending."""
    check_at_least(1, num_frames=num_frames, num_segments=num_segments)
    edges = np.arange(num_segments + 1, dtype=np.int64) * num_frames // num_segments
    low, high = edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)
    return rng.integers(low, high)


def dense_indices(
    num_frames: int, num_segments: int, frame_interval: int, num_clips: int = 1
) -> Indices:
    """Deterministic dense sampling: [num_clips, num_segments].

    One clip lies in the middle of the video; several are spread from its first to its last
    possible position (as Wang et al., "Non-local Neural Networks", CVPR 2018, test).
    """
    check_at_least(1, num_frames=num_frames, num_segments=num_segments, num_clips=num_clips)
    check_at_least(1, frame_interval=frame_interval)
    spare = num_frames - ((num_segments - 1) * frame_interval + 1)
    if spare < 0:
        return np.repeat(segment_indices(num_frames, num_segments), num_clips, axis=0)
    if num_clips == 1:
        starts = np.array([spare // 2], dtype=np.int64)
    else:
        starts = np.arange(num_clips, dtype=np.int64) * spare // (num_clips - 1)
    return starts[:, None] + np.arange(num_segments, dtype=np.int64) * frame_interval


def random_dense_indices(
    num_frames: int, num_segments: int, frame_interval: int, rng: np.random.Generator
) -> Indices:
    """Random dense sampling: [num_segments], the window's start drawn evenly."""
    check_at_least(1, num_frames=num_frames, num_segments=num_segments)
    check_at_least(1, frame_interval=frame_interval)
    spare = num_frames - ((num_segments - 1) * frame_interval + 1)
    if spare < 0:
        return segment_indices(num_frames, num_segments)[0]
    start = rng.integers(0, spare + 1)
    return start + np.arange(num_segments, dtype=np.int64) * frame_interval


def tsm_dense_indices(
    num_frames: int, num_segments: int, frame_interval: int, num_clips: int = 1
) -> Indices:
    """Dense sampling as TSM's code tests: [num_clips, num_segments].

    Its windows have 64 frames, of which every (64 / T)-th is taken (Lin et al., TSM, ICCV 2019;
    TEA, TANet and mmaction2 do the same). For one clip TSM draws the window; here, as in TANet, it
    is the middle one.
    """
    check_at_least(1, num_frames=num_frames, num_segments=num_segments, num_clips=num_clips)
    check_at_least(1, frame_interval=frame_interval)
    places = max(1, num_frames - num_segments * frame_interval + 1)
    if num_clips == 1:
        starts = np.array([places // 2], dtype=np.int64)
    else:  # with the rounding of theirs
        starts = np.linspace(0, places - 1, num_clips, dtype=np.int64)
    return _from_start(starts[:, None], num_frames, num_segments, frame_interval)


def random_tsm_dense_indices(
    num_frames: int, num_segments: int, frame_interval: int, rng: np.random.Generator
) -> Indices:
    """Random dense sampling as TSM's code trains, which never draws the last place."""
    check_at_least(1, num_frames=num_frames, num_segments=num_segments)
    check_at_least(1, frame_interval=frame_interval)
    places = num_frames - num_segments * frame_interval + 1
    start = rng.integers(0, places - 1, dtype=np.int64) if places > 1 else np.int64(0)
    return _from_start(start, num_frames, num_segments, frame_interval)


def _from_start(
    start: Indices | np.int64, num_frames: int, num_segments: int, frame_interval: int
) -> Indices:
    """Every ``frame_interval``-th frame from there; the video begins anew at its end."""
    return (start + np.arange(num_segments, dtype=np.int64) * frame_interval) % num_frames


def frames_at(times: Times, seconds: Times) -> Indices:
    """The frame that is shown at each moment: the last one that has begun by then."""
    return np.clip(
        np.searchsorted(times[:-1], seconds + _slack(times), side="right") - 1, 0, len(times) - 2
    )


def rate_indices(times: Times, num_segments: int, rate: float, num_clips: int = 1) -> Indices:
    """Deterministic rate sampling: [num_clips, num_segments].

    One clip lies in the middle of the time at which clips can begin; several are spread from the
    first to the last such moment. Where frames are evenly spaced, 1 / ``rate`` being a whole number
    of them, this is dense sampling.
    """
    check_at_least(1, num_frames=len(times) - 1, num_segments=num_segments, num_clips=num_clips)
    latest = _latest(times, num_segments, rate)
    if latest is None:
        return np.repeat(segment_indices(len(times) - 1, num_segments), num_clips, axis=0)
    starts = np.array([latest / 2])
    if num_clips > 1:
        starts = np.arange(num_clips) * latest / (num_clips - 1)
    return frames_at(times, times[0] + starts[:, None] + np.arange(num_segments) / rate)


def random_rate_indices(
    times: Times, num_segments: int, rate: float, rng: np.random.Generator
) -> Indices:
    """Random rate sampling: [num_segments], the moment at which the clip begins drawn evenly."""
    check_at_least(1, num_frames=len(times) - 1, num_segments=num_segments)
    latest = _latest(times, num_segments, rate)
    if latest is None:
        return segment_indices(len(times) - 1, num_segments)[0]
    # Until the last frame with which a clip can begin gives way to the next.
    last = int(frames_at(times, times[0] + np.array([latest]))[0])
    until = max(times[last + 1] - times[0] - _slack(times), 0.0)
    return frames_at(times, times[0] + until * rng.random() + np.arange(num_segments) / rate)


def _latest(times: Times, num_segments: int, rate: float) -> float | None:
    """Seconds after which the last clip begins; None: the video is shorter than a clip."""
    check_positive(rate=rate)
    latest = float(times[-2] - times[0]) - (num_segments - 1) / rate
    return None if latest < -_slack(times) else max(latest, 0.0)


def _slack(times: Times) -> float:
    """Seconds by which timestamps may be off."""
    return min(ROUNDING, float(times[-1] - times[0]) / (len(times) - 1) / 4)


def eval_indices(
    spec: ClipSpec, num_frames: int, num_clips: int = 1, times: Times | None = None
) -> Indices:
    """[num_clips, T*f] by the spec's sampling, deterministic; ``times`` is for "rate" alone."""
    places = _places(spec, num_frames)
    if spec.rate is not None:
        chosen = rate_indices(_of(times, places), spec.num_segments, spec.rate, num_clips)
        return _groups(spec, chosen, num_frames)
    if spec.sampling == "dense":
        first = dense_indices(places, spec.num_segments, spec.frame_interval, num_clips)
    elif spec.sampling == "dense-tsm":
        first = tsm_dense_indices(places, spec.num_segments, spec.frame_interval, num_clips)
    else:
        first = segment_indices(places, spec.num_segments, num_clips)
    return _groups(spec, first, num_frames)


def train_indices(
    spec: ClipSpec, num_frames: int, rng: np.random.Generator, times: Times | None = None
) -> Indices:
    """[T*f] by the spec's sampling, random; ``times`` is for "rate" alone."""
    places = _places(spec, num_frames)
    if spec.rate is not None:
        chosen = random_rate_indices(_of(times, places), spec.num_segments, spec.rate, rng)
        return _groups(spec, chosen, num_frames)
    if spec.sampling == "dense":
        first = random_dense_indices(places, spec.num_segments, spec.frame_interval, rng)
    elif spec.sampling == "dense-tsm":
        first = random_tsm_dense_indices(places, spec.num_segments, spec.frame_interval, rng)
    else:
        first = random_segment_indices(places, spec.num_segments, rng)
    return _groups(spec, first, num_frames)


def _places(spec: ClipSpec, num_frames: int) -> int:
    """The number of frames at which a whole group begins; 1 if the video is shorter than that."""
    check_at_least(1, num_frames=num_frames)
    return max(1, num_frames - (spec.frames_per_segment - 1))


def _of(times: Times | None, places: int) -> Times:
    """Of the first frames; InputError if nothing is known of them."""
    if times is None or not len(times) > places or not np.isfinite(times).all():
        raise InputError("sampling rate chooses frames by time, and their times are unknown")
    return times[: places + 1]


def _groups(spec: ClipSpec, first: Indices, num_frames: int) -> Indices:
    """Each frame and the f - 1 after it: [..., T] -> [..., T*f]."""
    group = first[..., None] + np.arange(spec.frames_per_segment, dtype=np.int64)  # [..., T, f]
    return np.minimum(group, num_frames - 1).reshape(*first.shape[:-1], -1)
