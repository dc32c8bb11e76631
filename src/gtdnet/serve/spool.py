"""Where videos lie while they are answered: one folder of its own, whose files have no names.

A file without a name is gone with the process that has it open, however that ends. Where the system
has none (not Linux), they have names, and the next start removes what a killed server left.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = "gtdnet-serve-"


class Spool:
    """A new folder below the system's for temporary files; :meth:`close` removes it."""

    def __init__(self, parent: str | Path | None = None) -> None:
        parent = Path(parent or tempfile.gettempdir())
        _remove_left(parent)
        self.folder, self._lock = _make(parent)

    @contextmanager
    def file(self) -> Iterator[tuple[IO[bytes], str]]:
        """A file to write to, unbuffered, and the path under which another process reads it."""
        if sys.platform == "linux":
            with tempfile.TemporaryFile(dir=self.folder, buffering=0) as file:
                yield file, f"/proc/{os.getpid()}/fd/{file.fileno()}"
        else:
            with tempfile.NamedTemporaryFile(dir=self.folder, buffering=0) as file:
                yield file, file.name

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _make(parent: Path) -> tuple[Path, int | None]:
    """A folder that is private to this user, and our lock on it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            handle = _lock(folder)
        except (FileNotFoundError, BlockingIOError):
            continue  # a server that starts now took it for left, for it was not locked yet
        if folder.is_dir():
            return folder, handle
        if handle is not None:
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """A lock on a folder of ours, which goes with this process; None where there are none.

    Raises:
        OSError: it is locked, gone, of another user, or no folder.
    """
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        if os.fstat(handle).st_uid != os.geteuid():
            raise PermissionError(f"{folder} is of another user")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _remove_left(parent: Path) -> None:
    """Remove the folders of servers of ours that were killed: nobody has their locks."""
    if fcntl is None:
        return
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # what cannot be locked stays
            handle = _lock(folder)
            shutil.rmtree(folder, ignore_errors=True)
            if handle is not None:
                os.close(handle)
