"""Packed datasets elsewhere, by URL: what is read of their files, in which requests.

SHA256SUMS and pack.json are fetched once by a process and those that it forks, the manifest of a
shard once by all that share the cache, its directory in blocks. The pictures of a clip that are
wanted come in one request if they lie near one another. All of it goes through the cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from gtdnet.data.pack.cache import open_cache
from gtdnet.errors import InputError
from gtdnet.places import FetchError, Result, is_url, local, read_file, read_range, shown, size_of

INDEX, SUMS = "pack.json", "SHA256SUMS"
NEAR = 256 * 1024
"""Bytes between two pictures up to which one request fetches both: with 100 Mbit/s they take as
long as another request does that is answered after 20 ms."""
BLOCK = 256 * 1024
"""Bytes of a directory that are fetched at once: the records of some 3000 pictures."""
MOST = 8 << 20
"""Bytes that one request fetches, but for a picture that is larger."""
TAIL = 256
"""Bytes at a shard's end that hold the end of its directory, and say where its manifest is."""
_ALSO = "memory"  # fsspec's store of one process: fine to read from
_ASKED_AT_ONCE = 16

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CLIP = re.compile(r"(?P<pack>.+?)/(?P<shard>clips-\d{5,}\.zip)(?:/(?P<name>.+))?")


def is_remote(path: object) -> bool:
    """Whether a path is the URL of another place."""
    return is_url(str(path)) and local(str(path)) is None


def split_url(path: str) -> tuple[str, str, str] | None:
    """Pack, shard and name of the clip that a URL names; None if it leads into no shard."""
    match = _CLIP.fullmatch(path)
    return (match["pack"], match["shard"], match["name"] or "") if match else None


@dataclass(frozen=True)
class RemoteShard:
    """A shard elsewhere: where, its size in bytes and its SHA-256."""

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def __str__(self) -> str:
        return self.url

    def open(self, group: str, directory: tuple[int, int] | None = None) -> RangeFile:
        """To read it; what is fetched is kept in the group. ``directory``: its place and size."""
        return RangeFile(self, group, directory)


