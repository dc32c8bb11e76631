"""What is meant by the words of a command: a file, a camera, an address, stdin."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from gtdnet.data.readers import check_size
from gtdnet.errors import InputError, check_choice, check_positive
from gtdnet.live.remote import CameraSource, UrlSource
from gtdnet.live.sources import FileSource, RawSource, Source
from gtdnet.places import shown
from gtdnet.text import printable

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
        host, _ = parts.hostname, parts.port  # a port that is none raises
        if not host:
            raise ValueError("no host")
    except ValueError as error:
        raise InputError(
            f"an address ({url.partition('://')[0]}://...) names no host; write it as in "
            f"rtsp://host:554/path, other characters in a password as %40"
        ) from error
    return printable(shown(url))
