"""What was watched, with labels drawn on it: H.264 in MP4, playable whenever it is interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.decode import VIDEO_SUFFIXES
from gtdnet.data.transforms import resize_picture
from gtdnet.errors import InputError
from gtdnet.files import atomic_path, check_place
from gtdnet.infer.answers import ClassScore
from gtdnet.infer.draw import Overlay, TimedWriter, legible
from gtdnet.infer.picture import COLOURS
from gtdnet.infer.render import clock


class Recorder:
    """Writes a video of each source; a file appears when there is something to play in it.

    Pictures of another size than the first are scaled to it.

    Args:
        path: of one source, a video (*.mp4); of several, a folder for NAME.mp4 of each.
        names: of the sources.
        overwrite: replace what is there.

    Raises:
        ValueError: the path is nothing of these, or files are in the way.
    """

    def __init__(self, path: str | Path, names: Sequence[str], overwrite: bool = False) -> None:
        place = Path(path)
        if len(names) == 1 and not place.is_dir():
            if place.suffix.lower() != ".mp4":
                raise InputError(f"{path}: the recording must be a video (*.mp4)")
            files = [place]
        elif place.suffix.lower() == ".mp4":
            raise InputError(
                f"{path}: one file cannot hold {len(names)} sources; give a folder for their videos"
            )
        else:
            files = [place / name for name in _file_names(names)]
        for file in files:
            if file.exists() and not overwrite:
                raise InputError(f"{file} exists; add --overwrite to replace it")
        check_place(path)
        self._places = dict(zip(names, files, strict=True))
        self._tapes: dict[str, _Tape] = {}
        self.files = files

    def write(
        self,
        name: str,
        rgb: NDArray[np.uint8],
        seconds: float,
        scores: Sequence[ClassScore],
        events: Sequence[tuple[str, float]],
    ) -> None:
        """Add a frame of a source, its best classes now, and (class, seconds) of open events.

        Raises:
            ValueError: it cannot be written; what there is of the recording is finished.
        """
        if (tape := self._tapes.get(name)) is None:
            tape = self._tapes[name] = _Tape(self._places[name])
        try:
            tape.write(rgb, seconds, scores, events)
        except InputError:
            with suppress(InputError):
                self.close(name)
            raise

    def close(self, name: str) -> None:
        """Finish the file of a source; a second call does nothing.

        Raises:
            ValueError: it cannot be written to its end.
        """
        if tape := self._tapes.pop(name, None):
            tape.close()


class _Tape:
    """The video of one source.

    The file is written in pieces under a temporary name. With the first piece it gets its final
    name too, and so it is there, and can be played, even after a kill or a power cut.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_path(path))
        self._is_there = False
        self._writer = TimedWriter(self._temporary, path, in_pieces=True)
        self._overlay = Overlay()
        self._shape: tuple[int, ...] | None = None

    def write(
        self,
        rgb: NDArray[np.uint8],
        seconds: float,
        scores: Sequence[ClassScore],
        events: Sequence[tuple[str, float]],
    ) -> None:
        rgb = legible(rgb)
        if self._shape is None:
            self._shape = rgb.shape
        elif rgb.shape != self._shape:
            rgb = resize_picture(rgb, (self._shape[0], self._shape[1]))
        title = f"{clock(seconds)}  " + ", ".join(f"{name} for {t:.1f} s" for name, t in events)
        colours = [COLOURS[score.label % len(COLOURS)] for score in scores]
        self._writer.write(self._overlay.on(rgb, scores, colours, title), seconds)
        if not self._is_there and _has_piece(self._temporary):
            self._is_there = True
            with suppress(OSError):  # no links on this file system: it comes at the end
                other = self._temporary.with_suffix(".link")
                other.hardlink_to(self._temporary)
                other.replace(self._path)

    def close(self) -> None:
        with self._stack:
            self._writer.close()


def _has_piece(path: Path) -> bool:
    """Whether there is something to play: a fragment, which is written at once."""
    with path.open("rb") as file:
        return b"moof" in file.read(4096)


def _file_names(names: Sequence[str]) -> list[str]:
    """The names of sources as those of files, which differ."""
    files: list[str] = []
    for name in names:
        if Path(name).suffix.lower() in VIDEO_SUFFIXES:
            name = Path(name).stem
        kept = "".join(c if c.isalnum() or c in "-_ ()." else "-" for c in name)
        stem = kept.strip("-. ")[-80:] or "source"
        numbered = [f"{stem}.mp4", *(f"{stem}-{k}.mp4" for k in range(2, len(names) + 1))]
        files.append(next(file for file in numbered if file not in files))
    return files