class RangeFile(io.RawIOBase):
    """A shard elsewhere as a file: `expect` says what will be read; each part comes when asked.

    Raises:
        FetchError, InputError: by `read` and `expect`; a part cannot be had.
    """

    def __init__(
        self, shard: RemoteShard, group: str, directory: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self._shard, self._group, self._directory = shard, group, directory
        self._cache = open_cache()
        self._at = 0
        self._have: dict[tuple[int, int], bytes] = {}
        self._forgotten = False

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence:
            raise io.UnsupportedOperation("seek from elsewhere than the beginning")
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        start = min(self._at, self._shard.size)
        end = self._shard.size if size < 0 else min(start + size, self._shard.size)
        if end <= start:
            return b""
        begin, extent = self._directory or (self._shard.size, 0)
        if begin <= start and end <= begin + extent:
            data = self._records(start - begin, end - begin)
        else:
            data = self._part(start, end)
        self._at = end
        return data

    def expect(self, extents: Iterable[tuple[int, int]]) -> None:
        """Fetch these parts, each from a start to an end, in as few requests as make sense."""
        wanted = sorted((s, min(e, self._shard.size)) for s, e in extents if s < self._shard.size)
        kept = self._cache.parts(self._shard.sha256, self._group)
        missing: list[tuple[int, int]] = []
        for start, end in wanted:
            if self._held(start, end) is not None:
                continue
            for part in kept:
                if part.start <= start and end <= part.end and (data := self._cache.read(part)):
                    self._have[part.start, part.end] = data
                    break
            else:
                missing.append((start, end))
        for start, end in joined(missing):
            self._fetch(start, end)

    def forget(self) -> bool:
        """Drop what was fetched or kept, for it is damaged; whether that makes sense: once."""
        if self._forgotten:
            return False
        self._forgotten = True
        self._have.clear()
        for group in (self._group, "directory"):
            self._cache.drop(self._shard.sha256, group)
        return True

    def _held(self, start: int, end: int) -> bytes | None:
        for (first, last), data in self._have.items():
            if first <= start and end <= last:
                return data[start - first : end - first]
        return None

    def _part(self, start: int, end: int) -> bytes:
        if (data := self._held(start, end)) is None:
            self.expect([(start, end)])
            data = self._held(start, end)
        assert data is not None
        return data

    def _fetch(self, start: int, end: int, group: str = "") -> None:
        shard = self._shard
        data = _asked(shard.url, lambda url: read_range(url, start, end, _ALSO))
        self._have[start, end] = data
        self._cache.write(shard.sha256, group or self._group, start, data)

    def _records(self, start: int, end: int) -> bytes:
        """Bytes of the directory, from the blocks that hold them."""
        begin, extent = self._directory or (0, 0)
        first, last = start // BLOCK, (end - 1) // BLOCK
        found = []
        for number in range(first, last + 1):
            block = begin + number * BLOCK, begin + min((number + 1) * BLOCK, extent)
            if (data := self._held(*block)) is None:
                kept = self._cache.parts(self._shard.sha256, "directory")
                part = next((p for p in kept if (p.start, p.end) == block), None)
                if part and (data := self._cache.read(part)):
                    self._have[block] = data
                else:
                    self._fetch(*block, group="directory")
                    data = self._have[block]
            found.append(data)
        return b"".join(found)[start - first * BLOCK : end - first * BLOCK]


def joined(extents: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Extents in order of their starts, made one where little lies between: what is asked for."""
    asked: list[tuple[int, int]] = []
    for start, end in extents:
        if asked and start - asked[-1][1] <= NEAR and end - asked[-1][0] <= MOST:
            asked[-1] = asked[-1][0], max(end, asked[-1][1])
        else:
            asked.append((start, end))
    return asked


@dataclass(frozen=True)
class RemotePack:
    """A packed dataset elsewhere: its index as bytes, and its shards by name."""

    url: str
    index: bytes
    shards: dict[str, RemoteShard]


_packs: dict[str, RemotePack] = {}  # of this process, and of those that it forks
_checked: set[str] = set()  # their URLs


def remote_pack(url: str) -> RemotePack:
    """The packed dataset at a URL, its index fetched if this process does not have it.

    Raises:
        FetchError: its place does not answer.
        InputError: there is none, or it is not as it was written; or the URL lets people in.
    """
    url = url.rstrip("/")
    if url not in _packs:
        _packs[url] = _fetch_pack(url)
    return _packs[url]


def sums_of(text: str) -> dict[str, str]:
    """SHA-256 by name of file, of what SHA256SUMS says."""
    lines = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in lines}


def check_sizes(pack: RemotePack) -> None:
    """See, once, that every shard is there in its full length: a request for each.

    Raises:
        FetchError, InputError: one is not there, or has another size.
    """
    if pack.url in _checked:
        return
    shards = list(pack.shards.values())
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        sizes = list(pool.map(lambda s: _asked(s.url, lambda url: size_of(url, _ALSO)), shards))
    for shard, size in zip(shards, sizes, strict=True):
        if size not in (None, shard.size):
            raise InputError(f"{shard.url} has {size} bytes instead of {shard.size}; {_AGAIN}")
    _checked.add(pack.url)


_AGAIN = "copy the whole packed folder there again"


def _fetch_pack(url: str) -> RemotePack:
    _check_url(url)
    cache = open_cache()
    try:
        sums = sums_of(_asked(f"{url}/{SUMS}", lambda place: read_file(place, _ALSO)).decode())
    except FetchError:
        raise
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(
            f"{url} is no packed dataset ({error}); give the folder that gtdnet pack wrote, with "
            f"all its files"
        ) from error
    place, digest = f"{url}/{INDEX}", sums.get(INDEX, "")
    parts = cache.parts(digest, "index") if _DIGEST.fullmatch(digest) else []
    index = cache.read(parts[0]) if parts else None
    if index is None or hashlib.sha256(index).hexdigest() != digest:
        # One byte first: a place that gives no parts would send whole shards for each clip.
        _asked(place, lambda it: read_range(it, 0, 1, _ALSO))
        index = _asked(place, lambda it: read_file(it, _ALSO))
        if hashlib.sha256(index).hexdigest() != digest:
            raise InputError(f"{place} is not what {SUMS} beside it says; {_AGAIN}")
        cache.write(digest, "index", 0, index)
    try:
        listed = [(shard["name"], shard["bytes"]) for shard in json.loads(index)["shards"]]
        shards = {name: RemoteShard(f"{url}/{name}", int(n), sums[name]) for name, n in listed}
        if not all(_DIGEST.fullmatch(shard.sha256) for shard in shards.values()):
            raise ValueError  # it names folders of the cache
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"the index {place} is damaged; {_AGAIN}") from error
    return RemotePack(url, index, shards)


def _check_url(url: str) -> None:
    """Refuse a URL that lets people in: it would stand in files of runs, and in messages."""
    try:
        parts = urlsplit(url)
        is_plain = "@" not in parts.netloc and not parts.query and not parts.fragment
    except ValueError:
        is_plain = False
    if not is_plain:
        raise InputError(
            f"{shown(url)}: the URL of a dataset must hold no name, password or signature, since "
            f"files of a run name their data; give them as docs/pack.md says"
        )


def _asked(url: str, fetch: Callable[[str], Result]) -> Result:
    """What ``fetch(url)`` gives; what goes wrong names the URL."""
    try:
        return fetch(url)
    except FetchError as error:
        raise FetchError(f"{shown(url)} {error}; try again, or check the network") from error
    except InputError as error:
        text = str(error)
        raise InputError(text if shown(url) in text else f"{shown(url)}: {text}") from error
