"""Whether a file is whole, by what its container says of sizes: its head and its end are read.

A decoder takes a file that was cut off for a shorter one. MP4, Matroska, AVI and ASF state their
size; in others the last unit of the container does not end where the file does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_TAIL = 1 << 18  # bytes in which the last unit is looked for; an Ogg page has 64 KiB at most
_CLUSTER = b"\x1f\x43\xb6\x75"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def stated_size(path: Path, size: int) -> int | None:
    """Bytes that the file should have by its own account, at least; None if nothing is known.

    ``size`` is what it has. Where only the end tells, it is one byte more than that.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF":
            stated = int.from_bytes(head[4:8], "little")
            return stated + 8 if 0 < stated < 0xFFFFFFFF else None
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _matroska(file, head, size)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes(file, head, size)
        if head[:16] == _ASF:
            return _asf(file, head, size)
        for mark, is_cut in _BY_END.items():
            if head.startswith(mark):
                return size + 1 if is_cut(file, size) else None
        file.seek(0)
        if stride := _transport_stride(file.read(1024)):
            return size + 1 if size % stride else None
    return None


def _matroska(file: BinaryIO, head: bytes, size: int) -> int | None:
    """An EBML header, then one Segment; of unknown size in live recordings."""
    length, width = _ebml_size(head[4:12])
    segment = 4 + width + (length or 0)
    if segment > size:
        return segment
    file.seek(segment)
    head = file.read(12)
    if head[:4] != b"\x18\x53\x80\x67":
        return None
    length, width = _ebml_size(head[4:12])
    if length is not None:
        return segment + 4 + width + length
    start, tail = _tail(file, size, 1 << 22)
    place = tail.rfind(_CLUSTER)
    if place < 0:
        return None
    _, width = _ebml_size(tail[place + 4 : place + 12])
    place += 4 + width
    while place < len(tail):  # its children: an id, a size, and so many bytes
        name = 9 - tail[place].bit_length() if tail[place] else 8
        length, width = _ebml_size(tail[place + name : place + name + 8])
        if name > 4 or length is None:
            return None  # that was no cluster, or something of unknown size comes behind it
        place += name + width + length
    return start + place if place > len(tail) else None


def _boxes(file: BinaryIO, head: bytes, size: int) -> int | None:
    """MP4: boxes of a 32-bit size and a type, or of 1, a type and a 64-bit size."""
    start = 0
    while len(head) >= 8:
        box = int.from_bytes(head[:4], "big")
        if box == 1:
            box = int.from_bytes(head[8:16], "big")
        if box < 8:  # 0: up to the end of the file
            return None
        if head[4:8] == b"mdat" and start + box > size:
            return start + box
        start += box
        if start > size:
            return None
        file.seek(start)
        head = file.read(16)
    return None


def _asf(file: BinaryIO, head: bytes, size: int) -> int | None:
    """The size that the file properties state, but those of a broadcast."""
    file.seek(30)
    for _ in range(min(int.from_bytes(head[24:28], "little"), 64)):
        start = file.tell()
        entry = file.read(104)
        length = int.from_bytes(entry[16:24], "little")
        if entry[:16] == _ASF_FILE and len(entry) >= 92:
            is_broadcast = entry[88] & 1
            return None if is_broadcast else int.from_bytes(entry[40:48], "little")
        if length < 24 or start + length > size:
            return None
        file.seek(start + length)
    return None


# ------------------------------------------------------------------------ whether the end is cut


def _gif(file: BinaryIO, size: int) -> bool:
    """Blocks, each of sub-blocks of up to 255 bytes that end with an empty one: GIF89a."""

    def table(flags: int) -> int:  # bytes of a table of colours
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    def skip_blocks() -> bool:
        while length := file.read(1):
            if length == b"\0":
                return True
            file.seek(length[0], 1)
        return False

    file.seek(10)
    file.seek(13 + table((file.read(1) or b"\0")[0]))
    while kind := file.read(1):
        if kind == b"\x3b":
            return False
        if kind == b"\x21":
            file.seek(1, 1)
        elif kind == b"\x2c":
            about = file.read(9)
            if len(about) < 9:
                return True
            file.seek(table(about[8]) + 1, 1)
        else:
            return False  # nothing that is known; what comes behind is no end
        if not skip_blocks():
            return True
    return file.tell() > size  # a whole block was the last: some write no trailer


def _flv(file: BinaryIO, size: int) -> bool:
    """Behind each tag comes its size."""
    _, tail = _tail(file, size, 4)
    length = int.from_bytes(tail, "big")
    if length == 0 or length + 4 > size:
        return True
    file.seek(size - 4 - length)
    tag = file.read(4)
    return tag[0] & 0x1F not in (8, 9, 18) or int.from_bytes(tag[1:], "big") + 11 != length


def _ogg(file: BinaryIO, size: int) -> bool:
    """The last page ends a stream, and ends where the file does: RFC 3533."""
    _, tail = _tail(file, size)
    place = tail.rfind(b"OggS")
    page = tail[max(0, place) :]
    if place < 0 or len(page) < 27:
        return True
    segments = page[27 : 27 + page[26]]
    return not page[5] & 4 or len(page) < 27 + page[26] + sum(segments)


def _program_stream(file: BinaryIO, size: int) -> bool:
    """Whether the last packet is longer than the file."""
    _, tail = _tail(file, size)
    place = len(tail)
    while (place := tail.rfind(b"\0\0\1", 0, place)) >= 0:
        kind = tail[place + 3] if place + 3 < len(tail) else 0xBA
        if kind == 0xB9:  # the end
            return False
        if kind in (0xBA, 0xBB):  # heads, behind which a packet comes
            return True
        if kind > 0xBB:  # a packet; what is lower is part of a picture
            length = int.from_bytes(tail[place + 4 : place + 6], "big")
            return place + 6 + length > len(tail)
    return False


_BY_END: dict[bytes, Callable[[BinaryIO, int], bool]] = {
    b"GIF8": _gif,
    b"FLV\1": _flv,
    b"OggS": _ogg,
    b"\0\0\1\xba": _program_stream,
}


def _transport_stride(data: bytes) -> int | None:
    """Bytes of a packet of MPEG-TS: 188, or 192 with a time before each; None if it is none."""
    for stride, first in ((188, 0), (192, 4)):
        places = range(first, len(data), stride)
        if len(places) > 3 and all(data[place] == 0x47 for place in places):
            return stride
    return None


def _tail(file: BinaryIO, size: int, most: int = _TAIL) -> tuple[int, bytes]:
    start = max(0, size - most)
    file.seek(start)
    return start, file.read(size - start)


def _ebml_size(data: bytes) -> tuple[int | None, int]:
    """A variable-length size and the bytes it took; None for an unknown size (live recordings)."""
    width = 9 - data[0].bit_length() if data and data[0] else 8
    value = int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), width
