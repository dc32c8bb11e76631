"""A long video window by window, decoded once from start to end.

Of every window only the frames that make its clips are kept, resized, so memory depends neither on
the length of the video nor on that of the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gtdnet.data.decode import frame_times, iter_frames, probe
from gtdnet.data.sampling import eval_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import eval_views, resize_short_side
from gtdnet.errors import DecodeError, check_positive

Span = tuple[int, int]
"""First frame, and the one after the last."""
Seconds = tuple[float, float]
"""Start and end."""

_ROUNDING = 0.0015  # seconds: Matroska and FLV give whole milliseconds
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


def read_windows(
    path: str | Path,
    spec: ClipSpec,
    window: float,
    stride: float,
    *,
    clips: int = 1,
    crops: int = 1,
    fps: float | None = None,
) -> Iterator[tuple[float, float, Tensor]]:
    """Each window of :func:`plan_times`: start, end (seconds), views [V, T*f, 3, crop, crop].

    Time comes from the frames' timestamps. Where there are none, as in folders of pictures, frames
    are taken to be evenly spaced, at the rate that the clip states, else ``fps``.

    Raises:
        DecodeError: the video cannot be read, neither timestamps nor a rate are known, or it breaks
            off; the windows before the break have been given by then.
    """
    times, done = frame_times(path), 0
    if times is None:
        info = probe(path)
        rate = info.fps or (info.num_frames / info.duration if info.duration else fps)
        if not rate:
            raise DecodeError(path, "its frame rate is unknown; give it with --fps")
        times = np.arange(info.num_frames + 1) / rate
    if times[-1] > _MAX_WINDOWS * stride:
        reason = f"its timestamps span {times[-1]:.0f} seconds; give a larger --stride"
        raise DecodeError(path, reason)
    while True:
        planned = plan_times(times, window, stride)[done:]
        pending = deque(
            (span, seconds, span[0] + eval_indices(spec, span[1] - span[0], clips).reshape(-1))
            for span, seconds in planned
        )
        if not pending:
            return
        wanted = set(np.concatenate([indices for _, _, indices in pending]).tolist())
        kept: dict[int, Tensor] = {}
        index = -1
        for index, rgb in enumerate(iter_frames(path)):
            if index in wanted:
                frame = torch.from_numpy(rgb)[None].permute(0, 3, 1, 2)
                kept[index] = resize_short_side(frame, spec)
            while pending and index >= pending[0][2].max():
                _, (start, end), indices = pending.popleft()
                frames = torch.cat([kept[i] for i in indices.tolist()])
                yield start, end, eval_views(frames, spec, crops)
                done += 1
                first = pending[0][0][0] if pending else index + 1
                kept = {i: frame for i, frame in kept.items() if i >= first}
            if not pending:
                return
        # The file holds fewer frames than packets; that changes the end of the plan alone.
        times = times[: index + 2]


def plan_times(times: np.ndarray, window: float, stride: float) -> list[tuple[Span, Seconds]]:
    """The windows of frames that are shown at ``times``, whose last is the end: [frames + 1].

    Evenly spaced ones make the windows of :func:`plan_windows`. Of others a window has the frames
    that begin in it; one in which none begins has the frame that is shown in it.
    """
    num_frames, end = len(times) - 1, float(times[-1])
    even = np.arange(num_frames + 1) * (end / num_frames)
    if end > 0 and np.abs(times - even).max() <= _ROUNDING:
        rate = num_frames / end
        rate = round(rate) if abs(rate - round(rate)) < 1e-3 * rate else rate
        spans = plan_windows(num_frames, rate, window, stride)
        return [(span, (span[0] / rate, span[1] / rate)) for span in spans]
    planned: list[tuple[Span, Seconds]] = []

    def add(start: float, stop: float) -> None:
        a, b = np.searchsorted(times[:-1], [start - _ROUNDING, stop - _ROUNDING]).tolist()
        planned.append(((a, b) if b > a else (max(0, a - 1), max(1, a)), (start, stop)))

    while len(planned) * stride + window <= end + _ROUNDING:
        add(len(planned) * stride, len(planned) * stride + window)
    start = len(planned) * stride
    covered = planned[-1][1][1] if planned else 0.0
    if not planned or (covered < end - _ROUNDING and 2 * (end - start) >= window):
        add(start, end + 2 * _ROUNDING)
        planned[-1] = (planned[-1][0], (start, end))
    return planned
