"""Frames that are in memory already, read as a video file's are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.readers import FewerFrames, VideoInfo
from gtdnet.errors import InputError

if TYPE_CHECKING:
    import torch


class ArrayReader:
    """The frames of an array or tensor: uint8 RGB [F, H, W, 3] or [F, 3, H, W], on any device.

    Raises:
        InputError: another shape or kind, no frames, or both layouts fit.
    """

    path = "the given frames"

    def __init__(self, frames: NDArray[np.uint8] | torch.Tensor, fps: float | None = None) -> None:
        shape = list(frames.shape)
        if len(shape) == 5:
            raise InputError(f"the frames of one video have 4 axes, got {shape}; give a list")
        if len(shape) == 3 and 3 in (shape[0], shape[2]):
            raise InputError(
                f"a video is frames as [F, H, W, 3] or [F, 3, H, W], got a picture of shape "
                f"{shape}; stack the frames of a video to one array"
            )
        if len(shape) != 4 or 0 in shape or 3 not in (shape[1], shape[3]):
            raise InputError(
                f"expected frames as [F, H, W, 3] or [F, 3, H, W], got an array of shape {shape}"
            )
        if shape[1] == shape[3] == 3:
            raise InputError(
                f"frames of shape {shape} may be [F, H, W, 3] or [F, 3, H, W]; make them larger"
            )
        if str(frames.dtype) not in ("uint8", "torch.uint8"):
            raise InputError(f"expected frames as uint8 (0 to 255), got {frames.dtype}")
        self._frames, self._channels_first, self._fps = frames, shape[1] == 3, fps
        self._size = (shape[2], shape[3]) if self._channels_first else (shape[1], shape[2])

    def count(self) -> int:
        return len(self._frames)

    def times(self) -> np.ndarray | None:
        return None

    def info(self) -> VideoInfo:
        return VideoInfo(self.count(), *self._size, self._fps, None, "rawvideo")

    def frames(
        self, wanted: np.ndarray | None = None, broken: dict[int, str] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        indices = range(self.count()) if wanted is None else wanted.tolist()
        if indices and indices[-1] >= self.count():
            raise FewerFrames(self.count())
        for index in indices:
            frame = self._frames[index]
            picture = frame if isinstance(frame, np.ndarray) else frame.cpu().numpy()
            if self._channels_first:
                picture = picture.transpose(1, 2, 0)
            yield index, np.ascontiguousarray(picture)
