"""Below which probability a moment of a stream is nothing, and what that costs.

Videos in which nothing happens say how often a threshold is wrong: events an hour. Clips in which
something happens, each a short stream, say how much it misses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from gtdnet.calibrate.streams import Moments
from gtdnet.data.calibration import Calibration
from gtdnet.data.spec import ClipSpec
from gtdnet.live.events import Event, EventDetector

_STEPS = 1_000_000  # thresholds are written with six digits: models are often sure of nothing
_COARSE = (
    *(_STEPS - step for step in (1, 10, 100, 500, 1000, 2000, 5000, 10_000)),
    *range(980_000, 0, -20_000),
    1,
)


class FalseAlarms(NamedTuple):
    """Events in videos in which nothing happens.

    Attributes:
        events: how many there were.
        hours: of video.
        per_hour: events an hour.
        high: what that is at most in truth, with 95 % confidence, one-sided: no event in six
            minutes may well be thirty an hour.
    """

    events: int
    hours: float
    per_hour: float
    high: float


class Missed(NamedTuple):
    """Clips as short streams.

    Attributes:
        expected: events that there should be: a clip's classes.
        missed: those that there were not.
        wrong: events of classes that the clip has not.
    """

    expected: int
    missed: int
    wrong: int


def events_of(stream: Moments, spec: ClipSpec) -> list[Event]:
    """The begins and ends of a stream's events, by the spec's calibration."""
    detector = EventDetector(spec, every=None)
    events: list[Event] = []
    for time, scores in zip(stream.times.tolist(), stream.scores, strict=True):
        events += detector.update(time, scores)
    return events + detector.close()


def false_alarms(streams: Iterable[Moments], spec: ClipSpec) -> FalseAlarms:
    """What the spec's calibration makes of videos in which nothing happens."""
    seconds, events = 0.0, 0
    for stream in streams:
        seconds += stream.seconds
        events += sum(event.kind == "begin" for event in events_of(stream, spec))
    hours = seconds / 3600
    return FalseAlarms(events, hours, events / hours, most_events(events) / hours)


def background_threshold(
    streams: Sequence[Moments], spec: ClipSpec, per_hour: float
) -> float | None:
    """The smallest probability, in steps of 0.000001, below which a moment may be nothing.

    From it on there are at most ``per_hour`` events an hour in the streams; None where there are
    more even at 1. It is looked for from above: far below it there are few events too, but each
    lasts for ever. The spec's calibration has the classes' thresholds and the rules.
    """
    calibration = spec.calibration or Calibration()

    def keeps(steps: int) -> bool:
        threshold = replace(calibration, background=steps / _STEPS)
        return false_alarms(streams, replace(spec, calibration=threshold)).per_hour <= per_hour

    high = _STEPS
    if not keeps(high):
        return None
    for low in _COARSE:
        if not keeps(low):
            break
        high = low
    else:
        return high / _STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high / _STEPS


def missed_events(streams: Iterable[tuple[Moments, Sequence[int]]], spec: ClipSpec) -> Missed:
    """What the spec's calibration makes of clips, given with the classes that they have."""
    expected = missed = wrong = 0
    for stream, classes in streams:
        found = {event.label for event in events_of(stream, spec)}
        expected += len(classes)
        missed += len(set(classes) - found)
        wrong += len(found - set(classes))
    return Missed(expected, missed, wrong)


def most_events(events: int, confidence: float = 0.95) -> float:
    """The mean below which so few events come by chance with 1 - confidence (Poisson)."""

    def share(mean: float) -> float:  # of the cases with at most so many events
        logs = (k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(events + 1))
        return math.fsum(math.exp(log) for log in logs)

    low, high = float(events), events + 10 + 10 * math.sqrt(events + 1)
    low = max(low, 1e-9)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) > 1 - confidence else (low, middle)
    return high
