"""The time of a stream: from timestamps that jump, repeat or are missing, one that goes on."""

from __future__ import annotations

import threading
import time

_STEP = 1e-3  # seconds between frames whose timestamps do not go on
_BACK = 1.0  # seconds by which timestamps may lie back before that is a jump


class StreamClock:
    """Seconds since the first frame of a source, over all its connections; they always go on.

    Within a connection they are those of the timestamps. Where these jump, are missing, or begin
    anew with a connection, time goes on by the clock on the wall.

    Args:
        gap: seconds without a frame from which on something was missed.
        is_live: whether the clock on the wall knows better than a jump; a file's is believed.
    """

    def __init__(self, gap: float, is_live: bool) -> None:
        self._gap, self._is_live = gap, is_live
        self.last: float | None = None
        self._offset: float | None = None  # of the timestamps; None: the next frame sets it
        self._arrived = 0.0

    def begin(self) -> None:
        """The next frame is the first of a connection."""
        self._offset = None

    def at(self, timestamp: float | None, arrived: float) -> tuple[float, float | None]:
        """The time of a frame, and how many seconds were missed before it; None if none were.

        Args:
            timestamp: seconds by the stream's own account.
            arrived: seconds of the clock on the wall, as of ``time.monotonic``.
        """
        last = self.last
        elapsed = max(arrived - self._arrived, _STEP)
        on_the_wall = 0.0 if last is None else last + elapsed
        missed: float | None = None
        if timestamp is None:
            now = on_the_wall
        elif self._offset is None:
            now = on_the_wall
            self._offset = now - timestamp
        else:
            now = self._offset + timestamp
            if last is not None and not last - _BACK < now <= last + self._gap:
                missed = now - last if now > last else elapsed
                if self._is_live or now <= last:
                    now = on_the_wall
                    self._offset = now - timestamp
        if last is not None:
            now = max(now, last + _STEP)
            if timestamp is None and now - last > self._gap:
                missed = now - last
        self.last, self._arrived = now, arrived
        return now, missed


class Pace:
    """Lets frames pass when they are due by their timestamps, for what comes faster than it is.

    One that comes late passes at once, and so do those behind it until they are on time again.
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._start: float | None = None  # on the clock, of the timestamp 0
        self._last = 0.0

    def wait(self, timestamp: float | None, stop: threading.Event) -> None:
        """Until a frame is due, or ``stop`` is set."""
        if timestamp is None:
            return
        now = time.monotonic()
        if self._start is None or not self._last - _BACK < timestamp <= self._last + self._gap:
            self._start = now - timestamp
        self._last = timestamp
        if (left := self._start + timestamp - now) > 0:
            stop.wait(left)
