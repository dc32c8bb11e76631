"""Where frames come from: a file, a camera, the address of a stream, raw frames, a program's own.

A source gives :class:`Shot` after shot. One that is live has an end only when it is lost.
"""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.decode import ClipReader
from gtdnet.errors import DecodeError, check_positive
from gtdnet.infer.timeline import seconds_of
from gtdnet.live.clock import Pace

RGB = NDArray[np.uint8]
"""A picture, [H, W, 3]."""


@dataclass(frozen=True)
class Patience:
    """How long a live source is waited for, in seconds.

    Attributes:
        silence: without anything from it, after which it is taken for lost.
        gap: without a frame, or by which its timestamps jump, from which on something was missed.
        pause: before it is opened again; it grows twofold with each try in vain.
        longest_pause: which it grows to.

    Raises:
        ValueError: a number that is not positive.
    """

    silence: float = 10.0
    gap: float = 5.0
    pause: float = 0.5
    longest_pause: float = 30.0

    def __post_init__(self) -> None:
        check_positive(**vars(self))


@dataclass(frozen=True)
class Shot:
    """A frame that was decoded, and is made a picture when it is wanted.

    Attributes:
        timestamp: seconds by the account of the stream; None: it gives none.
        size: (H, W) as decoded, by which a change shows.
        decode: seconds that it took.
        rgb: makes the picture, uint8 [H, W, 3].
    """

    timestamp: float | None
    size: tuple[int, int]
    decode: float
    rgb: Callable[[], RGB]


@dataclass(frozen=True)
class Source(ABC):
    """``name`` is shown, so it never holds a password."""

    name: str

    @property
    def is_live(self) -> bool:
        """Whether an end is a loss, after which it is opened again."""
        return False

    @property
    def is_timely(self) -> bool:
        """Whether the newest frame wins; else every one counts."""
        return self.is_live

    @abstractmethod
    def shots(self, stop: threading.Event, patience: Patience) -> Iterator[Shot | None]:
        """Open it and give its frames until it ends; None for one that is damaged.

        Raises:
            DecodeError: it cannot be opened or read, or breaks off.
        """


@dataclass(frozen=True)
class FileSource(Source):
    """A video file, a folder of numbered pictures, a packed clip: every frame counts.

    With ``realtime`` it is played as a camera would show it.
    """

    path: str = ""
    rate: float | None = None  # frames per second where the file does not say
    realtime: bool = False

    @property
    def is_timely(self) -> bool:
        return self.realtime

    def shots(self, stop: threading.Event, patience: Patience) -> Iterator[Shot | None]:
        reader = ClipReader(self.path)
        times = seconds_of(reader, self.rate)
        if not np.isfinite(times).all():
            raise DecodeError(
                self.path, "it does not say how fast its frames follow each other; give --rate"
            )
        pace = Pace(float("inf")) if self.realtime else None
        frames = reader.frames()
        while True:
            start = time.perf_counter()
            if (found := next(frames, None)) is None:
                return
            index, rgb = found
            took = time.perf_counter() - start
            timestamp = float(times[min(index, len(times) - 1)])
            if pace:
                pace.wait(timestamp, stop)
            yield Shot(timestamp, (rgb.shape[0], rgb.shape[1]), took, lambda rgb=rgb: rgb)


@dataclass(frozen=True)
class RawSource(Source):
    """Frames without a container, rgb24 one after the other, as FFmpeg's ``-f rawvideo`` writes."""

    size: tuple[int, int] = (0, 0)  # (W, H)
    rate: float = 25.0
    realtime: bool = False
    file: BinaryIO | None = None  # without a buffer; default: stdin

    @property
    def is_timely(self) -> bool:
        return self.realtime

    def shots(self, stop: threading.Event, patience: Patience) -> Iterator[Shot | None]:
        width, height = self.size
        length = 3 * width * height
        # Of stdin without its buffer: the lock of that would hold up the end of the process.
        file = self.file or open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
        number = 0
        while data := _read(file, length):
            if len(data) < length:
                raise DecodeError(
                    self.name,
                    f"it ends with {len(data)} bytes of a frame of {length}; give the size "
                    f"(now {width}x{height}) that the frames have, in rgb24",
                )
            rgb = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            yield Shot(number / self.rate, (height, width), 0.0, lambda rgb=rgb: rgb)
            number += 1
        if not number:
            raise DecodeError(self.name, "no frames came; write raw rgb24 frames to stdin")


def _read(file: BinaryIO, length: int) -> bytearray:
    """So many bytes, or those up to the end."""
    data, place = bytearray(length), 0
    with memoryview(data) as view:
        while place < length and (count := file.readinto(view[place:])):  # type: ignore[attr-defined]
            place += count
    return data[:place] if place < length else data


@dataclass(frozen=True)
class GivenSource(Source):
    """Frames of a program of one's own.

    Attributes:
        open: called for each connection; gives (seconds or None, uint8 RGB [H, W, 3]).
        live: whether the newest frame wins, and an end is a loss, after which it is opened again.
    """

    open: Callable[[], Iterable[tuple[float | None, RGB]]] = field(default=tuple)
    live: bool = True

    @property
    def is_live(self) -> bool:
        return self.live

    def shots(self, stop: threading.Event, patience: Patience) -> Iterator[Shot | None]:
        for timestamp, rgb in self.open():
            yield Shot(timestamp, (rgb.shape[0], rgb.shape[1]), 0.0, lambda rgb=rgb: rgb)
