"""Cameras and addresses, by FFmpeg: what may be opened is a list."""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from gtdnet.data.readers import check_size
from gtdnet.data.readers.damage import Pictures
from gtdnet.data.readers.display import Display
from gtdnet.data.readers.stills import STRICT, Stills
from gtdnet.data.readers.video import CONTAINERS
from gtdnet.errors import DecodeError
from gtdnet.live.clock import Pace
from gtdnet.live.sources import Patience, Shot, Source

# What a playlist, a redirection or a session may lead to. No "file", no "data", no "concat".
_RTSP = {"protocol_whitelist": "rtsp,rtp,tcp,tls", "format_whitelist": "rtsp"}
_HTTP = {
    "protocol_whitelist": "http,https,httpproxy,tcp,tls,crypto",
    # Audio on its own belongs to some playlists.
    "format_whitelist": f"{CONTAINERS},hls,mpjpeg,aac,mp3,ac3,eac3",
}
_PROTOCOLS: dict[str, dict[str, str]] = {
    "rtsp": _RTSP | {"rtsp_transport": "tcp"},  # lost packets of UDP would be damaged pictures
    "rtsps": _RTSP | {"rtsp_transport": "tcp"},
    "http": _HTTP,
    "https": _HTTP,
}


@dataclass(frozen=True)
class RemoteSource(Source):
    """What FFmpeg opens, and what ends only when it is lost."""

    @property
    def is_live(self) -> bool:
        return True

    def connect(self, timeout: float) -> InputContainer:
        raise NotImplementedError

    def is_paced(self, container: InputContainer) -> bool:
        """Whether it may come faster than it is to be shown."""
        return False

    def has_times(self, container: InputContainer) -> bool:
        return True

    def shots(self, stop: threading.Event, patience: Patience) -> Iterator[Shot | None]:
        silence, began = patience.silence, time.monotonic()
        try:
            container = self.connect(silence)
        except av.error.FFmpegError as error:
            # RTSP calls an answer that our timeout has cut off invalid data.
            is_silent = time.monotonic() - began >= silence
            why = f"nothing came for {silence:g} s" if is_silent else _why(error, silence)
            raise DecodeError(self.name, f"it cannot be opened ({why})") from None
        with container:
            stream = _video(container, self.name)
            # A jump that is waited for would be taken for silence.
            jump = min(patience.gap, patience.silence)
            pace = Pace(jump) if self.is_paced(container) else None
            has_times = self.has_times(container)
            decoding = _Decoding(container, stream)
            for frame, took in decoding:
                if stop.is_set():
                    return
                timestamp = frame.time if frame is not None and has_times else None
                if pace:
                    pace.wait(timestamp, stop)
                yield frame and decoding.shot(frame, timestamp, took, self.name)
            if decoding.error:
                reason = f"it broke off ({_why(decoding.error, silence)})"
                raise DecodeError(self.name, reason)


@dataclass(frozen=True)
class UrlSource(RemoteSource):
    """An RTSP, HTTP or HLS address."""

    url: str = field(default="", repr=False)  # it may hold a password

    def connect(self, timeout: float) -> InputContainer:
        scheme, colon, rest = self.url.partition("://")
        options = dict(_PROTOCOLS[scheme.lower()])
        return av.open(
            f"{scheme.lower()}{colon}{rest}",
            options=options,
            timeout=(timeout, timeout),
            metadata_errors="replace",
        )

    def is_paced(self, container: InputContainer) -> bool:
        # A server sends a file, or a piece of a playlist, as fast as it can.
        return self.url.lower().startswith("http") and self.has_times(container)

    def has_times(self, container: InputContainer) -> bool:
        return container.format.name != "mpjpeg"  # FFmpeg makes them up, at 25 frames per second


@dataclass(frozen=True)
class CameraSource(RemoteSource):
    """A camera of this machine, by Video4Linux."""

    device: str = ""
    size: tuple[int, int] | None = None  # (W, H)
    rate: float | None = None

    def connect(self, timeout: float) -> InputContainer:
        if sys.platform != "linux":
            raise DecodeError(
                self.name,
                "cameras are read on Linux alone; elsewhere let FFmpeg write raw frames to stdin "
                "(gtdnet watch MODEL -)",
            )
        options = {}
        if self.size:
            options["video_size"] = f"{self.size[0]}x{self.size[1]}"
        if self.rate:
            options["framerate"] = f"{self.rate:g}"
        return av.open(self.device, format="v4l2", options=options, timeout=(timeout, timeout))


def _why(error: av.error.FFmpegError, silence: float) -> str:
    if isinstance(error, av.error.ExitError):  # our own timeout
        return f"nothing came for {silence:g} s"
    if error.errno == errno.EIO:  # so FFmpeg calls an end of HTTP that nothing announced
        return "the connection ended"
    if isinstance(error, av.error.ArgumentError):
        return "it is nothing that may be opened"
    return error.strerror or type(error).__name__


def _video(container: InputContainer, name: str) -> VideoStream:
    """The best video stream, decoded with one thread; nothing else is fetched."""
    best = container.streams.best("video")
    if not isinstance(best, VideoStream) or getattr(best, "codec_context", None) is None:
        raise DecodeError(name, "it holds no video that can be decoded")
    for stream in container.streams:
        if stream.index != best.index:
            with suppress(AttributeError):  # of older PyAVs
                other: Any = stream
                other.discard = 48  # AVDISCARD_ALL: else all qualities of a playlist are loaded
    check_size(name, best.codec_context.width, best.codec_context.height)
    best.codec_context.thread_count = 1
    best.codec_context.thread_type = "NONE"
    return best


class _Decoding:
    """The frames of a stream (None for damaged ones), each with the seconds its decoding took.

    ``error`` is what broke it off, if it did not end.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        self._waited = 0.0
        self._is_over = False
        self._show: Display | None = None
        self._size: tuple[int, int] | None = None
        self.error: av.error.FFmpegError | None = None

    def __iter__(self) -> Iterator[tuple[VideoFrame | None, float]]:
        make: Callable[..., Stills | Pictures] = (
            Stills if self._stream.codec_context.codec.name in STRICT else Pictures
        )
        packets = self._packets()
        while not self._is_over:
            pictures = iter(make(packets, self._stream))
            while True:
                start, waited = time.perf_counter(), self._waited
                try:
                    found = next(pictures, None)
                except av.error.FFmpegError:
                    found = (0, None, True)  # of a packet; the decoder goes on with the next
                    pictures = iter(())
                if found is None:
                    break
                _, frame, is_damaged = found
                took = time.perf_counter() - start - (self._waited - waited)
                yield (None if is_damaged else frame), took

    def _packets(self) -> Iterator[Packet]:
        packets = self._container.demux(self._stream)
        while True:
            start = time.perf_counter()
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self.error, packet = error, None
            self._waited += time.perf_counter() - start
            if packet is None:
                self._is_over = True
                return
            if packet.size:
                yield packet

    def shot(self, frame: VideoFrame, timestamp: float | None, took: float, name: str) -> Shot:
        size = (frame.height, frame.width)
        if self._show is None or size != self._size:
            check_size(name, frame.width, frame.height)
            self._show, self._size = Display(frame, self._stream.sample_aspect_ratio), size
        show = self._show
        return Shot(timestamp, size, took, lambda: show(frame))
