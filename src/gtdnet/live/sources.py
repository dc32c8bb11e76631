"""Where frames come from: a file, a camera, the address of a stream, raw frames, a program's own.

A source gives :class:`Shot` after shot. One that is live has an end only when it is lost.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.decode import ClipReader
from gtdnet.data.readers import check_size
from gtdnet.errors import DecodeError, InputError, check_choice, check_positive
from gtdnet.infer.timeline import seconds_of
from gtdnet.live.clock import Pace
from gtdnet.text import printable

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
    file: BinaryIO | None = None  # default: stdin

    @property
    def is_timely(self) -> bool:
        return self.realtime

    def shots(self, stop: threading.Event, patience: Patience) -> Iterator[Shot | None]:
        width, height = self.size
        file, length = self.file or sys.stdin.buffer, 3 * width * height
        number = 0
        while data := file.read(length):
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


# ------------------------------------------------------------------------------- from words

_NAMED = re.compile(r"([\w-]{1,24})=(.+)", re.DOTALL)
_CAMERA = re.compile(r"(?:/dev/video)?(\d{1,3})")
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

SCHEMES = ("rtsp", "rtsps", "http", "https")


def parse_sources(
    words: Sequence[str],
    *,
    size: str | None = None,
    rate: float | None = None,
    realtime: bool = False,
) -> list[Source]:
    """What was meant by each word: the names of the sources differ.

    Args:
        words: a path, a camera (its number or /dev/videoN), an address, or - for raw frames on
            stdin; NAME=WORD names it.
        size: WxH of raw frames, and of a camera.
        rate: frames per second of raw frames, of a camera, and of files that do not say.
        realtime: files and raw frames are played as a camera would show them.

    Raises:
        ValueError: there is none, one that is nothing of these, or a value out of range.
    """
    if not words:
        raise InputError("there is nothing to watch; give a file, a camera or the address of one")
    check_positive(rate=rate)
    width_height = parse_size(size)
    sources = [_source(word, width_height, rate, realtime) for word in words]
    if sum(isinstance(source, RawSource) for source in sources) > 1:
        raise InputError("stdin (-) was given twice; there is one")
    seen: Counter[str] = Counter()
    for i, source in enumerate(sources):
        seen[source.name] += 1
        if (count := seen[source.name]) > 1:
            sources[i] = replace(source, name=f"{source.name} ({count})")
    return sources


def parse_size(text: str | None) -> tuple[int, int] | None:
    """ "640x480" -> (640, 480)."""
    if text is None:
        return None
    if not (match := _SIZE.fullmatch(text)) or not int(match[1]) or not int(match[2]):
        raise InputError(f"size must be WIDTHxHEIGHT in pixels, as 640x480, got {text!r}")
    width, height = int(match[1]), int(match[2])
    check_size("size", width, height)
    return width, height


def _source(word: str, size: tuple[int, int] | None, rate: float | None, realtime: bool) -> Source:
    from gtdnet.live.remote import CameraSource, UrlSource

    name = None
    if (named := _NAMED.fullmatch(word)) and not Path(word).exists():
        name, word = named[1], named[2]
    if word == "-":
        if size is None or rate is None:
            raise InputError(
                "raw frames on stdin (-) have no size and rate of their own; give both, as in "
                "--size 640x480 --rate 25"
            )
        return RawSource(name or "stdin", size, rate, realtime)
    if scheme := _SCHEME.match(word):
        check_choice("protocol", scheme[1].lower(), SCHEMES)
        return UrlSource(name or shown_url(word), word)
    if (camera := _CAMERA.fullmatch(word)) and not Path(word).is_file():
        device = f"/dev/video{camera[1]}"
        return CameraSource(name or device.removeprefix("/dev/"), device, size, rate)
    return FileSource(name or printable(Path(word).name or word), word, rate, realtime)


def shown_url(url: str) -> str:
    """An address without what may be secret in it: name and password, query, fragment.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if not host:
            raise ValueError("no host")
    except ValueError as error:
        raise InputError(
            f"an address ({url.partition('://')[0]}://...) names no host; write it as in "
            f"rtsp://host:554/path, other characters in a password as %40"
        ) from error
    host = f"[{host}]" if ":" in host else host
    return printable(f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}")
