"""``gtdnet collect``: a sitting before the camera, or a video cut by a list of times."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gtdnet.collect.clips import classes_of, there
from gtdnet.collect.keys import keyboard
from gtdnet.collect.marks import Mark, cut, read_marks
from gtdnet.collect.options import CollectOptions
from gtdnet.collect.preview import Picture
from gtdnet.collect.recording import Recording
from gtdnet.collect.session import Session
from gtdnet.errors import DecodeError, InputError
from gtdnet.files import alone_in, check_place
from gtdnet.live.feed import Change, Feed, Frame
from gtdnet.live.sources import Patience, RawSource, Source
from gtdnet.live.words import parse_sources
from gtdnet.text import counted, progress_bar, say

_REDRAW = 0.12  # seconds between two pictures of the preview
_WAIT = 0.02  # seconds for which keys and frames are waited for


@dataclass
class Collected:
    """What there is now.

    Attributes:
        folder: of the clips.
        written: the clips of this sitting.
        counts: clips of each class, earlier ones included.
        reason: why the source broke off, or None.
    """

    folder: str
    written: list[str]
    counts: dict[str, int]
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return vars(self).copy()


def collect(options: CollectOptions) -> Collected:
    """Cut clips as the options say.

    Raises:
        ValueError: an option out of range, a source that can't be read, no terminal, or no room.
    """
    folder = Path(options.folder)
    if folder.is_file():
        raise InputError(f"{folder} is a file; give a folder for the clips")
    check_place(folder)
    if options.marks is not None:
        return _by_marks(options, folder)
    names = classes_of(options.classes, folder)
    session = Session(
        names,
        seconds=options.seconds,
        countdown=options.countdown,
        per_class=options.per_class,
        have=there(folder, names),
        hands_free=options.hands_free,
    )
    (source,) = parse_sources([options.source], size=options.size, rate=options.rate, realtime=True)
    if isinstance(source, RawSource):
        raise InputError("frames on stdin leave no keys to press; give a camera or a video")
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    with alone_in(folder, "choose another folder"), keyboard() as keys:
        return sit(session, source, folder, keys, console if options.preview else None)


def _by_marks(options: CollectOptions, folder: Path) -> Collected:
    marks = read_marks(str(options.marks))
    names = list(dict.fromkeys(mark.label for mark in marks))
    if options.classes:
        known = [name.strip() for name in options.classes.split(",")]
        if unknown := [name for name in names if name not in known]:
            raise InputError(
                f"{options.marks} has the label {unknown[0]!r}, which is not in --classes"
            )
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, "choose another folder"), progress_bar("cutting", len(marks)) as step:

        def done(mark: Mark) -> None:
            step(1)

        try:
            paths, reason = cut(options.source, marks, folder, fps=options.rate, done=done)
        except DecodeError as error:
            raise InputError(f"{error.path}: {error.reason}") from None
    return Collected(str(folder), [str(path) for path in paths], there(folder, names), reason)


def sit(
    session: Session,
    source: Source,
    folder: Path,
    keys: Callable[[float], str],
    console: Console | None,
    *,
    patience: Patience | None = None,
) -> Collected:
    """Record what the session says, until it is over or the source is.

    Args:
        keys: waits some seconds at most, and gives what was pressed.
        console: for the preview; None: only lines, on stderr.
    """
    recording = Recording(session, folder)
    awake = threading.Condition()
    feed = Feed(source, patience or Patience(), awake)
    told, reason = "", None
    with ExitStack() as stack:
        screen = _Screen(session, console)
        stack.enter_context(screen)
        stack.callback(recording.close)
        stack.callback(feed.close)
        feed.start()
        while not session.is_over:
            for key in keys(_WAIT):
                recording.do(session.press(key, time.monotonic()))
            item = feed.take()
            while item is not None:
                if isinstance(item, Frame):
                    recording.picture(item.shot.rgb, item.arrived)
                    screen.picture = item
                    recording.do(session.tick(item.arrived))
                else:
                    told = _told(item, source)
                    if item.state != "open":
                        recording.do(session.lost())
                    if item.state in ("ended", "failed"):
                        reason = item.message if item.state == "failed" else None
                        session.is_over = True
                    screen.say(told)
                item = feed.take()
            if screen.picture is not None:  # no clip begins before there is a picture
                recording.do(session.tick(time.monotonic()))
            screen.show(time.monotonic(), told)
    if reason is not None and not recording.written:
        raise InputError(f"{source.name}: {reason}")
    return Collected(
        str(folder), [str(path) for path in recording.written], session.counts.copy(), reason
    )


def _told(change: Change, source: Source) -> str:
    if change.state == "open":
        return f"{source.name}: {change.message}"
    if change.state == "lost":
        return f"{source.name} was lost ({change.message}); trying again"
    return f"{source.name}: {change.message}"


class _Screen:
    """The picture, the counts and what to do, drawn anew; or lines, where there is no terminal."""

    def __init__(self, session: Session, console: Console | None) -> None:
        self._session = session
        self._live: Live | None = None
        if console is not None and console.is_terminal:
            self._live = Live(console=console, screen=True, auto_refresh=False)
        self._shown = 0.0
        self._said = ""
        self.picture: Frame | None = None

    def __enter__(self) -> _Screen:
        context: AbstractContextManager[Any] = self._live or nullcontext()
        context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def say(self, line: str) -> None:
        """A line about the source."""
        if self._live is None:
            say(line)

    def show(self, now: float, told: str) -> None:
        """What is to be seen at this time."""
        if now < self._shown + _REDRAW:
            return
        self._shown = now
        if self._live is None:
            line = self._session.line(now).partition("  ")[0]
            what = line if self._session.recording else line.partition(" in ")[0]
            if what != self._said:
                self._said = what
                say(self._session.line(now))
            return
        size = self._live.console.size
        counts = counts_line(self._session, size.width)
        lines: list[Any] = [Text(line, no_wrap=True, overflow="ellipsis") for line in counts]
        style = "bold red" if self._session.recording else "bold"
        lines.append(Text(self._session.line(now), style=style, no_wrap=True, overflow="ellipsis"))
        rows = size.height - len(lines) - 1
        if self.picture is None:
            lines.insert(0, Text(told or "waiting for the first picture"))
        elif rows > 2:
            lines.insert(0, Picture(self.picture.shot.rgb(), size.width, rows))
        self._live.update(Group(*lines), refresh=True)


def counts_line(session: Session, width: int) -> list[str]:
    """Keys, classes and their clips, as many side by side as the width takes."""
    of = f"/{session.per_class}" if session.per_class else ""
    cells = [f"[{key}] {name} {session.counts[name]}{of}" for key, name in session.keys.items()]
    lines = [""]
    for cell in cells:
        if lines[-1] and len(lines[-1]) + 3 + len(cell) > width:
            lines.append("")
        lines[-1] += ("   " if lines[-1] else "") + cell
    return lines


def advice(found: Collected) -> str:
    """What there is now, and what to do with it."""
    counts = ", ".join(f"{name} {count}" for name, count in found.counts.items())
    text = f"{found.folder}: {counted(len(found.written), 'new clip')}; now {counts}"
    if found.reason:
        text += f"\nthe source broke off: {found.reason}"
    if not any(found.counts.values()):
        return text
    return (
        f"{text}\nlook at them with: gtdnet check {found.folder} --sheet clips.png\n"
        f"train with: gtdnet train --data {found.folder} --val 0.2"
    )
