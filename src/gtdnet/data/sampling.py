"""Which frames make a clip: pure index arithmetic, no I/O.

Segment sampling (Wang et al., TSN, ECCV 2016) cuts the video's n frames into T equal segments and
takes one frame of each. n = 12, T = 4:

    frames      0  1  2 | 3  4  5 | 6  7  8 | 9 10 11
    evaluation     1    |    4    |    7    |   10          clip 1 of 1 or 2: centres
    evaluation  0       | 3       | 6       | 9             clip 2 of 2: half a segment earlier
    training    one at random of each segment

Dense sampling takes T frames ``frame_interval`` apart; its windows are spread evenly over the
video. A video shorter than what is asked for is never padded: the same arithmetic repeats its
frames evenly (n = 3, T = 8: 0 0 0 1 1 2 2 2).

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
from gtdnet.errors import check_at_least

Indices = NDArray[np.int64]


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


def eval_indices(spec: ClipSpec, num_frames: int, num_clips: int = 1) -> Indices:
    """[num_clips, T*f] by the spec's sampling, deterministic."""
    places = _places(spec, num_frames)
    if spec.sampling == "dense":
        first = dense_indices(places, spec.num_segments, spec.frame_interval, num_clips)
    else:
        first = segment_indices(places, spec.num_segments, num_clips)
    return _groups(spec, first, num_frames)


def train_indices(spec: ClipSpec, num_frames: int, rng: np.random.Generator) -> Indices:
    """[T*f] by the spec's sampling, random."""
    places = _places(spec, num_frames)
    if spec.sampling == "dense":
        first = random_dense_indices(places, spec.num_segments, spec.frame_interval, rng)
    else:
        first = random_segment_indices(places, spec.num_segments, rng)
    return _groups(spec, first, num_frames)


def _places(spec: ClipSpec, num_frames: int) -> int:
    """The number of frames at which a whole group begins; 1 if the video is shorter than that."""
    check_at_least(1, num_frames=num_frames)
    return max(1, num_frames - (spec.frames_per_segment - 1))


def _groups(spec: ClipSpec, first: Indices, num_frames: int) -> Indices:
    """Each frame and the f - 1 after it: [..., T] -> [..., T*f]."""
    group = first[..., None] + np.arange(spec.frames_per_segment, dtype=np.int64)  # [..., T, f]
    return np.minimum(group, num_frames - 1).reshape(*first.shape[:-1], -1)
