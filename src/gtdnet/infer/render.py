"""A prediction report for people (a table) and for spreadsheets (CSV)."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from gtdnet.infer.answers import Report, VideoPrediction
from gtdnet.text import printable

COLUMNS = ("video", "start", "end", "rank", "label", "class", "probability", "reason")


def render_table(report: Report) -> Table:
    """The classes of every video, best first, or its merged windows; failed ones with the reason.

    Videos are shown by their names where these differ, else by their paths.
    """
    names = Counter(Path(video.path).name for video in report.videos)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("video", overflow="fold", max_width=26)
    if report.window is not None:
        table.add_column("time", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("class", overflow="fold")
    for video in report.videos:
        name = Path(video.path).name
        title = name if names[name] == 1 else video.path
        rows: list[tuple[str, ...]]
        if report.window is None:
            rows = [(percent(s.probability), s.name) for s in video.scores]
            decider = video.decider
            if decider is not None and video.reason is None and not decider.named(video.scores):
                rows.insert(0, ("", decider.why_none(video.scores)))
        else:
            rows = [
                (f"{clock(s.start)} - {clock(s.end)}", percent(s.probability), s.name)
                for s in video.segments
            ]
        if not rows and video.reason is None:
            said = f"none of the classes ({_below(report)})"
            said = said if video.decider is None else video.decider.why_none(())
            rows = [("",) * (len(table.columns) - 2) + (said,)]
        for i, row in enumerate(rows):
            table.add_row(*(Text(printable(cell)) for cell in (title if i == 0 else "", *row)))
        if video.reason is not None:
            blank = ("",) if report.window is None else ("", "")
            reason = Text(printable(f"failed: {video.reason}"), style="red")
            table.add_row(Text("" if rows else printable(title)), *blank, reason)
    return table


def to_csv(report: Report) -> str:
    """One line per video (or window) and class, one per failure; times in seconds.

    What has no class, none having reached the threshold, has a line without one. Of a calibrated
    model there is a column more: whether the class is named.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns_of(report.decides))
    for video in report.videos:
        writer.writerows(csv_rows(video))
    return text.getvalue()


def csv_rows(video: VideoPrediction) -> Iterator[tuple[object, ...]]:
    """The lines of one video, in the order of :func:`columns_of`."""
    more = ("",) if video.decider is not None else ()
    for start, end, scores in video.windows or [("", "", video.scores)]:
        if not scores and (video.windows or video.reason is None):
            yield (video.path, start, end, *("",) * 5, *more)
        named = video.decider.named(scores) if video.decider is not None else ()
        for rank, score in enumerate(scores, 1):
            cells = rank, score.label, score.name, f"{score.probability:.6f}"
            yield (video.path, start, end, *cells, "", *(int(score in named) for _ in more))
    if video.reason is not None:
        yield (video.path, "", "", "", "", "", "", video.reason, *more)


def columns_of(decides: bool) -> tuple[str, ...]:
    """The heads; of a calibrated model one more: whether the class is named, 1 or 0."""
    return (*COLUMNS, "named") if decides else COLUMNS


def _below(report: Report) -> str:
    return f"below {percent(report.threshold or 0.0)}"


def percent(probability: float) -> str:
    """ "12.3 %"."""
    return f"{100 * probability:.1f} %"


def clock(seconds: float) -> str:
    """ "0:02.0", "1:02:03.0"."""
    tenths = round(10 * seconds)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{front}:{tenths // 10:02}.{tenths % 10}"
