"""A video file: packets are counted, then decoded from the start, with one thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from gtdnet.data.readers import FewerFrames, Stored, VideoInfo, check_size
from gtdnet.data.readers.damage import VP8, Pictures, is_shown
from gtdnet.data.readers.display import Display
from gtdnet.data.readers.stills import STRICT, Stills
from gtdnet.data.readers.whole import stated_size
from gtdnet.errors import DecodeError

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"}
    | {".ts", ".mts", ".m2ts", ".m2t", ".ogv", ".gif", ".asf", ".3g2", ".f4v"}
)

# FFmpeg's names of the containers that are read: those that hold their pictures themselves. Others
# name files for it to open (ffconcat, HLS, DASH, image2), or are drawn (text, subtitles, SVG).
CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,gif,"  # of VIDEO_SUFFIXES
    "mxf,nut,dv,rm,ivf,h264,hevc,vvc,m4v,obu,av1,dirac,yuv4mpegpipe,wtv,nsv,swf,apng"
)

# Codecs whose damaged pictures hold what lay in memory, and FFmpeg says nothing of it.
_UNSETTLED = {"cfhd": "CineForm", "flashsv": "Flash Screen Video", "flashsv2": "Flash Screen Video"}

_MAX_KEPT = 1 << 24  # bytes of a file whose packets are kept between counting and decoding

_REPLACE = "re-encode or replace the file"


class VideoReader:
    """The best video stream of a file. ``status`` is what the system says of the path."""

    def __init__(self, path: Path, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
            raise DecodeError(path, "it is neither a file nor a folder; give a video file")
        if status.st_size == 0:
            raise DecodeError(path, "the file is empty (0 bytes); download or encode it again")
        if not os.access(path, os.R_OK):
            raise DecodeError(path, "there is no permission to read it; change its permissions")
        self._path, self._size = path, status.st_size
        self._counted: int | None = None
        self._ticks: list[int | None] = []  # timestamps of the packets that give a picture
        self._last = 0.0  # how long the last of them is shown, in ticks
        self._tick: float | None = None  # seconds
        self._is_sure = False  # whether all has been decoded to count it
        self._kept: _Packets | None = None  # read by `count`, for `frames`
        self._show: Display | None = None

    def count(self) -> int:
        """The number of packets that give a picture.

        The few files with packets that give none after all hold fewer frames, which shows when
        they are decoded.
        """
        packets = _Packets(self._path, self._size, keep=self._size <= _MAX_KEPT)
        ticks: list[int | None] = []
        last: Packet | None = None
        try:
            is_vp8 = packets.stream.codec_context.codec.name in VP8
            for packet in packets:
                if is_shown(packet, is_vp8):
                    ticks.append(packet.pts)
                    last = packet
        except av.error.FFmpegError as error:
            reason = f"reading failed after {len(ticks)} frames ({error.strerror})"
            raise DecodeError(self._path, f"{reason}; {_REPLACE}") from None
        packets.check_whole()
        if last is None:
            raise DecodeError(self._path, f"its video stream holds no frames; {_REPLACE}")
        base = packets.stream.time_base
        self._ticks, self._last = ticks, last.duration or 0
        self._tick = float(base) if base else None
        self._counted, self._kept = len(ticks), packets if packets.kept else None
        return len(ticks)

    def times(self) -> np.ndarray | None:
        """Of the timestamps of the packets."""
        if self._counted is None:
            self.count()
        if not self._tick or None in self._ticks:
            return None
        shown_at = np.sort(np.array(self._ticks, np.float64))
        step = max([self._last, *np.diff(shown_at[-2:])])
        return (np.append(shown_at, shown_at[-1] + step) - shown_at[0]) * self._tick

    def info(self) -> VideoInfo:
        num_frames = self.count()
        _, rgb = next(self.frames(np.zeros(1, np.int64)))
        with closing(_Packets(self._path, self._size)) as packets:
            container, stream = packets.container, packets.stream
            rate = stream.average_rate or stream.guessed_rate
            if stream.duration and stream.time_base:
                duration = float(stream.duration * stream.time_base)
            else:
                duration = container.duration / av.time_base if container.duration else None
            fps, codec = float(rate) if rate else None, stream.codec_context.codec.name
            own = stream.codec_context
            covers = [
                s for s in container.streams.video if s.disposition & Disposition.attached_pic
            ]
            stored = Stored(
                container.format.name,
                getattr(own.codec, "canonical_name", codec),  # of newer PyAVs
                own.height,
                own.width,
                *(self._show.turn if self._show else (0, False)),
                streams=len(container.streams.video) - len(covers),
            )
            return VideoInfo(num_frames, rgb.shape[0], rgb.shape[1], fps, duration, codec, stored)

    def frames(
        self, wanted: np.ndarray | None = None, broken: dict[int, str] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        last = int(wanted[-1]) if wanted is not None else None
        pending = set(wanted.tolist()) if wanted is not None else None
        show: Display | None = None
        seen = 0
        # What `count` read is decoded once: a decoder does not begin anew.
        packets, self._kept = self._kept or _Packets(self._path, self._size), None
        with closing(packets):
            stream = packets.stream
            pictures: Stills | Pictures
            if stream.codec_context.codec.name in STRICT:
                pictures = Stills(packets, stream, is_thorough=broken is not None)
            else:
                pictures = Pictures(packets, stream, None if self._is_sure else last)
            try:
                for index, frame, is_damaged in pictures:
                    seen = index + 1
                    if frame is not None and show is None:
                        check_size(self._path, frame.width, frame.height)
                        show = self._show = Display(frame, stream.sample_aspect_ratio)
                    if pending is None or index in pending:
                        if frame is not None and show and not is_damaged:
                            yield index, show(frame)
                        else:
                            reason = f"frame {index} is damaged; {_REPLACE}"
                            if broken is None:
                                raise DecodeError(self._path, reason)
                            broken[index] = reason
                    if index == last and (self._is_sure or not pictures.is_short):
                        return
            except av.error.FFmpegError as error:
                if last is not None and seen > last:
                    return
                packets.check_whole()
                of = f" of {self._counted}" if self._counted else ""
                reason = f"decoding failed after {seen}{of} frames ({error.strerror})"
                raise DecodeError(self._path, f"{reason}; {_REPLACE}") from None
            packets.check_whole()
        if seen == 0:
            raise DecodeError(self._path, f"none of its frames can be decoded; {_REPLACE}")
        if last is not None and (seen <= last or seen != self._counted):
            self._counted, self._is_sure = seen, True
            raise FewerFrames(seen)


def _open(path: Path) -> tuple[InputContainer, VideoStream]:
    """The container and its best video stream, set to decode with one thread."""
    try:
        # As a file: URL, a name such as "http:a.mp4" isn't taken for a protocol.
        container = av.open(
            f"file:{path}",
            options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS},
            metadata_errors="replace",  # titles are in any encoding
        )
    except av.error.FFmpegError as error:
        # So says FFmpeg of a container that is not in the list.
        is_other = isinstance(error, av.error.ArgumentError)
        if is_other and (kind := _picture(path)):
            raise DecodeError(
                path,
                f"it is a picture ({kind}), not a video; give a video, or a folder of its frames",
            ) from None
        why = "no container of those that are read" if is_other else error.strerror
        raise DecodeError(path, f"it is not a readable video ({why}); {_REPLACE}") from None
    stream = container.streams.best("video")
    # FFmpeg takes the cover of a song for a video.
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise DecodeError(path, "it holds no video stream; give a video file")
    if getattr(stream, "codec_context", None) is None:
        raise DecodeError(path, f"its video codec is not supported; {_REPLACE}")
    if name := _UNSETTLED.get(stream.codec_context.codec.name):
        reason = f"{name} is not read, for damage in it shows as whatever lay in memory"
        raise DecodeError(path, f"{reason}; re-encode the file, with H.264 for example")
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "NONE"
    return container, stream


_PICTURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}


def _picture(path: Path) -> str | None:
    """What kind of still picture a file is, by its first bytes; None if it is none."""
    try:
        with path.open("rb") as file:
            begin = file.read(12)
    except OSError:
        return None
    if begin[:4] == b"RIFF" and begin[8:] == b"WEBP":
        return "WebP"
    return next((kind for sign, kind in _PICTURES.items() if begin.startswith(sign)), None)


class _Packets:
    """The packets of a file's best video stream; knows after them whether the file was whole.

    Those of a small file are kept, so that it is opened and read once to count and to decode.
    """

    def __init__(self, path: Path, size: int, keep: bool = False) -> None:
        self.container, self.stream = _open(path)
        self.kept: list[Packet] = []
        self._path, self._size, self._keeps = path, size, keep
        self._total = 0
        self._last_is_cut = self._is_whole = False

    def close(self) -> None:
        self.kept.clear()
        self.container.close()

    def __iter__(self) -> Iterator[Packet]:
        return iter(self.kept) if self.kept else self._read()

    def _read(self) -> Iterator[Packet]:
        for packet in self.container.demux(self.stream):
            # AVI marks a dropped frame by an empty packet, which a decoder would take for the end.
            if packet.size:
                self._total += 1
                self._last_is_cut = packet.is_corrupt
                if self._keeps:
                    self.kept.append(packet)
                yield packet

    def check_whole(self) -> None:
        """Raise `DecodeError` if the file breaks off before the end its header states."""
        if self._is_whole:
            return
        stated = stated_size(self._path, self._size)
        whole, listed = self._total - self._last_is_cut, self.stream.frames
        if self.container.format.name == "gif":
            listed = 0  # FFmpeg has counted what is there
        is_short = stated is not None and stated > self._size and (not listed or whole < listed)
        if self._last_is_cut or is_short or (listed and not whole):
            of = f" of {listed}" if listed else ""
            reason = f"the file is cut off after {whole}{of} frames"
            raise DecodeError(self._path, f"{reason}; download it again, or {_REPLACE}")
        self._is_whole = True
