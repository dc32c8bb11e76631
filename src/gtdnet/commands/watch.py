"""gtdnet watch: say what happens in cameras, streams and files, while it happens."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gtdnet.commands import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    Outcome,
    complain,
    write,
)
from gtdnet.commands.parser import MODEL, Namespace, Parser, options
from gtdnet.files import check_place
from gtdnet.live.options import WatchOptions
from gtdnet.text import say
from gtdnet.weights.hub import check_is_there
from gtdnet.workers import Terminated

if TYPE_CHECKING:
    from gtdnet.live.lines import Lines
    from gtdnet.live.reports import Report, StatsReport
    from gtdnet.live.run import Watch

EXAMPLE = "gtdnet watch runs/first door=rtsp://camera.local/stream --record door.mp4"
COMPUTES = True


def fill(parser: Parser) -> None:
    parser.add_argument("model", help=MODEL)
    parser.add_argument(
        "sources",
        nargs="+",
        help="files, cameras (0 or /dev/video0), addresses (rtsp://, http://, HLS playlists), or - "
        "for raw rgb24 frames on stdin; NAME=SOURCE names one",
    )
    parser.add_class_arguments(WatchOptions, None, as_group=False, skip={"model", "sources"})


def run(args: Namespace) -> Outcome:
    check_is_there(args.model)
    check_place(args.record)
    from gtdnet.live.lines import Lines
    from gtdnet.live.run import Watch

    watch = Watch(options(WatchOptions, args))
    lines = Lines([source.name for source in watch.sources])
    say(_greeting(watch))
    code, final = EXIT_DONE, None
    try:
        final = _show(watch.reports(), lines, args.json)
    except KeyboardInterrupt as error:
        code = EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
    finally:
        final = _show(watch.close(), lines, args.json) or final
    if code != EXIT_DONE:
        complain("gtdnet watch", "interrupted" if code == EXIT_INTERRUPTED else "terminated")
    nothing = final is None or not any(source.frames for source in final.sources)
    if code == EXIT_DONE and watch.watcher.failed:
        code = EXIT_BAD_INPUT if nothing else EXIT_FAILED
    elif code == EXIT_DONE and watch.watcher.unrecorded:
        code = EXIT_FAILED
    if final is None:
        return code, None, ""
    if not nothing:
        say(lines.stats(final))
    if watch.recorder is not None:
        for file in watch.recorder.files:
            if file.exists():
                say(str(file))
    return code, final.to_json(), ""


def _show(reports: Iterable[Report], lines: Lines, as_json: bool) -> StatsReport | None:
    """Print what comes, each line at once; the final report of how it did is not printed."""
    from gtdnet.live.reports import EventReport, SourceReport

    for report in reports:
        text: str | dict[str, Any] | None = None
        if isinstance(report, EventReport):
            text = report.to_json() if as_json else lines.event(report)
        elif isinstance(report, SourceReport):
            say(lines.source(report))
            text = report.to_json() if as_json else None
        elif report.final:
            return report
        else:
            say(lines.stats(report))
            text = report.to_json() if as_json else None
        if text is not None:
            write(text)
            sys.stdout.flush()
    return None


def _greeting(watch: Watch) -> str:
    """How the model sees the sources, and from when on something is named."""
    watcher = watch.watcher
    can_be = sorted({float(t) for t in watcher.thresholds if t <= 1})
    if not can_be:
        named = "no class has a threshold that it can reach, so nothing is named"
    else:
        low, high = 100 * can_be[0], 100 * can_be[-1]
        named = (
            f"named from {low:.0f} %" + (f" to {high:.0f} %" if high - low > 0.5 else "") + " on"
        )
        if watcher.spec.calibration is None:
            named += " (the model was not calibrated)"
    return f"{watcher.model.describe()}; {named}"
