"""The clips in a folder for each class: OUT/CLASS/SITTING_NUMBER.mp4."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtdnet.errors import InputError
from gtdnet.files import atomic_path
from gtdnet.infer.draw import TimedWriter


def check_class_names(names: Sequence[str]) -> list[str]:
    """Names that folders can have, each once.

    Raises:
        ValueError: one is empty, twice there, or no folder can be called so.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the class {twice!r} is named twice; class names must differ")
    for name in names:
        plain = name.strip() == name and name not in ("", ".", "..") and name.isprintable()
        if not plain or any(c in name for c in '/\\:*?"<>|') or name.startswith("."):
            raise InputError(
                f"a class cannot be called {name!r}, for its clips lie in a folder of that name; "
                f"use letters, digits, spaces, - and _"
            )
    return list(names)


def classes_of(named: str | None, folder: Path) -> list[str]:
    """The names in a list with commas; where there is none, the folders that are there.

    Raises:
        ValueError: as :func:`check_class_names`.
    """
    names = [name.strip() for name in (named or "").split(",") if name.strip()]
    if not names and folder.is_dir():
        found = (p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        names = sorted(found)
    return check_class_names(names)


def there(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """How many clips of each class there are."""
    return {
        name: sum(path.suffix == ".mp4" for path in (folder / name).iterdir())
        if (folder / name).is_dir()
        else 0
        for name in names
    }


class _Dropped(Exception):
    """A clip is not wanted."""


class NewClip:
    """A clip that is being written; it has its name when it is kept, and nothing is left if not.

    Pictures of another size than the first are scaled to it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise InputError(f"{path} exists; choose another folder, or move it away")
        self.path = path
        self._stack = ExitStack()
        self._writer = TimedWriter(self._stack.enter_context(atomic_path(path)), path)
        self._start: float | None = None
        self._is_open = True

    def write(self, rgb: NDArray[np.uint8], time: float) -> None:
        """A frame, [H, W, 3], shown from ``time`` on: seconds, later than the one before.

        Raises:
            ValueError: it cannot be encoded, or the disk is full.
        """
        if self._start is None:
            self._start = time
        self._writer.write(rgb, time - self._start)

    def keep(self) -> bool:
        """Finish it; False: there was no frame, and so no clip.

        Raises:
            ValueError: it cannot be written to its end; nothing of it is left.
        """
        if self._start is None:
            self.drop()
            return False
        try:
            self._writer.close()
        except BaseException:
            self.drop()
            raise
        self._is_open = False
        self._stack.close()
        return True

    def drop(self) -> None:
        """Leave nothing of it; one that was kept stays."""
        if not self._is_open:
            return
        self._is_open = False
        with suppress(InputError, OSError):  # it goes anyway
            self._writer.close()
        self._stack.__exit__(_Dropped, _Dropped(), None)  # a file whose block failed is removed
        folder = self.path.parent
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
