"""Whether a picture before this one is gone, by the numbers that H.264 and MPEG-1/2 pictures carry.

A decoder goes on from what it has, without a word, where a container lost a picture whole. Packets
are given in the order of decoding. Other codecs number no pictures (MPEG-4, VP8, VP9), or the
decoder gives nothing until the next keyframe (HEVC).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

_SLICE = 20  # bytes of a slice that hold frame_num
_HEAD = 4096  # bytes of a packet that are looked at; headers come first


class Continuity(Protocol):
    """The numbers of the pictures so far."""

    looks_back: bool  # whether a loss may show one picture later
    is_bidirectional: bool  # the last picture, where that matters

    def lost(self, data: memoryview) -> int:
        """Pictures ago that one was lost: 1 before this packet, 2 before the last; 0 for none.

        Of MPEG-2, "the last" is the last that is not bidirectional.
        """
        ...


def continuity(codec: str, extradata: bytes | None) -> Continuity | None:
    """The one for a codec, if its pictures are numbered."""
    if codec == "h264":
        return H264(extradata or b"")
    return Mpeg2() if codec in ("mpeg1video", "mpeg2video") else None


class H264:
    """``frame_num`` grows by one after each reference picture: ITU-T H.264, 7.4.3."""

    looks_back = is_bidirectional = False

    def __init__(self, extradata: bytes) -> None:
        self._width = 0  # bytes of the length before each unit; 0: start codes instead
        self._bits: int | None = None  # of frame_num
        self._has_planes = False
        self._last: int | None = None  # frame_num of the last reference picture
        units: Iterator[bytes] = iter(())
        if extradata[:1] == b"\1" and len(extradata) > 8:
            self._width = (extradata[4] & 3) + 1
            units = iter([extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")]])
        elif extradata:
            units = _units(extradata)
        for unit in units:
            if unit and unit[0] & 31 == 7:
                self._read_parameters(unit)

    def lost(self, data: memoryview) -> int:
        width = self._width
        if width and (head := bytes(data[width : width + _SLICE])) and head[0] & 31 in (1, 5):
            return self._read_slice(head)
        for unit in self._heads(data):
            kind = unit[0] & 31 if unit else 0
            if kind == 7:
                self._read_parameters(unit)
            elif kind in (1, 5):
                return self._read_slice(unit)
        self._last = None  # nothing is known of this packet
        return 0

    def _read_slice(self, unit: bytes) -> int:
        if self._bits is None:
            return 0
        data = unit[1:_SLICE]
        if b"\0\0\3" in data:
            data = data.replace(b"\0\0\3", b"\0\0")
        left, value = 8 * len(data), int.from_bytes(data, "big")
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id: Exp-Golomb
            left = max(0, left - 2 * (left - value.bit_length()) - 1)
            value &= (1 << left) - 1
        left = max(0, left - self._bits - 2 * self._has_planes)
        number, last = value >> left & ((1 << self._bits) - 1), self._last
        if unit[0] & 0x60 or last is None:  # nal_ref_idc: others refer to it
            self._last = number
        return int(
            unit[0] & 31 != 5
            and last is not None
            and (number - last) % (1 << self._bits) not in (0, 1)
        )

    def _read_parameters(self, unit: bytes) -> None:
        """The sequence parameter set up to what says whether gaps are allowed: 7.3.2.1.1."""
        bits = _Bits(unit[1:_HEAD])
        profile = bits.take(8)
        bits.take(16)
        bits.exp()
        self._has_planes = False
        if profile in (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135):
            chroma = bits.exp()
            self._has_planes = chroma == 3 and bool(bits.take(1))
            bits.exp()
            bits.exp()
            bits.take(1)
            if bits.take(1):  # scaling lists
                for i in range(8 if chroma != 3 else 12):
                    if bits.take(1):
                        _skip_scaling_list(bits, 16 if i < 6 else 64)
        width = bits.exp() + 4
        order = bits.exp()
        if order == 0:
            bits.exp()
        elif order == 1:
            bits.take(1)
            bits.exp()
            bits.exp()
            for _ in range(min(bits.exp(), 255)):
                bits.exp()
        bits.exp()
        has_gaps = bits.take(1)
        self._bits = width if width <= 16 and not has_gaps else None

    def _heads(self, data: memoryview) -> Iterator[bytes]:
        """The beginnings of the units in a packet."""
        if not self._width:
            yield from _units(bytes(data[:_HEAD]))
            return
        place, width = 0, self._width
        while place + width < len(data):
            length = int.from_bytes(data[place : place + width], "big")
            place += width
            yield bytes(data[place : place + min(length, _HEAD)])
            place += length


class Mpeg2:
    """``temporal_reference`` counts the pictures of a group as shown: ISO/IEC 13818-2, 6.3.9."""

    looks_back, is_bidirectional = True, False

    def __init__(self) -> None:
        self._last: int | None = None  # of the last picture that is not bidirectional
        self._before: int | None = None  # and of the one before it
        self._seen: set[int] = set()  # bidirectional ones since

    def lost(self, data: memoryview) -> int:
        head = bytes(data[:_HEAD])
        start = head.find(b"\0\0\1\0")
        if start < 0 or len(head) < start + 6:
            self._last = self._before = None
            return 0
        number = head[start + 4] << 2 | head[start + 5] >> 6
        kind = head[start + 5] >> 3 & 7
        self.is_bidirectional = kind == 3
        if kind == 3:
            self._seen.add(number)
            # It is shown before the last one, else that is gone which it was shown before.
            return int(self._last is not None and 0 < (number - self._last) % 1024 < 512)
        found = 0
        if self._last is not None and self._before is not None:
            between = range(self._before + 1, self._last)
            found = 2 if len(between) < 512 and not self._seen.issuperset(between) else 0
        if 0 <= head.find(b"\0\0\1\xb8") < start:
            self._last = None
        elif number == self._last:  # the second field
            return 0
        self._before, self._last, self._seen = self._last, number, set()
        return found


class _Bits:
    """Bits of a unit, its emulation prevention bytes left out; zeros behind its end."""

    def __init__(self, data: bytes) -> None:
        if b"\0\0\3" in data:
            data = data.replace(b"\0\0\3", b"\0\0")
        self._left = len(data) * 8
        self._value = int.from_bytes(data, "big")

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            return 0
        return self._value >> self._left & ((1 << count) - 1)

    def exp(self) -> int:
        """An Exp-Golomb number."""
        rest = self._value & ((1 << self._left) - 1) if self._left > 0 else 0
        length = 2 * (self._left - rest.bit_length()) + 1
        return self.take(length) - 1 if rest else 0


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            number = bits.exp()
            following = (last + (-(number // 2) if number % 2 == 0 else (number + 1) // 2)) % 256
        last = following or last


def _units(data: bytes) -> Iterator[bytes]:
    """The units between start codes."""
    place = data.find(b"\0\0\1")
    while 0 <= place < len(data) - 3:
        end = data.find(b"\0\0\1", place + 3)
        yield data[place + 3 : end if end >= 0 else len(data)]
        place = end
