"""Reading a clip, by what it is: a video file, a folder of numbered pictures, a packed clip.

One file each, with one class that keeps to :class:`Reader`. Which of them a path needs is decided
in one place, :func:`gtdnet.data.decode.open_clip`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gtdnet.errors import DecodeError, InputError

MAX_PIXELS = "GTDNET_MAX_PIXELS"
"""The environment variable that sets how many pixels a picture may have; default: 2^26."""


@dataclass(frozen=True)
class Stored:
    """How a video file holds its pictures, before they are shown.

    Attributes:
        container: FFmpeg's name of it, or names with commas between.
        codec: its name, which that of its decoder need not be (libdav1d of av1).
        height: of the pictures in pixels, as ``width``.
        rotation: degrees by which they are turned clockwise to be shown: 0, 90, 180 or 270.
        is_mirrored: whether left and right change places, after that.
        streams: how many video streams there are; one of them is read.
    """

    container: str
    codec: str
    height: int
    width: int
    rotation: int
    is_mirrored: bool
    streams: int


@dataclass(frozen=True)
class VideoInfo:
    """What probing finds out about a clip; height and width in pixels as displayed.

    ``stored`` is known of video files alone.
    """

    num_frames: int
    height: int
    width: int
    fps: float | None
    duration: float | None  # seconds
    codec: str
    stored: Stored | None = None


class Reader(Protocol):
    """A clip that was found. What cannot be read of it raises `DecodeError`."""

    def count(self) -> int:
        """The number of frames that indices are first chosen from; nothing is decoded."""
        ...

    def times(self) -> np.ndarray | None:
        """Seconds from the first frame at which each is shown, and the end: [frames + 1].

        None where the clip does not say.
        """
        ...

    def info(self) -> VideoInfo:
        """Count the frames and decode the first one."""
        ...

    def frames(
        self, wanted: np.ndarray | None = None, broken: dict[int, str] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(index, uint8 [H, W, 3]) of the wanted frames in order, or of all.

        ``wanted`` is int64 [T], ascending, without repeats. A damaged frame raises `DecodeError`;
        where ``broken`` is given it is left out, and ``broken`` gets its index and the reason.
        Raises `FewerFrames` if the clip ends before the last wanted frame.
        """
        ...


class FewerFrames(Exception):
    """A clip holds fewer frames than it said: indices must be chosen anew, from ``num_frames``."""

    def __init__(self, num_frames: int) -> None:
        super().__init__(num_frames)
        self.num_frames = num_frames


def check_size(path: object, width: int, height: int) -> None:
    """Raise `DecodeError` for pictures of so many pixels, or so long, that they eat the memory."""
    text = os.environ.get(MAX_PIXELS, "").strip() or str(1 << 26)
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 16):
        raise InputError(f"{MAX_PIXELS} must be a number of pixels, got {text[:40]!r}")
    if width * height > int(text):
        reason = (
            f"its pictures of {width}x{height} have more pixels than the limit of {text}; scale "
            f"them down, or set {MAX_PIXELS}"
        )
        raise DecodeError(path, reason)
    if max(width, height) > 512 * min(width, height) > 0:
        reason = f"its pictures of {width}x{height} are longer than 512:1; cut them"
        raise DecodeError(path, reason)
