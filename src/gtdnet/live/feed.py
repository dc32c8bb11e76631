"""One source in a thread of its own: its frames, and its losses, while others go on.

Of a file every frame waits its turn. Of what is live the newest frame wins. A thread that is stuck
in a device or a network is abandoned: what it may still say goes nowhere.

    opening --> open --> lost --> (pause) --> opening ...      live; tries in vain are said once
    opening --> open --> ended | failed                        a file
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

from gtdnet.errors import DecodeError
from gtdnet.live.sources import Patience, Shot, Source
from gtdnet.text import first_line

_AHEAD = 4  # frames of a file that are decoded before they are wanted
_MAX_STUCK = 8  # abandoned threads of a source; with more it waits until one ends
_SAID_AGAIN = 600.0  # seconds after which tries in vain are spoken of again
_PROOF = 5.0  # seconds of frames after which a connection counts as good

State = Literal["open", "lost", "ended", "failed"]


@dataclass(frozen=True)
class Frame:
    """A frame, and when it came: ``wall`` in seconds since 1970, ``arrived`` monotonic."""

    shot: Shot
    arrived: float
    wall: float


@dataclass(frozen=True)
class Change:
    """A source began to give frames, was lost, ended, or could not be read.

    ``pause``: seconds until it is tried again.
    """

    state: State
    message: str
    pause: float | None = None


class Feed:
    """What comes from one source, in order; all but its thread's part is called by one thread.

    Attributes:
        source: that it reads.
        dropped: frames that a newer one took the place of.
        damaged: frames that could not be decoded as they were.
        losses: how often it was lost; tries in vain to open it again are none.
        is_over: whether nothing more will come.
    """

    def __init__(
        self, source: Source, patience: Patience, awake: threading.Condition | None = None
    ) -> None:
        self.source, self._patience = source, patience
        self._awake = awake or threading.Condition()
        self._items: deque[Frame | Change] = deque()
        self._reader: _Reader | None = None
        self._stuck: list[_Reader] = []
        self._retry: float | None = None
        self._pause = patience.pause
        self._said: tuple[str, float] | None = None  # why the last try was in vain, and when
        self.dropped = self.damaged = self.losses = 0
        self.is_over = False

    def start(self) -> None:
        """Open the source, in a thread."""
        self._retry = None
        self._reader = _Reader(self)
        self._reader.start()

    def take(self) -> Frame | Change | None:
        """What came next; None: nothing new."""
        self._look_after()
        with self._awake:
            if not self._items:
                return None
            item = self._items.popleft()
            self._awake.notify_all()  # a file's next frame has room
        if isinstance(item, Change) and item.state in ("ended", "failed"):
            self.is_over = True
        return item

    def close(self) -> None:
        """Let go of the source, without waiting for it."""
        with self._awake:
            self.is_over = True
            self._let_go()

    def _let_go(self) -> None:
        if self._reader is not None:
            self._reader.stop.set()
            self._stuck.append(self._reader)
            self._reader = None
            self._awake.notify_all()

    def _look_after(self) -> None:
        """Give up what is silent, and open again what was lost."""
        now = time.monotonic()
        with self._awake:
            reader = self._reader
            silence = self._patience.silence
            # The reader's own timeout says more, where it works.
            if reader is not None and self.source.is_live and now > reader.heard + 1.2 * silence:
                self._lose(reader, f"nothing came for {silence:g} s")
        self._stuck = [reader for reader in self._stuck if reader.is_alive()]
        if self._retry is not None and now >= self._retry and len(self._stuck) < _MAX_STUCK:
            self.start()

    # ------------------------------------------------------------------- called by the thread

    def _hear(self, reader: _Reader, frame: Frame | None) -> bool:
        """Take a frame (None: a damaged one); whether more are wanted."""
        with self._awake:
            if self._reader is not reader:
                return False
            reader.heard = time.monotonic()
            if frame is None:
                self.damaged += 1
                return True
            if not reader.has_begun:
                reader.has_begun, reader.began = True, reader.heard
                height, width = frame.shot.size
                self._items.append(Change("open", f"{width}x{height}"))
            if self.source.is_timely:
                if self._items and isinstance(self._items[-1], Frame):
                    self._items.pop()
                    self.dropped += 1
            else:
                while len(self._items) >= _AHEAD and self._reader is reader:
                    self._awake.wait()
                if self._reader is not reader:
                    return False
            self._items.append(frame)
            self._awake.notify_all()
            return True

    def _end(self, reader: _Reader, reason: str | None) -> None:
        with self._awake:
            if self._reader is not reader:
                return
            if self.source.is_live:
                self._lose(reader, reason or "it ended")
                return
            self._reader = None
            self._items.append(Change("failed", reason) if reason else Change("ended", "it ended"))
            self._awake.notify_all()

    def _lose(self, reader: _Reader, reason: str) -> None:
        """With the lock: it is lost, and will be opened again after a pause."""
        now = time.monotonic()
        if reader.has_begun and now - reader.began >= _PROOF:
            self._pause = self._patience.pause
        pause = self._pause
        self._pause = min(2 * pause, max(pause, self._patience.longest_pause))
        self._let_go()
        self._retry = now + pause
        is_new = reader.has_begun or self._said is None or self._said[0] != reason
        if is_new or (self._said and now - self._said[1] >= _SAID_AGAIN):
            self.losses += reader.has_begun or self._said is None
            self._said = (reason, now)
            self._items.append(Change("lost", reason, pause))
            self._awake.notify_all()


class _Reader(threading.Thread):
    """Reads one connection to its end."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(name=f"reading {feed.source.name}", daemon=True)
        self._feed = feed
        self.stop = threading.Event()
        self.heard = time.monotonic()
        self.has_begun, self.began = False, 0.0

    def run(self) -> None:
        feed, reason = self._feed, None
        try:
            for shot in feed.source.shots(self.stop, feed._patience):
                frame = shot and Frame(shot, time.monotonic(), time.time())
                if not feed._hear(self, frame):
                    return
        except DecodeError as error:
            reason = error.reason
        except Exception as error:  # whatever a decoder raises costs this source alone
            reason = f"it cannot be read ({type(error).__name__}: {first_line(error)})"
        feed._end(self, reason)
