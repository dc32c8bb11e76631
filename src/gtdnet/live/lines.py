"""What people read of a watch: a line when an event begins, one when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gtdnet.infer.answers import ClassScore
from gtdnet.infer.render import clock, percent
from gtdnet.live.reports import EventReport, SourceReport, Spread, StatsReport
from gtdnet.text import aligned, counted

_TERMINAL = 80  # letters of a line
_WIDEST = 20  # letters of the names of sources


class Lines:
    """Text of reports; sources are named where there are several."""

    def __init__(self, names: Sequence[str]) -> None:
        self._width = min(_WIDEST, max(map(len, names))) if len(names) > 1 else 0

    def event(self, report: EventReport) -> str | None:
        """The line of an event; None: it goes on, of which there is none."""
        event = report.event
        when = _when(event.time, report.wall, report.is_live)
        front = f"{when:>8}  {self._name(report.source)}"
        if event.kind == "begin":
            others = [s for s in report.scores if s.label != event.label]
            return _with_others(f"{front}begin  {event.name}  {percent(event.probability)}", others)
        if event.kind == "end":
            lasted = f"{event.time - event.start:.1f} s"
            return f"{front}end    {event.name}  {lasted}, peak {percent(event.peak)}"
        return None

    def source(self, report: SourceReport) -> str:
        """The message about a source."""
        said = report.message
        if report.state == "open":
            said = f"open, pictures of {said}"
        elif report.state == "lost":
            said = f"lost, {said}; opened again in {report.pause:g} s"
        elif report.state in ("gap", "size"):
            said = f"{said}; the model begins anew"
        elif report.state == "failed":
            said = f"failed, {said}"
        elif report.state == "unrecorded":
            said = f"it is not recorded any more, {said}"
        when = ""
        if report.time is not None:
            when = f" at {_when(report.time, report.wall, report.is_live)}"
        return f"{report.source}{when}: {said}"

    def stats(self, report: StatsReport) -> str:
        """A table: how it did. Latencies are the median and the 95th percentile."""
        rows: list[tuple[str, ...]] = [
            ("", "frames", "a second", "dropped", "lost", "events", "decode", "to decision")
        ]
        for s in report.sources:
            rows.append(
                (
                    s.source if len(s.source) <= _WIDEST else f"{s.source[: _WIDEST - 1]}…",
                    str(s.frames),
                    f"{s.rate:.1f}",
                    str(s.dropped + s.damaged),
                    str(s.lost),
                    str(s.events),
                    _ms(s.decode_ms),
                    _ms(s.end_to_end_ms),
                )
            )
        lines = [aligned(rows)]
        inference = f"model {_ms(report.inference_ms)}"
        lines.append(f"ms, median / 95 %; {inference} for a frame of each source together")
        if report.webhook is not None:
            counts = report.webhook
            lines.append(
                f"webhook: {counted(counts['sent'], 'message')} sent, {counts['failed']} failed, "
                f"{counts['dropped']} dropped"
            )
        return "\n".join(lines)

    def _name(self, name: str) -> str:
        if not self._width:
            return ""
        short = name if len(name) <= self._width else f"{name[: self._width - 1]}…"
        return f"{short:{self._width}}  "


def _when(time: float, wall: float, is_live: bool) -> str:
    """The hour of what is live, else the time of the video."""
    return f"{datetime.fromtimestamp(wall):%H:%M:%S}" if is_live else clock(time)


def _with_others(line: str, scores: Sequence[ClassScore]) -> str:
    """The line, and as many other classes as a terminal has room for."""
    others: list[str] = []
    for score in scores:
        more = [*others, f"{score.name} {percent(score.probability)}"]
        if score.probability < 0.01 or len(line) + len(", ".join(more)) + 4 > _TERMINAL:
            break
        others = more
    return f"{line}  ({', '.join(others)})" if others else line


def _ms(spread: Spread) -> str:
    if spread.p50 is None or spread.p95 is None:
        return "-"
    return f"{spread.p50:.1f} / {spread.p95:.1f}"
