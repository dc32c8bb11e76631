"""A long video window by window, decoded once from start to end.

Of every window only the frames that make its clips are converted to RGB and kept, resized, so
memory depends neither on the length of the video nor on that of the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtdnet.data.decode import Clip, ClipReader, FewerFrames, read_frames, seconds_of, times_of
from gtdnet.data.sampling import ROUNDING, Indices, eval_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import eval_views, resize_short_side
from gtdnet.errors import DecodeError, check_positive

Span = tuple[int, int]
"""First frame, and the one after the last."""
Seconds = tuple[float, float]
"""Start and end."""

_MAX_WINDOWS = 1_000_000


def plan_windows(num_frames: int, fps: float, window: float, stride: float) -> list[Span]:
    """The windows of a video: window and stride in seconds, rounded to whole frames.

    Windows begin every ``stride`` (at least every frame). What is left over at the end makes a
    window of its own if it is at least half as long as the others; a video shorter than one window
    is one window. 10 frames at 1 frame/s, window 4 s:

        frames      0  1  2  3  4  5  6  7  8  9
        stride 4    [---------] [---------] [--]
        stride 2    [---------] [---------]
                          [---------] [---------]

    Raises:
        ValueError: a number that is not positive.
    """
    check_positive(num_frames=num_frames, fps=fps, window=window, stride=stride)
    spans: list[Span] = []
    step, k = max(stride * fps, 1.0), 0
    while True:
        start = round(k * step)
        stop = max(start + 1, round(k * step + window * fps))
        if stop > num_frames:
            break
        spans.append((start, stop))
        k += 1
    covered = spans[-1][1] if spans else 0
    rest = num_frames - start
    if not spans or (covered < num_frames and 2 * rest >= stop - start):
        spans.append((start, num_frames))
    return spans


class WindowClips(NamedTuple):
    """What a model needs of one window, or of a whole video.

    Attributes:
        start, end: seconds; NaN where the video does not say.
        views: uint8 [V, T*f, 3, crop, crop].
        times: seconds at which the frames (of f, the middle ones) are shown, [num_clips, T].
    """

    start: float
    end: float
    views: Tensor
    times: NDArray[np.float64]


def read_windows(
    video: Clip,
    spec: ClipSpec,
    window: float,
    stride: float,
    *,
    clips: int = 1,
    crops: int = 1,
    fps: float | None = None,
) -> Iterator[WindowClips]:
    """Each window of :func:`plan_times`.

    Time comes from the frames' timestamps. Where there are none, as in folders of pictures, frames
    are taken to be evenly spaced, at the rate that the clip states, else ``fps``.

    Raises:
        DecodeError: the video cannot be read, neither timestamps nor a rate are known, or it breaks
            off; the windows before the break have been given by then.
    """
    reader, done = ClipReader(video), 0
    times = seconds_of(reader, fps)
    if not times[-1] <= _MAX_WINDOWS * stride:
        reason = f"its timestamps span {times[-1]:.0f} seconds; give a larger --stride"
        if np.isnan(times[-1]):
            reason = "its frame rate is unknown; give it with --fps"
        raise DecodeError(reader.path, reason)
    while True:
        planned = plan_times(times, window, stride)[done:]
        pending = deque(
            (span, seconds, _chosen(spec, span, clips, times)) for span, seconds in planned
        )
        if not pending:
            return
        kept: dict[int, Tensor] = {}
        wanted = np.unique(np.concatenate([indices.reshape(-1) for _, _, indices in pending]))
        try:
            for index, rgb in reader.frames(wanted):
                kept[index] = resize_short_side(torch.from_numpy(rgb).permute(2, 0, 1)[None], spec)
                while pending and index >= pending[0][2].max():
                    _, seconds, indices = pending.popleft()
                    frames = torch.cat([kept[i] for i in indices.reshape(-1).tolist()])
                    views = eval_views(frames, spec, crops)
                    yield WindowClips(*seconds, views, _shown(times, indices, spec))
                    done += 1
                    first = pending[0][0][0] if pending else index + 1
                    kept = {i: frame for i, frame in kept.items() if i >= first}
            return
        except FewerFrames as fewer:  # than packets; that changes the end of the plan alone
            times = times[: fewer.num_frames + 1]


def read_whole(
    video: Clip, spec: ClipSpec, *, clips: int = 1, crops: int = 1, fps: float | None = None
) -> WindowClips:
    """A whole video as one window: the views of :func:`gtdnet.data.dataset.read_views`.

    Raises:
        DecodeError: the video cannot be read.
    """
    times = seconds_of(ClipReader(video), fps)
    frames, num_frames = read_frames(
        video,
        lambda n, times=None: eval_indices(spec, n, clips, times).reshape(-1),
        lambda frame: resize_short_side(frame, spec),
        by_time=spec.by_time,
        fps=fps,
    )
    times = times_of(times, num_frames)
    shown = _shown(times, _chosen(spec, (0, num_frames), clips, times), spec)
    return WindowClips(0.0, float(times[num_frames]), eval_views(frames, spec, crops), shown)


def read_one(video: Clip, spec: ClipSpec, **options: Any) -> list[WindowClips]:
    """:func:`read_whole` as one of several windows."""
    return [read_whole(video, spec, **options)]


def _chosen(spec: ClipSpec, span: Span, clips: int, times: NDArray[np.float64]) -> Indices:
    """The frames of the clips of a part of a video, [num_clips, T*f]."""
    first, stop = span
    of_span = times[first : stop + 1] if spec.by_time else None
    return first + eval_indices(spec, stop - first, clips, of_span)


def _shown(times: NDArray[np.float64], indices: Indices, spec: ClipSpec) -> NDArray[np.float64]:
    """Seconds of the frames [num_clips, T*f]; of f neighbours the middle one: [num_clips, T]."""
    return times[indices[:, spec.frames_per_segment // 2 :: spec.frames_per_segment]]


def plan_times(times: np.ndarray, window: float, stride: float) -> list[tuple[Span, Seconds]]:
    """The windows of frames that are shown at ``times``, whose last is the end: [frames + 1].

    Evenly spaced ones make the windows of :func:`plan_windows`. Of others a window has the frames
    that begin in it; one in which none begins has the frame that is shown in it.
    """
    num_frames, end = len(times) - 1, float(times[-1])
    even = np.arange(num_frames + 1) * (end / num_frames)
    if end > 0 and np.abs(times - even).max() <= ROUNDING:
        rate = num_frames / end
        rate = round(rate) if abs(rate - round(rate)) < 1e-3 * rate else rate
        spans = plan_windows(num_frames, rate, window, stride)
        return [(span, (span[0] / rate, span[1] / rate)) for span in spans]
    planned: list[tuple[Span, Seconds]] = []

    def add(start: float, stop: float) -> None:
        a, b = np.searchsorted(times[:-1], [start - ROUNDING, stop - ROUNDING]).tolist()
        planned.append(((a, b) if b > a else (max(0, a - 1), max(1, a)), (start, stop)))

    while len(planned) * stride + window <= end + ROUNDING:
        add(len(planned) * stride, len(planned) * stride + window)
    start = len(planned) * stride
    covered = planned[-1][1][1] if planned else 0.0
    if not planned or (covered < end - ROUNDING and 2 * (end - start) >= window):
        add(start, end + 2 * ROUNDING)
        planned[-1] = (planned[-1][0], (start, end))
    return planned
