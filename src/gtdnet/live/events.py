"""From the probabilities of a stream's moments to events that begin, go on and end.

Single frames waver. The probabilities of the last moments are averaged, an event begins when its
class has held its threshold for some time, and ends when it falls clearly below it (hysteresis):

    probability   ____________________ threshold of the class
                /                     \\
    ___________/                       \\____ release x threshold
               |<- shortest ->|begin    |end

Most of live video is nothing: then no class holds its threshold, and there is no event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gtdnet.data.calibration import Calibration, EventRules
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.text import first_of

NEVER = 2.0
"""The threshold of a class that is never named."""
UNCALIBRATED = 0.6
"""The probability from which on a class is named by a model that was shown no background."""

Kind = Literal["begin", "update", "end"]


@dataclass(frozen=True)
class Event:
    """A class that holds its threshold, from ``start`` on; all times in seconds of the stream.

    Attributes:
        kind: "begin", "update" (it goes on) or "end".
        id: of the event, from 0 in each stream.
        label, name: the class.
        start: when the class first held its threshold; before the moment of "begin".
        time: of this report; the end, where ``kind`` is "end".
        probability: the smoothed one now.
        peak: the highest so far.
    """

    kind: Kind
    id: int
    label: int
    name: str
    start: float
    time: float
    probability: float
    peak: float


@dataclass
class _Open:
    id: int
    start: float
    peak: float
    said: float


class EventDetector:
    """Events of one stream, from the probabilities of its moments in order of time.

    Of a model whose classes exclude one another there is one event at a time: that of the class
    with the highest smoothed probability. Of a multi-label model each class has its own.

    Args:
        spec: the model's; its calibration has the thresholds and, unless ``rules`` are given, the
            rules. Where no background was measured no class is named below ``UNCALIBRATED``:
            thresholds that hold for clips in which something happens promise nothing of a stream.
        rules: in place of the calibration's.
        threshold: in place of all classes' thresholds.
        nothing: the class that stands for nothing, which is no event whatever the thresholds are.
        every: seconds between two "update" reports of an event; None: none are made.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        spec: ClipSpec,
        rules: EventRules | None = None,
        *,
        threshold: float | None = None,
        nothing: str | None = None,
        every: float | None = 1.0,
    ) -> None:
        if threshold is not None and not 0 < threshold <= 1:
            raise InputError(f"threshold must be above 0, up to 1, got {threshold}")
        if every is not None and every < 0:
            raise InputError(f"every must be a number of seconds of at least 0, got {every}")
        calibration = spec.calibration or Calibration()
        floor = calibration.background or UNCALIBRATED
        self.spec = spec
        self.rules = rules or calibration.rules
        self.every = every
        labels = range(spec.num_classes)
        self.thresholds: NDArray[np.float64] = np.array(
            [threshold or max(floor, calibration.threshold(k)) for k in labels]
        )
        if nothing is not None:
            self.thresholds[_number_of(nothing, spec)] = NEVER
        self._next = 0
        self._last: float | None = None
        self.forget()

    def forget(self) -> None:
        """Drop what the last moments said, after :meth:`close`; ids and time go on."""
        self._recent: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._sum = np.zeros(self.spec.num_classes)
        self._since: dict[int, float] = {}  # label -> when it rose above its threshold
        self._open: dict[int, _Open] = {}  # label -> its event

    def update(self, time: float, probabilities: ArrayLike) -> list[Event]:
        """What begins, goes on and ends at this moment.

        Args:
            time: seconds, later than the moment before.
            probabilities: [K].

        Raises:
            ValueError: time does not go on, or there are not K finite probabilities.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        if p.shape != (self.spec.num_classes,) or not np.isfinite(p).all():
            raise InputError(
                f"a moment needs {self.spec.num_classes} finite probabilities, got shape "
                f"{list(p.shape)}"
            )
        if self._last is not None and time <= self._last:
            raise InputError(f"time must go on: {time} comes after {self._last}")
        self._last = time
        return list(self._events(time, self._smoothed(time, p)))

    def close(self) -> list[Event]:
        """End what is open at the last moment seen: the stream is over, or has a gap."""
        if self._last is None:
            return []
        ended = [self._report("end", label, self._last, None) for label in list(self._open)]
        self.forget()
        return ended

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """Mean probabilities of the last moments, [K]; zeros before the first."""
        return self._sum / max(1, len(self._recent))

    def _smoothed(self, time: float, p: NDArray[np.float64]) -> NDArray[np.float64]:
        self._recent.append((time, p))
        while self._recent[0][0] < time - self.rules.smoothing:
            self._recent.popleft()
        # Summed anew: a running sum would drift over days.
        self._sum = np.sum([q for _, q in self._recent], axis=0)
        return self.smoothed

    def _events(self, time: float, p: NDArray[np.float64]) -> Iterator[Event]:
        holds = p >= self.thresholds
        if not self.spec.multi_label:
            best = np.zeros_like(holds)
            best[p.argmax()] = True
            holds &= best
        for label in list(self._open):
            low = p[label] < self.rules.release * self.thresholds[label]
            other = not self.spec.multi_label and holds.any() and not holds[label]
            if low or other:
                yield self._report("end", label, time, p)
        for label in [k for k in self._since if not holds[k]]:
            del self._since[label]
        for label in map(int, np.flatnonzero(holds)):
            since = self._since.setdefault(label, time)
            if label in self._open:
                continue
            if time - since >= self.rules.shortest:
                self._open[label] = _Open(self._next, since, float(p[label]), time)
                self._next += 1
                yield self._report("begin", label, time, p)
        for label, event in self._open.items():
            event.peak = max(event.peak, float(p[label]))
            if self.every is not None and time - event.said >= self.every and time > event.said:
                event.said = time
                yield self._report("update", label, time, p)

    def _report(self, kind: Kind, label: int, time: float, p: NDArray[np.float64] | None) -> Event:
        event = self._open.pop(label) if kind == "end" else self._open[label]
        now = float((self.smoothed if p is None else p)[label])
        return Event(
            kind, event.id, label, self.spec.class_names[label], event.start, time, now, event.peak
        )


def _number_of(nothing: str, spec: ClipSpec) -> int:
    if nothing not in spec.class_names:
        raise InputError(
            f"nothing={nothing!r} is no class of the model; its classes are "
            f"{first_of(map(repr, spec.class_names), 8)}"
        )
    return spec.class_names.index(nothing)
