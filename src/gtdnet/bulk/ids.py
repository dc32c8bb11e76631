"""Whether ids are unique, of any number of them, in little memory.

Of each id a digest of 16 bytes goes to one of 256 files on disk, by its first byte; a file at a
time is then sorted and looked through. So a billion ids take 16 GB of disk and 62 MB of memory. Two
ids of the same digest are as good as impossible: among a billion with a chance of 1 in 10^20.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np

_SIZE = 16  # bytes of a digest
_AT_ONCE = 1 << 16  # digests in memory: 1 MiB


class Ids:
    """Add them one by one; :meth:`repeated` then tells the digest of one that came twice."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._waiting = folder, bytearray()

    def add(self, id: str) -> None:
        self._waiting += digest(id)
        if len(self._waiting) >= _AT_ONCE * _SIZE:
            self._write()

    def repeated(self) -> bytes | None:
        """A digest that was added twice; None: there is none."""
        self._write()
        for path in sorted(self._folder.iterdir()):
            pairs = np.fromfile(path, ">u8").reshape(-1, 2)
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
            if (same := (pairs[1:] == pairs[:-1]).all(axis=1)).any():
                return pairs[int(same.argmax())].tobytes()
        return None

    def _write(self) -> None:
        rows = np.frombuffer(bytes(self._waiting), np.uint8).reshape(-1, _SIZE)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        starts = np.searchsorted(rows[:, 0], np.arange(257, dtype=np.int64))
        for first in range(256):
            if len(part := rows[starts[first] : starts[first + 1]]):
                with (self._folder / f"{first:02x}").open("ab") as file:
                    file.write(part.tobytes())
        self._waiting.clear()


@contextmanager
def unique_ids() -> Iterator[Ids]:
    """Its files are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="gtdnet-ids-") as folder:
        yield Ids(Path(folder))


def digest(id: str) -> bytes:
    return blake2b(id.encode("utf-8", "surrogateescape"), digest_size=_SIZE).digest()
