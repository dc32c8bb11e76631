"""Watching several sources with one model: frames in, events out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gtdnet.data.calibration import EventRules
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError, check_at_least, check_positive
from gtdnet.infer.answers import SHOWN, ClassScore, best_of
from gtdnet.infer.live import LiveModel, open_live
from gtdnet.live.clock import StreamClock
from gtdnet.live.events import EventDetector
from gtdnet.live.feed import Change, Feed, Frame
from gtdnet.live.reports import (
    EventReport,
    Report,
    SourceReport,
    SourceState,
    SourceStats,
    Spread,
    StatsReport,
)
from gtdnet.live.sources import Patience, Source
from gtdnet.live.words import parse_sources

if TYPE_CHECKING:
    from gtdnet.live.record import Recorder

_SAMPLES = 4096  # of each latency that are kept
_TICK = 0.1  # seconds between looks at sources that give nothing
_SLOWEST = 120.0  # seconds of moments whose wall-clock time is kept for the start of an event


class StreamWatcher:
    """Says what happens in sources, while it happens.

    Iterating gives :data:`gtdnet.live.reports.Report`; it ends when all files have, which is never
    of a live source. All sources go through the model in one batch.

    Args:
        model: a model file, an exported one, or a :class:`gtdnet.infer.live.LiveModel` of as many
            streams as there are sources.
        sources: paths, cameras, addresses, as of :func:`gtdnet.live.words.parse_sources`, or
            :class:`gtdnet.live.sources.Source`.
        device, precision, window, every: as of :func:`gtdnet.infer.live.open_live`.
        rules, threshold: in place of the model's calibration.
        nothing: the class that stands for nothing: it is no event.
        updates: seconds between two "update" reports of an event; None: none are made.
        topk: classes to give with an event.
        patience: how long live sources are waited for.
        stats: seconds between two reports of how it does; None: only the last.
        duration: seconds after which it ends by itself.
        record: what gets every frame and what was said of it.

    Raises:
        ValueError: no model file, a source that is none, or a value out of range.
    """

    def __init__(
        self,
        model: str | Path | LiveModel,
        sources: Sequence[str | Source],
        device: str | torch.device = "auto",
        *,
        precision: str | None = None,
        window: float | None = None,
        every: float | None = None,
        rules: EventRules | None = None,
        threshold: float | None = None,
        nothing: str | None = None,
        updates: float | None = 1.0,
        topk: int = 5,
        patience: Patience | None = None,
        stats: float | None = None,
        duration: float | None = None,
        record: Recorder | None = None,
    ) -> None:
        check_at_least(1, topk=topk)
        check_positive(stats=stats, duration=duration)
        words = [source for source in sources if isinstance(source, str)]
        parsed = iter(parse_sources(words) if words else ())
        given = [s if isinstance(s, Source) else next(parsed) for s in sources]
        if not given:
            raise InputError("there is nothing to watch; give at least one source")
        if not isinstance(model, LiveModel):
            model = open_live(
                model, len(given), device, precision=precision, window=window, every=every
            )
        self.model = model
        self.spec: ClipSpec = model.spec
        self._topk, self._every, self._record = topk, stats, record
        self._duration = float("inf") if duration is None else duration
        self._awake = threading.Condition()
        patience = patience or Patience()
        self._lanes = [
            _Lane(
                number,
                source,
                Feed(source, patience, self._awake),
                StreamClock(patience.gap, source.is_live),
                EventDetector(
                    self.spec, rules, threshold=threshold, nothing=nothing, every=updates
                ),
            )
            for number, source in enumerate(given)
        ]
        self.thresholds = self._lanes[0].detector.thresholds
        self._inference: deque[float] = deque(maxlen=_SAMPLES)
        self._pending: deque[Report] = deque()
        self._started: float | None = None
        self._said = 0.0
        self._is_closed = False

    def __enter__(self) -> StreamWatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, at: TracebackType | None
    ) -> None:
        self.close()

    @property
    def failed(self) -> list[str]:
        """Names of the sources that could not be read, or broke off."""
        return [lane.source.name for lane in self._lanes if lane.has_failed]

    @property
    def unrecorded(self) -> list[str]:
        """Names of the sources whose recording broke off."""
        return [lane.source.name for lane in self._lanes if lane.is_unrecorded]

    @property
    def _seconds(self) -> float:
        """Since the start."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return all(lane.feed.is_over for lane in self._lanes)

    def __iter__(self) -> Iterator[Report]:
        """Reports as they come, and at the end those of :meth:`close`."""
        while True:
            while self._pending:
                yield self._pending.popleft()
            if self._is_closed:
                return
            if self.is_over or self._seconds >= self._duration:
                self._finish()
            else:
                self.step()

    def step(self) -> None:
        """Take what came, a frame of each source at most; wait a moment where nothing did."""
        if self._is_closed:
            return
        self._start()
        taken = [(lane, item) for lane in self._lanes if (item := lane.feed.take())]
        for lane, item in taken:
            if isinstance(item, Change):
                self._change(lane, item)
        self._see([(lane, item) for lane, item in taken if isinstance(item, Frame)])
        if self._every is not None and time.monotonic() - self._said >= self._every:
            self._pending.append(self.stats())
            self._said = time.monotonic()
            for lane in self._lanes:
                lane.before = lane.frames
        if not taken:
            with self._awake:
                self._awake.wait_for(lambda: any(x.feed.has_news for x in self._lanes), _TICK)

    def close(self) -> list[Report]:
        """End what is open, let go of the sources, finish the recording; what is still to be said.

        The last is the final :class:`gtdnet.live.reports.StatsReport`. A second call does nothing.
        """
        self._finish()
        return self.news()

    def news(self) -> list[Report]:
        """What is to be said and was not yet."""
        left = list(self._pending)
        self._pending.clear()
        return left

    def _finish(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for lane in self._lanes:
            lane.feed.close()
            self._end_events(lane)
            self._end_recording(lane)
        self._pending.append(self.stats(final=True))

    def stats(self, final: bool = False) -> StatsReport:
        """How it does; rates are since the last report of it, of a final one since the start."""
        since = max(self._seconds if final else time.monotonic() - self._said, 1e-6)
        return StatsReport(
            time.time(),
            self._seconds,
            spread(list(self._inference)),
            [lane.stats(since, 0 if final else lane.before) for lane in self._lanes],
            final,
        )

    # ------------------------------------------------------------------------------- inside

    def _start(self) -> None:
        if self._started is None:
            self._started = self._said = time.monotonic()
            for lane in self._lanes:
                lane.feed.start()

    def _change(self, lane: _Lane, change: Change) -> None:
        """A source opened, was lost, or is over: what it showed before says nothing any more."""
        if change.state == "open":
            lane.clock.begin()
            self._forget(lane)
        else:
            self._end_events(lane)
            lane.has_failed |= change.state == "failed"
            if change.state != "lost":
                self._end_recording(lane)
        self._say(lane, change.state, change.message, time.time(), change.pause)

    def _see(self, frames: Sequence[tuple[_Lane, Frame]]) -> None:
        """Show the model the frames that are due, and say what happens in them."""
        due: list[tuple[_Lane, Frame, float, NDArray[np.uint8]]] = []
        for lane, frame in frames:
            lane.frames += 1
            seconds, missed = lane.clock.at(frame.shot.timestamp, frame.arrived)
            size = frame.shot.size
            before, lane.size = lane.size or size, size
            if missed is not None or before != size:
                self._forget(lane)
            if missed is not None:
                self._say(lane, "gap", f"{missed:.1f} s are missing", frame.wall)
            if before != size:
                was, now = (f"{w}x{h}" for h, w in (before, size))
                self._say(lane, "size", f"its pictures were {was}, now {now}", frame.wall)
            is_due = self.model.due(lane.number, seconds)
            start, rgb = time.perf_counter(), None
            if is_due or (self._record is not None and not lane.is_unrecorded):
                try:
                    rgb = frame.shot.rgb()
                except Exception:  # whatever a decoder raises costs this frame alone
                    lane.feed.damaged += 1
                    continue
            lane.decode.append(frame.shot.decode + time.perf_counter() - start)
            if is_due and rgb is not None:
                due.append((lane, frame, seconds, rgb))
            elif rgb is not None:
                self._draw(lane, rgb, seconds)
        if not due:
            return
        start = time.perf_counter()
        scores = self.model.scores(
            [rgb for *_, rgb in due],
            streams=[lane.number for lane, *_ in due],
            times=[seconds for _, _, seconds, _ in due],
        ).numpy()
        self._inference.append(time.perf_counter() - start)
        for (lane, frame, seconds, rgb), probabilities in zip(due, scores, strict=True):
            lane.moment(seconds, frame.wall)
            for event in lane.detector.update(seconds, probabilities):
                lane.events += event.kind == "begin"
                self._pending.append(
                    EventReport(
                        lane.source.name,
                        event,
                        lane.wall_of(event.start, event.id, event.kind),
                        frame.wall,
                        tuple(lane.best(self._topk)),
                        lane.source.is_live,
                    )
                )
                lane.follow(event.label, event.start, event.kind)
            lane.shown += 1
            if lane.source.is_timely:  # a frame of a file may have waited for its turn
                lane.latency.append(time.monotonic() - frame.arrived + frame.shot.decode)
            self._draw(lane, rgb, seconds)

    def _forget(self, lane: _Lane) -> None:
        """What was shown before says nothing of what comes."""
        self._end_events(lane)
        self.model.reset(lane.number)

    def _end_events(self, lane: _Lane) -> None:
        scores = tuple(lane.best(self._topk))
        for event in lane.detector.close():
            wall = lane.last_wall
            start = lane.wall_of(event.start, event.id, event.kind)
            self._pending.append(
                EventReport(lane.source.name, event, start, wall, scores, lane.source.is_live)
            )
        lane.open.clear()

    def _say(
        self,
        lane: _Lane,
        state: SourceState,
        message: str,
        wall: float,
        pause: float | None = None,
    ) -> None:
        source = lane.source
        self._pending.append(
            SourceReport(source.name, state, message, lane.clock.last, wall, pause, source.is_live)
        )

    def _draw(self, lane: _Lane, rgb: NDArray[np.uint8], seconds: float) -> None:
        if self._record is not None and not lane.is_unrecorded:
            names = self.spec.class_names
            open_events = [(names[label], seconds - at) for label, at in lane.open.items()]
            with self._recording(lane):
                self._record.write(lane.source.name, rgb, seconds, lane.best(SHOWN), open_events)

    def _end_recording(self, lane: _Lane) -> None:
        if self._record is not None:
            with self._recording(lane):
                self._record.close(lane.source.name)

    @contextmanager
    def _recording(self, lane: _Lane) -> Iterator[None]:
        """A recording that breaks off costs itself alone."""
        try:
            yield
        except InputError as error:
            lane.is_unrecorded = True
            self._say(lane, "unrecorded", str(error), time.time())


@dataclass
class _Lane:
    """A source on its way through the model."""

    number: int
    source: Source
    feed: Feed
    clock: StreamClock
    detector: EventDetector
    size: tuple[int, int] | None = None
    frames: int = 0
    shown: int = 0
    events: int = 0
    has_failed: bool = False
    is_unrecorded: bool = False  # its recording broke off
    last_wall: float = 0.0
    open: dict[int, float] = field(default_factory=dict)  # label -> start, of open events
    decode: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    latency: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    _moments: deque[tuple[float, float]] = field(default_factory=deque)
    _starts: dict[int, float] = field(default_factory=dict)  # id -> wall-clock time of its start
    before: int = 0  # frames at the last stats

    def best(self, topk: int) -> list[ClassScore]:
        """The most probable classes now, smoothed; none before the first frame."""
        scores = self.detector.smoothed
        return best_of(torch.from_numpy(scores), self.detector.spec, topk) if scores.any() else []

    def moment(self, seconds: float, wall: float) -> None:
        """Remember when a moment of the stream came."""
        keep = min(self.detector.rules.shortest, _SLOWEST) + 1
        self._moments.append((seconds, wall))
        while self._moments[0][0] < seconds - keep:
            self._moments.popleft()
        self.last_wall = wall

    def wall_of(self, start: float, id: int, kind: str) -> float:
        """When the frame came at which an event started."""
        if kind == "begin":
            self._starts[id] = next((w for t, w in self._moments if t >= start), self.last_wall)
        wall = self._starts.get(id, self.last_wall)
        if kind == "end":
            self._starts.pop(id, None)
        return wall

    def follow(self, label: int, start: float, kind: str) -> None:
        if kind == "end":
            self.open.pop(label, None)
        else:
            self.open[label] = start

    def stats(self, since: float, before: int) -> SourceStats:
        return SourceStats(
            self.source.name,
            self.frames,
            self.shown,
            self.feed.dropped,
            self.feed.damaged,
            self.feed.losses,
            self.events,
            (self.frames - before) / since,
            spread(list(self.decode)),
            spread(list(self.latency)),
            next(iter(self.best(1)), None),
        )


def spread(seconds: Sequence[float]) -> Spread:
    """Median and 95th percentile, in milliseconds."""
    if not seconds:
        return Spread(None, None)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return Spread(round(float(p50), 3), round(float(p95), 3))
