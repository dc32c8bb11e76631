"""What a watch says: what happens in a source, how a source fares, how the watch itself does.

Each report has ``to_json``; its keys are those of docs/watch.md, and stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

from gtdnet.infer.answers import ClassScore
from gtdnet.live.events import Event

SourceState = Literal["open", "lost", "gap", "size", "ended", "failed"]


def iso(wall: float) -> str:
    """Seconds since 1970 as "2026-05-04T12:00:00.123Z"."""
    moment = datetime.fromtimestamp(wall, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class EventReport:
    """An event begins, goes on or ends.

    Attributes:
        source: name of the source.
        event: times in seconds of the stream.
        start_wall, wall: when the frames came at which it started and of this report; seconds
            since 1970.
        scores: the most probable classes now, smoothed, best first.
        is_live: whether the clock on the wall says more of the source than the stream's time.
    """

    source: str
    event: Event
    start_wall: float
    wall: float
    scores: tuple[ClassScore, ...]
    is_live: bool = False

    def to_json(self) -> dict[str, Any]:
        event = self.event
        return {
            "type": "event",
            "source": self.source,
            "kind": event.kind,
            "id": event.id,
            "label": event.label,
            "class": event.name,
            "probability": round(event.probability, 6),
            "peak": round(event.peak, 6),
            "start": round(event.start, 3),
            "time": round(event.time, 3),
            "start_wall": iso(self.start_wall),
            "wall": iso(self.wall),
            "scores": [
                {"label": s.label, "class": s.name, "probability": round(s.probability, 6)}
                for s in self.scores
            ],
        }


@dataclass(frozen=True)
class SourceReport:
    """How a source fares: "open", "lost", "gap", "size" (of its pictures), "ended", "failed".

    Attributes:
        time: of the stream, in seconds; None before the first frame.
        pause: seconds until it is opened again, where it is lost.
    """

    source: str
    state: SourceState
    message: str
    time: float | None
    wall: float
    pause: float | None = None
    is_live: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "source",
            "source": self.source,
            "state": self.state,
            "message": self.message,
            "time": None if self.time is None else round(self.time, 3),
            "wall": iso(self.wall),
            "pause": self.pause,
        }


@dataclass(frozen=True)
class Spread:
    """Milliseconds of the last some thousand: median and 95th percentile; None before the first."""

    p50: float | None
    p95: float | None


@dataclass(frozen=True)
class SourceStats:
    """What came of a source since the start.

    Attributes:
        frames: that were taken; ``shown`` of them to the model, the rest not being due.
        dropped: whose place a newer one took; damaged: that could not be decoded; lost: how often
            the source was.
        events: that began.
        rate: frames taken per second since the last stats.
        decode: of a frame; end_to_end: from when it had come to when it was decided.
        best: the most probable class now.
    """

    source: str
    frames: int
    shown: int
    dropped: int
    damaged: int
    lost: int
    events: int
    rate: float
    decode_ms: Spread
    end_to_end_ms: Spread
    best: ClassScore | None


@dataclass(frozen=True)
class StatsReport:
    """How the watch does; ``final`` is the last.

    Attributes:
        seconds: since its start.
        inference: of a batch of frames, one of each source that has one.
        webhook: what came of the messages: "sent", "failed", "dropped"; None without one.
    """

    wall: float
    seconds: float
    inference_ms: Spread
    sources: Sequence[SourceStats]
    final: bool = False
    webhook: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        sources = []
        for stats in self.sources:
            values = asdict(stats)
            values["rate"] = round(stats.rate, 2)
            if stats.best:
                values["best"] = {
                    "label": stats.best.label,
                    "class": stats.best.name,
                    "probability": round(stats.best.probability, 6),
                }
            sources.append(values)
        return {
            "type": "stats",
            "final": self.final,
            "wall": iso(self.wall),
            "seconds": round(self.seconds, 3),
            "inference_ms": asdict(self.inference_ms),
            "sources": sources,
            "webhook": self.webhook,
        }


Report: TypeAlias = EventReport | SourceReport | StatsReport
