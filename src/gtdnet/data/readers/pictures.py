"""A folder of numbered pictures as a clip; each is opened by itself."""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import av.error
import numpy as np
from av.packet import Packet

from gtdnet.data.readers import VideoInfo, check_size
from gtdnet.data.readers.display import Display
from gtdnet.data.readers.scans import MARKER, end_of_jpeg, is_damaged_scan
from gtdnet.data.readers.stills import strict_decoder
from gtdnet.errors import DecodeError

NUMBERED_IMAGE = re.compile(r"(.*?)(\d+)\.(?:jpe?g|png)", re.IGNORECASE)

_EXTRACT = "extract the frames again"


class PictureReader:
    """The JPEG or PNG pictures of a folder, in the order of their numbers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = _numbered(folder)

    def count(self) -> int:
        return len(self._names)

    def times(self) -> np.ndarray | None:
        return None

    def info(self) -> VideoInfo:
        _, rgb = next(self.frames(np.zeros(1, np.int64)))
        codec = "png" if self._names[0].lower().endswith(".png") else "mjpeg"
        return VideoInfo(len(self._names), rgb.shape[0], rgb.shape[1], None, None, codec)

    def frames(
        self, wanted: np.ndarray | None = None, broken: dict[int, str] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        shape: tuple[int, ...] | None = None
        for index in range(len(self._names)) if wanted is None else wanted.tolist():
            name = self._names[index]
            try:
                rgb = _decode(self._folder / name, is_thorough=broken is not None)
            except DecodeError as error:
                if broken is None:
                    raise
                broken[index] = f"{name}: {error.reason}"
                continue
            if broken is None and shape not in (None, rgb.shape):
                reason = f"its pictures differ in size ({name}); extract its frames again"
                raise DecodeError(self._folder, reason)
            shape = rgb.shape
            yield index, rgb


def _numbered(folder: Path) -> list[str]:
    """The names of the numbered pictures in a folder, in the order of their numbers."""
    try:
        with os.scandir(folder) as entries:
            matches = [m for e in entries if (m := NUMBERED_IMAGE.fullmatch(e.name))]
    except OSError as error:
        raise DecodeError(folder, f"it can't be listed ({error.strerror})") from None
    # Optical flow is commonly kept beside the pictures, as flow_x_00001.jpg.
    matches = [m for m in matches if not m[1].startswith((".", "flow"))]
    if not matches:
        reason = "it holds no numbered pictures such as 00001.jpg; extract the frames into it"
        raise DecodeError(folder, reason)
    if len(prefixes := sorted({m[1] for m in matches})) > 1:
        reason = f"it mixes several sequences ({', '.join(map(repr, prefixes[:3]))}); keep one"
        raise DecodeError(folder, reason)
    matches.sort(key=lambda m: int(m[2]))
    for before, after in itertools.pairwise(matches):
        if int(after[2]) != int(before[2]) + 1:
            reason = f"{before[0]} is followed by {after[0]}; extract its frames again"
            raise DecodeError(folder, reason)
    return [m[0] for m in matches]


def _decode(path: Path, is_thorough: bool = False) -> np.ndarray:
    """RGB [H, W, 3] of a JPEG or PNG file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a FIFO or /dev/zero would not end
            raise DecodeError(path, f"the picture is no file; {_EXTRACT}")
        data = path.read_bytes()
    except OSError as error:
        raise DecodeError(path, f"the picture can't be read ({error.strerror})") from None
    # FFmpeg fills the missing part of a cut-off picture with grey, without an error.
    if data[:2] == b"\xff\xd8":
        codec, end = "mjpeg", end_of_jpeg(data)
    elif data[:4] == b"\x89PNG":
        codec, end = "png", len(data) if b"IEND" in data[-64:] else 0
    else:
        raise DecodeError(path, f"it is not a JPEG or PNG picture; {_EXTRACT}")
    if not end:
        raise DecodeError(path, f"the picture is cut off; {_EXTRACT}")
    check_size(path, *_size(data))
    try:
        # A new decoder each: the PNG one adds the previous picture to the next (FFmpeg 8).
        decoder = strict_decoder(codec)
        frames = decoder.decode(Packet(data[:end] if end < len(data) else data))
    except av.error.FFmpegError as error:
        reason = f"the picture can't be decoded ({error.strerror}); {_EXTRACT}"
        raise DecodeError(path, reason) from None
    if len(frames) != 1:
        raise DecodeError(path, f"the picture can't be decoded; {_EXTRACT}")
    if is_thorough and codec == "mjpeg" and is_damaged_scan(data[:end]):
        raise DecodeError(path, f"the picture is damaged; {_EXTRACT}")
    return Display(frames[0])(frames[0])


def _size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG or JPEG picture by its header; (0, 0) if it has none."""
    if data[:4] == b"\x89PNG":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    place = 2
    while match := MARKER.search(data, place):
        marker, place = match[0][-1], match.end()
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = data[place + 3 : place + 5], data[place + 5 : place + 7]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        place += int.from_bytes(data[place : place + 2], "big")
    return 0, 0
