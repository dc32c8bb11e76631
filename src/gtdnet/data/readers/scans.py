"""Whether the scan of a JPEG picture ends where its last block does.

A decoder shows what it makes of a damaged scan, for nearly any bits are some picture. But after a
damage it has mostly used up the bits before the last block, or has some left. Neither FFmpeg nor
Pillow tells. libjpeg stops for want of data, though, and what it has not reached stays black:

    scan and some zeros, no end marker      the last row is drawn; else bits were lacking
    scan without its last two bytes         it is not drawn; else bits were left

This takes about as long as two more decodings. Damage that changes no lengths isn't found, nor is
any in a picture of several scans (progressive), of which FFmpeg itself finds more.
"""

from __future__ import annotations

import io
import re
import warnings

# A JPEG marker; after 0xFF, 0 stands for a byte of the picture, D0 to D7 restart its coding.
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")

_AHEAD = bytes(16)  # libjpeg reads up to 8 bytes ahead


def is_damaged_scan(data: bytes) -> bool:
    """Of a JPEG file up to its end marker; False where it can't be known."""
    if not _has_one_scan(data):
        return False
    scan = data[:-2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what else is odd
        if _is_drawn(scan + _AHEAD) is False and _is_drawn(data):
            return True
        return bool(_is_drawn(scan.rstrip(b"\xff\0")[:-2]))  # some fill up with zeros or ones


def _has_one_scan(data: bytes) -> bool:
    """Whether the picture is sequential, with Huffman codes, in one scan: ITU-T T.81, annex B."""
    place, is_sequential = 2, False
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xDA:
            return is_sequential and data.find(b"\xff\xda", place + 2) < 0
        is_sequential |= marker in (0xC0, 0xC1)
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def _is_drawn(data: bytes) -> bool | None:
    """Whether the last row of this part of a picture is drawn, and not black; None: no idea."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            try:
                picture.load()
            except OSError:  # there is no more of it
                picture.tile = []
            width, height = picture.size
            return picture.crop((0, height - 1, width, height)).getbbox() is not None
    except Exception:  # what libjpeg does not know, FFmpeg may
        return None


def end_of_jpeg(data: bytes) -> int:
    """Where the first picture of a file ends, 0 if it is cut off: ITU-T T.81, annex B.

    Cameras put more pictures, films or notes behind it.
    """
    if data.endswith(b"\xff\xd9"):
        return len(data)
    place = 2
    while match := MARKER.search(data, place):
        marker, place = match[0][-1], match.end()
        if marker == 0xD9:
            return place
        place += int.from_bytes(data[place : place + 2], "big")
    return 0
