"""Which clip is being cut: keys and time in, what is to be done out. It knows no camera.

idle --key of a class--> counting --countdown over--> recording --seconds over--> idle
  ^                         |  space                     |  space: ends here
  |_________________________|____________________________|  q: ends all
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gtdnet.errors import InputError, check_not_negative

KEYS = "123456789abcdefghijklmnoprtvwxyz"
"""Of the classes in their order; q, s and u are taken."""

SHORTEST = 0.3
"""Seconds below which a clip that is ended by hand is dropped."""

STOP, UNDO, QUIT = " ", "u", "q"


@dataclass(frozen=True)
class Action:
    """What is to be done: "start" a clip of the class, "keep" or "drop" it, "undo" the last."""

    kind: Literal["start", "keep", "drop", "undo"]
    name: str


class Session:
    """The clips of a sitting.

    Args:
        classes: their names, in order.
        seconds: of a clip; 0: until space is pressed, or the class's key again.
        countdown: seconds between the key and the clip.
        per_class: clips that are wanted of each class; None: any number.
        have: clips of each class that are there already.
        hands_free: the classes come up by themselves, one clip after the other, until all are
            there; space pauses.

    Attributes:
        counts: clips of each class.
        is_over: whether nothing more is wanted.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        seconds: float = 3.0,
        countdown: float = 2.0,
        per_class: int | None = None,
        have: Mapping[str, int] | None = None,
        hands_free: bool = False,
    ) -> None:
        check_not_negative(seconds=seconds, countdown=countdown)
        if not classes:
            raise InputError("there are no classes; name them, as in --classes wave,nod,nothing")
        if len(classes) > len(KEYS):
            raise InputError(
                f"there are {len(classes)} classes, but keys for {len(KEYS)}; collect them in parts"
            )
        if per_class is not None and per_class < 1:
            raise InputError(f"per_class must be at least 1, got {per_class}")
        if 0 < seconds < SHORTEST:
            raise InputError(f"seconds must be 0 or at least {SHORTEST}, got {seconds:g}")
        if hands_free and not (seconds and per_class):
            raise InputError("hands_free needs the seconds of a clip, and per_class to end by")
        self.keys = dict(zip(KEYS, classes, strict=False))
        self.seconds, self.countdown, self.per_class = seconds, countdown, per_class
        self.hands_free = hands_free
        self.counts = {name: (have or {}).get(name, 0) for name in classes}
        self.is_over = False
        self._kept: list[str] = []  # of this sitting
        self._state: Literal["idle", "counting", "recording"] = "idle"
        self._name = ""
        self._since = 0.0
        self._is_paused = False

    @property
    def recording(self) -> str | None:
        """The class of the clip that is being cut."""
        return self._name if self._state == "recording" else None

    def press(self, key: str, now: float) -> list[Action]:
        """A key: that of a class, space, u (undo) or q (quit); others do nothing.

        Args:
            key: one character.
            now: seconds, as in :meth:`tick`.
        """
        key = key.lower()
        if key in (QUIT, "\x1b", "\x04"):  # Escape and Ctrl-D too
            self.is_over = True
            return self._end("drop") if self.recording else []
        if key in (STOP, "\r", "\n"):
            return self._space(now)
        if key == UNDO and self._state == "idle" and self._kept:
            name = self._kept.pop()
            self.counts[name] -= 1
            return [Action("undo", name)]
        name = self.keys.get(key)
        if name is not None and self.recording == name and not self.seconds:
            return self._stop(now)
        if name is not None and self._state == "idle":
            self._count(name, now)
        return self.tick(now)

    def tick(self, now: float) -> list[Action]:
        """What is due at this time, in seconds."""
        if self._state == "counting" and now >= self._since + self.countdown:
            self._state, self._since = "recording", now
            return [Action("start", self._name)]
        if self.recording and self.seconds and now >= self._since + self.seconds:
            return self._end("keep")
        if self._state == "idle" and self.per_class is not None and not self._wanted():
            self.is_over = self.is_over or self.hands_free
        elif self._state == "idle" and self.hands_free and not self._is_paused:
            self._count(self._wanted()[0], now)
        return []

    def lost(self) -> list[Action]:
        """The source is gone: what is being cut is dropped."""
        return self._end("drop") if self.recording else []

    def forget_last(self) -> None:
        """The clip that was just kept has no frames, and is none."""
        self.counts[self._kept.pop()] -= 1

    def line(self, now: float) -> str:
        """Where it is, for people."""
        if self._state == "counting":
            left = max(0.0, self._since + self.countdown - now)
            return f"{self._name} in {left:.1f} s   (space: not now)"
        if self._state == "recording":
            took = now - self._since
            of = f" of {self.seconds:g}" if self.seconds else ""
            return f"● {self._name}  {took:.1f}{of} s   (space: stop)"
        if self._is_paused:
            return "paused   (space: go on, u: undo, q: quit)"
        return "press the key of a class   (u: undo, q: quit)"

    def _wanted(self) -> list[str]:
        most = self.per_class or 0
        return [name for name, count in self.counts.items() if count < most]

    def _count(self, name: str, now: float) -> None:
        self._state, self._name, self._since = "counting", name, now

    def _space(self, now: float) -> list[Action]:
        if self._state == "recording":
            return self._stop(now)
        if self._state == "counting":
            self._state, self._is_paused = "idle", self.hands_free
        else:
            self._is_paused = False
        return []

    def _stop(self, now: float) -> list[Action]:
        return self._end("keep" if now - self._since >= SHORTEST else "drop")

    def _end(self, kind: Literal["keep", "drop"]) -> list[Action]:
        self._state = "idle"
        if kind == "keep":
            self.counts[self._name] += 1
            self._kept.append(self._name)
        return [Action(kind, self._name)]
