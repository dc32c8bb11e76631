"""The clips of a sitting as files, by what a session says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtdnet.collect.clips import NewClip
from gtdnet.collect.session import Action, Session


class Recording:
    """Does what a session says, with files.

    Attributes:
        written: the clips that were kept.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self._session, self._folder = session, folder
        self._sitting = datetime.now().strftime("%Y%m%d-%H%M%S")
        self._number = 0
        self._clip: NewClip | None = None
        self.written: list[Path] = []

    def do(self, actions: Sequence[Action]) -> None:
        """What came of a key or of time.

        Raises:
            ValueError: a clip cannot be written.
        """
        for action in actions:
            if action.kind == "start":
                self._number += 1
                name = f"{self._sitting}_{self._number:03}.mp4"
                self._clip = NewClip(self._folder / action.name / name)
            elif action.kind == "undo":
                self.written.pop().unlink(missing_ok=True)
            elif self._clip is not None:
                clip, self._clip = self._clip, None
                if action.kind == "keep" and clip.keep():
                    self.written.append(clip.path)
                elif action.kind == "keep":  # the source gave nothing meanwhile
                    self._session.forget_last()
                else:
                    clip.drop()

    def picture(self, rgb: Callable[[], NDArray[np.uint8]], time: float) -> None:
        """The next one, [H, W, 3], shown from ``time`` on; it is made if a clip is being cut."""
        if self._clip is not None:
            self._clip.write(rgb(), time)

    def close(self) -> None:
        """Drop what is not whole."""
        if self._clip is not None:
            self._clip.drop()
            self._clip = None
