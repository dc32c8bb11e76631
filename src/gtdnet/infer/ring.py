"""The last pictures of a stream, of which those are taken that make a clip."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor

from gtdnet.data.sampling import ROUNDING, eval_indices
from gtdnet.data.spec import ClipSpec

MOST_BYTES = 64 << 20
"""Of the pictures of one stream, unless a clip needs more."""


class Ring:
    """A window that ends with the newest picture of one stream; memory is bounded.

    Its clips are chosen by the arithmetic that chooses those of a video of its frames
    (:func:`gtdnet.data.sampling.eval_indices`). Until it is full, the first picture stands for
    those that are missing.

    Args:
        spec: says how a clip is sampled.
        seconds: its length; None: as many frames as a clip of dense sampling spans.
    """

    def __init__(self, spec: ClipSpec, seconds: float | None) -> None:
        self._spec, self._seconds = spec, seconds
        most = MOST_BYTES // (3 * spec.crop_size**2)
        self._frames = max(2 * spec.frames_per_clip, most) if seconds else clip_span(spec)
        # Of more frames a second than memory is for, some are left out, evenly. Dense sampling
        # counts frames: there the window is shorter instead.
        is_counted = seconds is None or spec.sampling.startswith("dense")
        self._gap = 0.0 if is_counted else (seconds or 0.0) / self._frames
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._kept: deque[tuple[float, Tensor]] = deque(maxlen=self._frames)
        self._is_full = False

    def __len__(self) -> int:
        return len(self._kept)

    def wants(self, time: float) -> bool:
        """Whether a picture at this time would be kept."""
        if not self._kept:
            return True
        since = time - self._kept[-1][0]
        return since < 0 or (since > 0 and since >= self._gap - ROUNDING)

    def add(self, picture: Tensor, time: float) -> None:
        """Take the next picture, uint8 [3, crop, crop]; one of an earlier time begins anew."""
        if self._kept and time < self._kept[-1][0]:
            self.clear()
        if not self.wants(time):
            return
        self._is_full |= len(self._kept) == self._frames
        self._kept.append((time, picture.clone()))  # by itself, not as a part of a batch
        while self._seconds and self._kept[0][0] <= time - self._seconds + ROUNDING:
            self._kept.popleft()
            self._is_full = True

    def clip(self) -> Tensor:
        """uint8 [T*f, 3, crop, crop], of at least one picture."""
        missing, times = self._missing(), np.array([time for time, _ in self._kept])
        apart = (times[-1] - times[0]) / max(1, len(times) - 1)
        before = times[0] + apart * np.arange(-missing, 0)
        times = np.concatenate([before, times, [times[-1] + apart]])
        chosen = eval_indices(self._spec, len(times) - 1, times=times)[0] - missing
        return torch.stack([self._kept[i][1] for i in np.maximum(chosen, 0).tolist()])

    def _missing(self) -> int:
        """Frames that came before the first, had the stream always run as it did since."""
        count = len(self._kept)
        if self._is_full or count == 1:
            return 0
        if self._seconds is None:
            return self._frames - count
        apart = (self._kept[-1][0] - self._kept[0][0]) / (count - 1)
        return max(0, min(self._frames, round(self._seconds / apart)) - count)


def clip_span(spec: ClipSpec) -> int:
    """Frames of a video from the first to the last that dense sampling looks at for a clip."""
    if spec.sampling == "dense-tsm":
        return spec.num_segments * spec.frame_interval + spec.frames_per_segment - 1
    return (spec.num_segments - 1) * spec.frame_interval + spec.frames_per_segment
