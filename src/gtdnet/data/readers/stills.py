"""Codecs whose pictures stand alone, and whose decoder can refuse a damaged one.

By itself FFmpeg shows what it can make of one: a smeared rest, or what lay in memory. The options
here make its decoders of JPEG, JPEG-LS and PNG raise an error, which costs one picture: no other
refers to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import av.error
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from gtdnet.data.readers.damage import Picture
from gtdnet.data.readers.scans import end_of_jpeg, is_damaged_scan

STRICT = ("mjpeg", "mjpegb", "amv", "jpegls", "png")
"""FFmpeg's names of the decoders; mjpeg has lossless JPEG too."""

_OPTIONS = {"err_detect": "crccheck+bitstream+buffer+explode"}


def strict_decoder(codec: str) -> VideoCodecContext:
    """A decoder of single pictures that refuses a damaged one."""
    decoder: Any = VideoCodecContext.create(codec, "r")
    decoder.thread_count = 1
    decoder.options = _OPTIONS
    return decoder


class Stills:
    """The pictures of a stream of such a codec, as :class:`gtdnet.data.readers.damage.Pictures`.

    ``is_thorough`` looks for damage in the scans of JPEG, too.
    """

    def __init__(
        self, packets: Iterable[Packet], stream: VideoStream, is_thorough: bool = False
    ) -> None:
        self._packets, self._decoder = packets, stream.codec_context
        self._decoder.options = _OPTIONS
        self._is_thorough = is_thorough and self._decoder.codec.name == "mjpeg"
        self.is_short = False  # whether some packets so far gave no picture

    def __iter__(self) -> Iterator[Picture]:
        count = 0
        for packet in chain(self._packets, [None]):
            try:
                frames: Sequence[VideoFrame | None] = self._decoder.decode(packet)
            except av.error.FFmpegError:
                if packet is None or packet.is_corrupt:  # the file is cut off within it
                    raise
                self._decoder = _renewed(self._decoder)
                frames = [None]
            if packet is not None and packet.is_discard:
                continue
            self.is_short |= packet is not None and not frames
            for frame in frames:
                yield count, frame, frame is None or self._is_damaged(packet, frame)
                count += 1

    def _is_damaged(self, packet: Packet | None, frame: VideoFrame) -> bool:
        if frame.is_corrupt or (packet is not None and packet.is_corrupt):
            return True
        if packet is None or not self._is_thorough:
            return False
        data = bytes(packet)
        return is_damaged_scan(data[: end_of_jpeg(data)])


def _renewed(decoder: VideoCodecContext) -> VideoCodecContext:
    """Another one, for this may wait for the second field of a picture that was damaged."""
    new: Any = strict_decoder(decoder.codec.name)
    for name in ("codec_tag", "extradata", "width", "height", "field_order"):
        if value := getattr(decoder, name):
            setattr(new, name, value)
    return new
