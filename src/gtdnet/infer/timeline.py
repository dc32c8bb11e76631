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

from gtdnet.data.decode import iter_frames, probe
from gtdnet.data.sampling import eval_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import eval_views, resize_short_side
from gtdnet.errors import DecodeError, check_positive

Span = tuple[int, int]
"""First frame, and the one after the last."""


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
    """Each window of :func:`plan_windows`: start, end (seconds), views [V, T*f, 3, crop, crop].

    The frame rate is the mean one that the video states, else ``fps``; frames are taken to be
    evenly spaced.

    Raises:
        DecodeError: the video cannot be read, its frame rate is unknown, or it breaks off; the
            windows before the break have been given by then.
    """
    info = probe(path)
    rate = info.fps or (info.num_frames / info.duration if info.duration else fps)
    if not rate:
        raise DecodeError(path, "its frame rate is unknown; give it with --fps")
    num_frames, done = info.num_frames, 0
    while True:
        spans = plan_windows(num_frames, rate, window, stride)[done:]
        pending = deque(
            (span, span[0] + eval_indices(spec, span[1] - span[0], clips).reshape(-1))
            for span in spans
        )
        if not pending:
            return
        wanted = set(np.concatenate([indices for _, indices in pending]).tolist())
        kept: dict[int, Tensor] = {}
        index = -1
        for index, rgb in enumerate(iter_frames(path)):
            if index in wanted:
                frame = torch.from_numpy(rgb).permute(2, 0, 1)[None]
                kept[index] = resize_short_side(frame, spec)
            while pending and index >= pending[0][1].max():
                (start, stop), indices = pending.popleft()
                frames = torch.cat([kept[i] for i in indices.tolist()])
                yield start / rate, stop / rate, eval_views(frames, spec, crops)
                done += 1
                first = pending[0][0][0] if pending else index + 1
                kept = {i: frame for i, frame in kept.items() if i >= first}
            if not pending:
                return
        num_frames = index + 1
        # The file holds fewer frames than packets; that changes the end of the plan alone.
