"""Which decoded pictures are to be trusted.

A picture is coded as its difference to others, so what is lost spreads: after a loss every picture
is damaged until the next keyframe, though the decoder marks only the first, or none. In the order
of decoding the loss shows as a damaged packet (MPEG-TS counts its packets), as a picture that the
decoder had to conceal, or as pictures that never come out. Bidirectional pictures are shown before
a later one that they need:

    decoded    I0 P3 B1 B2 P6 B4 B5 I9 B7 B8        P6 is lost or damaged
    shown      I0 B1 B2 P3 B4 B5 P6 B7 B8 I9
    damaged                 -- -- -- -- --
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import chain

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from gtdnet.data.readers.continuity import continuity

# One packet, one picture: one that does not come out was dropped for what it refers to.
_ONE_EACH = ("hevc", "vvc")

_MAX_LOSSES = (
    8  # that are kept until the next keyframe; one is enough, but for those just before it
)


Picture = tuple[int, VideoFrame | None, bool]
"""Index; the frame, or None where nothing came out; whether it is damaged."""


VP8 = ("vp8", "libvpx")


def is_shown(packet: Packet, is_vp8: bool) -> bool:
    """Whether a packet gives a picture: edit lists and VP8 mark some that give none."""
    return not packet.is_discard and (not is_vp8 or bool(memoryview(packet)[0] & 0x10))  # pyright: ignore[reportArgumentType]


class Pictures:
    """The pictures of a stream in the order shown, with what is damaged marked.

    ``last`` is the index of the last that matters, if not all do.
    """

    def __init__(
        self, packets: Iterable[Packet], stream: VideoStream, last: int | None = None
    ) -> None:
        self._packets, self._codec, self._last = packets, stream.codec_context, last
        self._drops_lost = self._codec.name in _ONE_EACH
        self._waiting: list[int] = []  # a heap: times of packets whose pictures have not come yet
        # Of each loss, the times of pictures still to come that were decoded before it.
        self._losses: list[set[int]] = []
        self._numbers = continuity(self._codec.name, self._codec.extradata)
        self._earlier: set[int] = set()  # what waited before the last that is not bidirectional
        self._fed = self._count = 0
        self._has_skipped = self._is_over = False
        self._has_order = True  # whether timestamps tell the order in which pictures are shown

    def __iter__(self) -> Iterator[Picture]:
        # This runs for every frame of every clip: all that can wait is left to other functions.
        held: list[Picture] = []  # bidirectional ones, until the one that they need has come
        codec, numbers, waiting = self._codec, self._numbers, self._waiting
        push, pop, decode = heapq.heappush, heapq.heappop, codec.decode
        is_vp8 = codec.codec.name in VP8
        try:
            for packet in chain(self._packets, [None]):
                if self._last is not None and self._count > self._last and not self.is_short:
                    packet, self._is_over = None, True  # what the last needs has been decoded
                if packet is not None:
                    if numbers is not None and (lost := numbers.lost(memoryview(packet))):  # pyright: ignore[reportArgumentType]
                        self._lose(set(waiting) if lost == 1 else self._earlier)
                    if numbers is not None and numbers.looks_back and not numbers.is_bidirectional:
                        self._earlier = set(waiting)
                    if is_shown(packet, is_vp8):
                        self._fed += 1
                        if self._has_order and (pts := packet.pts) is not None:
                            push(waiting, pts)
                    if packet.is_corrupt:
                        self._lose(set(waiting))
                for frame in decode(packet):
                    if waiting and waiting[0] == (pts := frame.pts):
                        pop(waiting)
                    elif self._has_order and not self._is_over:
                        yield from self._missing(frame)
                    is_damaged = (frame.is_corrupt or self._losses) and self._is_damaged(frame)
                    picture = (self._count, frame, bool(is_damaged))
                    self._count += 1
                    if frame.pict_type == 3:  # bidirectional
                        held.append(picture)
                        continue
                    if held:
                        # They may refer to each other, and do to this one.
                        is_corrupt = frame.is_corrupt or any(f and f.is_corrupt for _, f, _ in held)
                        for index, before, was_damaged in held:
                            yield index, before, was_damaged or is_corrupt
                        held.clear()
                    yield picture
                if self._is_over:
                    break
        except av.error.FFmpegError:
            yield from held
            raise
        yield from held
        if waiting and not self._is_over:
            yield from self._missing(None)

    def _lose(self, sound: set[int]) -> None:
        if len(self._losses) < _MAX_LOSSES:
            self._losses.append(sound)

    @property
    def is_short(self) -> bool:
        """Whether some packets so far gave no picture."""
        if self._is_over:
            return False
        ahead = self._fed - self._count
        return self._has_skipped or ahead > self._codec.reorder_depth + 1

    def _missing(self, frame: VideoFrame | None) -> Iterator[Picture]:
        """What should have come before this picture, or before the end of the stream."""
        waiting, skipped = self._waiting, 0
        if frame is None:
            skipped = len(waiting)
        elif frame.pts is not None:
            time = None
            while waiting and waiting[0] <= frame.pts:
                time = heapq.heappop(waiting)
                skipped += time < frame.pts
            if time != frame.pts:  # as of B-frames packed into others (MPEG-4 in AVI)
                self._has_order = self._has_skipped = False
                waiting.clear()
                return
        if not skipped:
            return
        if self._drops_lost and self._count and (frame is None or frame.key_frame):
            for _ in range(skipped):
                yield self._count, None, True
                self._count += 1
        else:
            self._has_skipped = True

    def _is_damaged(self, frame: VideoFrame) -> bool:
        if frame.is_corrupt:
            self._lose(set())
            return True
        if frame.key_frame:  # one decoded after a loss ends it
            self._losses = [sound for sound in self._losses if frame.pts in sound]
        return any(frame.pts not in sound for sound in self._losses)
