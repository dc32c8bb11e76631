"""Parts of files elsewhere, kept on disk for the next time, in no more room than is allowed.

packs/KEY/GROUP/START-END-CRC   the bytes START to before END of the file that KEY stands for; a
                                file's key is its SHA-256, so what is kept is never out of date
packs/.lock                     how many bytes there are; who changes that, holds the file's lock

Any number of processes may share a folder. A part takes its name when it is whole. What was not
used for the longest time goes first. Nothing depends on the cache: a part that is gone, damaged or
could not be written is fetched.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from gtdnet.errors import InputError
from gtdnet.text import say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FOLDER = "GTDNET_CACHE"
"""The environment variable that names the folder."""
SIZE = "GTDNET_CACHE_GB"
"""The environment variable that says how large it may become, in GB; 0: nothing is kept."""
_DEFAULT_GB = "10"
_LOCK = ".lock"
_OURS = re.compile(r"[0-9a-f]+-[0-9a-f]+-[0-9a-f]{8}|\.[0-9a-f]{16}\.tmp")  # no others are removed
_ROOM = 0.1  # the part of the cache that is made free at once

_told: set[Path] = set()  # folders that could not be written, which is said once


class Part(NamedTuple):
    """A part that is kept: its bytes are those from ``start`` to before ``end``."""

    start: int
    end: int
    path: Path


@dataclass(frozen=True)
class Cache:
    """A folder with parts of files; ``limit`` is in bytes of them."""

    folder: Path
    limit: int

    def parts(self, key: str, group: str) -> list[Part]:
        """What is kept of a group of parts."""
        found = []
        with suppress(OSError), os.scandir(self.folder / key / group) as entries:
            for entry in entries:
                with suppress(ValueError):
                    start, end, _ = (int(word, 16) for word in entry.name.split("-"))
                    found.append(Part(start, end, Path(entry.path)))
        return sorted(found)

    def read(self, part: Part) -> bytes | None:
        """The bytes of a part; None if it is gone, or not as it was written."""
        try:
            data = part.path.read_bytes()
            if part.path.name != _name(part.start, data) or len(data) != part.end - part.start:
                part.path.unlink()
                return None
            os.utime(part.path)
        except OSError:
            return None
        return data

    def write(self, key: str, group: str, start: int, data: bytes) -> None:
        """Keep a part, if there is room for it once others have gone."""
        if not 0 < len(data) <= self.limit:
            return
        folder = self.folder / key / group
        temporary = folder / f".{secrets.token_hex(8)}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._counting() as count:  # also while it is written: who looks sees all of it
                self._make_room(count, len(data))
                folder.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(data)
                temporary.replace(folder / _name(start, data))
        except FileNotFoundError:  # without locks: another process has removed the empty folder
            pass
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            if self.folder not in _told:
                _told.add(self.folder)
                say(f"{self.folder} cannot be written ({error.strerror}): nothing is kept there")

    def drop(self, key: str, group: str) -> None:
        """Keep nothing of a group any more."""
        for part in self.parts(key, group):
            with suppress(OSError):
                part.path.unlink()

    @contextmanager
    def _counting(self) -> Iterator[IO[str]]:
        """The file that says how many bytes there are, for this process alone."""
        with (self.folder / _LOCK).open("a+") as file:
            if fcntl:
                with suppress(OSError):  # no locks on this file system
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _make_room(self, count: IO[str], size: int) -> None:
        """Count a new part, and remove others until it has room."""
        count.seek(0)
        text = count.read().strip()
        total = int(text) if text.isdecimal() else self.limit  # of an unknown number: look
        if total + size > self.limit:
            total = self._shrink(max(0, self.limit - max(size, int(self.limit * _ROOM))))
        count.seek(0)
        count.truncate()
        count.write(str(total + size))
        count.flush()

    def _shrink(self, limit: int) -> int:
        """Remove the parts that were used the longest ago; the bytes that are left."""
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in filter(_OURS.fullmatch, names):
                path = Path(folder, name)
                with suppress(OSError):
                    status = path.stat()
                    found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= limit:
                break
            with suppress(OSError):
                path.unlink()
                total -= size
                path.parent.rmdir()  # if it is empty now
                path.parent.parent.rmdir()
        return total


def open_cache() -> Cache:
    """The cache that the environment asks for; InputError where that makes no sense."""
    text = os.environ.get(SIZE, "").strip() or _DEFAULT_GB
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < 1e9:
        raise InputError(f"{SIZE} must be a number of gigabytes, 0 to keep nothing; got {text!r}")
    folder = os.environ.get(FOLDER, "").strip()
    base = Path(folder).expanduser() if folder else _users_own()
    return Cache(base / "packs", int(gigabytes * 1e9))


def _users_own() -> Path:
    """Where this system keeps a user's caches."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "gtdnet"


def _name(start: int, data: bytes) -> str:
    return f"{start:x}-{start + len(data):x}-{zlib.crc32(data):08x}"
