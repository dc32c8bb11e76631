"""A clip in a shard: the JPEG pictures of the wanted frames, and nothing else, are read."""

from __future__ import annotations

from collections.abc import Iterator

import av.error
import numpy as np
from av.packet import Packet

from gtdnet.data.pack.shards import PackedClip
from gtdnet.data.readers import FewerFrames, VideoInfo
from gtdnet.data.readers.display import Display
from gtdnet.data.readers.stills import strict_decoder
from gtdnet.errors import DecodeError


class PackedReader:
    """The frames of a packed clip; it is broken where its original was."""

    def __init__(self, clip: PackedClip) -> None:
        self._clip = clip

    def count(self) -> int:
        return self._clip.entry.packets or self._clip.entry.frames

    def times(self) -> np.ndarray | None:
        entry, count = self._clip.entry, self.count()
        if entry.times is not None:
            return np.array(entry.times)
        rate = entry.fps or (count / entry.seconds if entry.seconds else None)
        return np.arange(count + 1) / rate if rate else None

    def info(self) -> VideoInfo:
        _, rgb = next(self.frames(np.zeros(1, np.int64)))
        entry, (height, width) = self._clip.entry, rgb.shape[:2]
        return VideoInfo(self.count(), height, width, entry.fps, entry.seconds, "mjpeg")

    def frames(
        self, wanted: np.ndarray | None = None, broken: dict[int, str] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        path, entry = self._clip.path, self._clip.entry
        if not entry.frames:
            raise DecodeError(path, entry.why_broken(0) or "it holds no frames")
        indices = range(entry.frames) if wanted is None else wanted.tolist()
        if indices[-1] >= entry.frames:
            raise FewerFrames(entry.frames)
        if broken is not None:
            broken.update(entry.broken or {})
            indices = [index for index in indices if index not in broken]
        decoder = strict_decoder("mjpeg")
        show: Display | None = None
        shape: tuple[int, int] | None = None
        for index, data in self._clip.read(indices):
            try:
                frames = decoder.decode(Packet(data))
            except av.error.FFmpegError as error:
                reason = f"frame {index} can't be decoded ({error.strerror})"
                raise DecodeError(path, f"{reason}; pack the dataset again") from None
            if len(frames) != 1:
                reason = f"frame {index} can't be decoded; pack the dataset again"
                raise DecodeError(path, reason)
            size = (frames[0].height, frames[0].width)
            if shape not in (None, size):
                reason = f"its pictures differ in size (frame {index}); extract its frames again"
                raise DecodeError(path, reason)
            shape = size
            show = show or Display(frames[0])
            yield index, show(frames[0])
