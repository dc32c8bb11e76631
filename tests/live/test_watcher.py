"""Watching: real streams on 127.0.0.1, killed, frozen, resumed, at another size; files; raw frames.

The model's weights are set by hand, so what it must say of each video is known.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtdnet.data.decode import frame_times, iter_frames
from gtdnet.errors import InputError
from gtdnet.infer.streaming import StreamingRecognizer
from gtdnet.live.events import EventDetector
from gtdnet.live.reports import EventReport, Report, SourceReport, StatsReport
from gtdnet.live.sources import GivenSource, Patience
from gtdnet.live.watcher import StreamWatcher

QUICK = Patience(silence=0.6, gap=1.0, pause=0.05, longest_pause=0.1)
SCENES = [("-", 0.5), ("red", 0.6), ("-", 0.4), ("blue", 0.5), ("green", 0.5), ("-", 0.2)]
HAPPENS = [("red", 0.5, 1.1), ("blue", 1.5, 2.0), ("green", 2.0, 2.5)]
LATE = 0.3  # seconds by which smoothing and a frame or two may move what happens

Paint = Callable[..., Path]


def events(reports: list[Report], source: str = "") -> list[tuple[str, float, float]]:
    """Class, start and end of the events that ended."""
    return [
        (r.event.name, r.event.start, r.event.time)
        for r in reports
        if isinstance(r, EventReport) and r.event.kind == "end" and source in ("", r.source)
    ]


def states(reports: list[Report], source: str = "") -> list[str]:
    return [r.state for r in reports if isinstance(r, SourceReport) and source in ("", r.source)]


def said(reports: list[Report]) -> str:
    return " ".join(str(report.to_json()) for report in reports)


def check(found: list[tuple[str, float, float]], wanted: list[tuple[str, float, float]]) -> None:
    assert [name for name, *_ in found] == [name for name, *_ in wanted]
    for (_, *times), (_, *expected) in zip(found, wanted, strict=True):
        assert times == pytest.approx(expected, abs=LATE)


def watch(
    watcher: StreamWatcher, enough: Callable[[list[Report]], Any], limit: float = 15.0
) -> list[Report]:
    """Reports until there are enough, and what closing says."""
    reports: list[Report] = []
    until = time.monotonic() + limit
    while not enough(reports) and time.monotonic() < until:
        watcher.step()
        reports += watcher.news()
    return reports + watcher.close()


# ------------------------------------------------------------------------------------------ files


def test_a_file_has_the_events_of_its_frames(
    colour_model: Path, paint: Paint, tmp_path: Path
) -> None:
    video = paint(tmp_path / "a.mp4", SCENES)
    reports = list(StreamWatcher(colour_model, [str(video)], "cpu"))
    check(events(reports), HAPPENS)
    recognizer = StreamingRecognizer(colour_model, device="cpu")
    detector = EventDetector(recognizer.spec)
    times, wanted = frame_times(video), []
    assert times is not None
    for seconds, frame in zip(times, iter_frames(video), strict=False):
        wanted += detector.update(seconds, recognizer.scores(frame)[0])
    wanted += detector.close()
    ours = [r.event for r in reports if isinstance(r, EventReport)]
    assert [(e.kind, e.id, e.name) for e in ours] == [(e.kind, e.id, e.name) for e in wanted]
    assert [e.time for e in ours] == pytest.approx([e.time for e in wanted])
    final = reports[-1]
    assert isinstance(final, StatsReport) and final.final
    assert (final.sources[0].frames, final.sources[0].shown, final.sources[0].dropped) == (
        54,
        54,
        0,
    )
    assert final.sources[0].events == 3


def test_several_files_of_several_sizes_in_one_batch(
    colour_model: Path, paint: Paint, tmp_path: Path
) -> None:
    one = paint(tmp_path / "one.mp4", SCENES)
    two = paint(tmp_path / "two.webm", [("green", 0.5)], size=(96, 64), codec="libvpx")
    reports = list(StreamWatcher(colour_model, [str(one), str(two)], "cpu"))
    check(events(reports, "one.mp4"), HAPPENS)
    check(events(reports, "two.webm"), [("green", 0, 0.45)])
    assert states(reports, "two.webm") == ["open", "ended"]


def test_a_broken_file_costs_itself(colour_model: Path, paint: Paint, tmp_path: Path) -> None:
    good, bad = paint(tmp_path / "good.mp4", [("red", 0.5)]), tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing of a video" * 99)
    watcher = StreamWatcher(colour_model, [str(bad), str(good), str(tmp_path / "no.mp4")], "cpu")
    reports = list(watcher)
    check(events(reports), [("red", 0, 0.45)])
    assert watcher.failed == ["bad.mp4", "no.mp4"]
    assert "not a readable video" in said(reports)
    assert "no such file" in said(reports)


def test_a_file_played_as_a_camera_would_show_it(
    colour_model: Path, paint: Paint, tmp_path: Path
) -> None:
    from gtdnet.live.words import parse_sources

    video = paint(tmp_path / "a.mp4", [("-", 0.3), ("red", 0.5)])
    start = time.monotonic()
    reports = list(StreamWatcher(colour_model, parse_sources([str(video)], realtime=True), "cpu"))
    assert 0.7 < time.monotonic() - start < 3
    check(events(reports), [("red", 0.3, 0.75)])
    assert states(reports) == ["open", "ended"]


def test_a_hole_in_a_video_ends_what_goes_on(colour_model: Path) -> None:
    red = np.full((48, 64, 3), (230, 10, 10), np.uint8)
    times = [*np.arange(0, 1, 0.1), *np.arange(5, 6, 0.1)]
    source = GivenSource("x", lambda: [(float(t), red) for t in times], live=False)
    reports = list(StreamWatcher(colour_model, [source], "cpu", patience=QUICK))
    check(events(reports), [("red", 0, 0.9), ("red", 5, 5.9)])
    gap = next(r for r in reports if isinstance(r, SourceReport) and r.state == "gap")
    assert gap.message == "4.1 s are missing"
    assert gap.time == pytest.approx(5)


def test_pictures_of_another_size_begin_anew(colour_model: Path) -> None:
    def pictures() -> Iterator[tuple[float, Any]]:
        for number in range(20):
            size = (48, 64) if number < 10 else (96, 64)
            yield number / 10, np.full((*size, 3), (10, 230, 10), np.uint8)

    source = GivenSource("x", pictures, live=False)
    reports = list(StreamWatcher(colour_model, [source], "cpu", patience=QUICK))
    check(events(reports), [("green", 0, 0.9), ("green", 1, 1.9)])
    size = next(r for r in reports if isinstance(r, SourceReport) and r.state == "size")
    assert size.message == "its pictures were 64x48, now 64x96"


def test_wall_clock_times_are_those_of_the_frames(colour_model: Path) -> None:
    red = np.full((48, 64, 3), (230, 10, 10), np.uint8)
    came: list[float] = []

    def slowly() -> Iterator[tuple[float, Any]]:
        for number in range(12):
            time.sleep(0.03)
            came.append(time.time())
            yield number / 10, red

    source = GivenSource("x", slowly, live=False)
    reports = [
        r for r in StreamWatcher(colour_model, [source], "cpu") if isinstance(r, EventReport)
    ]
    assert reports[0].start_wall == pytest.approx(came[0], abs=0.02)
    assert reports[-1].start_wall == reports[0].start_wall
    assert reports[-1].wall == pytest.approx(came[-1], abs=0.02)
    line = reports[0].to_json()
    assert line["start_wall"].endswith("Z") and line["start_wall"] < line["wall"]


# ------------------------------------------------------------------------------------------- live


def test_http_killed_frozen_resumed_and_at_another_size(
    colour_model: Path, paint: Paint, station: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Watch goes on, says what happened, and its events are those of the file."""
    first = paint(tmp_path / "first.ts", SCENES)
    second = paint(tmp_path / "second.ts", [("blue", 0.5), ("-", 0.3)], size=(160, 96))
    server = station(first)
    watcher = StreamWatcher(colour_model, [f"yard={server.url}"], "cpu", patience=QUICK)
    reports: list[Report] = []

    def until(message: str) -> list[Report]:
        """Go on until a message holds these words; what was said meanwhile."""
        begin, end = len(reports), time.monotonic() + 10
        while message not in said(reports[begin:]) and time.monotonic() < end:
            watcher.step()
            reports.extend(watcher.news())
        assert message in said(reports[begin:])
        return reports[begin:]

    start = time.monotonic()
    played = until("lost")
    assert time.monotonic() - start > 2.5  # as fast as it is to be shown, not as it comes
    check(events(played), HAPPENS)

    server.freezes_after = len(server.content) // 2
    frozen = until("nothing came for 0.6 s")
    assert events(frozen)  # what was going on is ended

    server.stop()
    until("refused")
    server.freezes_after, server.content = None, second.read_bytes()
    server.start()
    until("its pictures were 64x48, now 160x96")
    back = until("lost")
    blue = events(back)
    assert [name for name, *_ in blue] == ["blue"]
    assert blue[0][2] - blue[0][1] == pytest.approx(0.5, abs=LATE)

    reports += watcher.close()
    times = [r.event.time for r in reports if isinstance(r, EventReport)]
    assert times == sorted(times)
    ids = [r.event.id for r in reports if isinstance(r, EventReport) and r.event.kind == "begin"]
    assert ids == list(range(len(ids)))
    assert watcher.failed == []
    assert "secret" not in said(reports) and "hidden" not in said(reports)


class Rtsp:
    """aio-rtsp-toolkit's server of the videos of a folder, in a thread."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self._thread.start()
        assert self._started.wait(5)

    def _run(self) -> None:
        from aio_rtsp_toolkit import server

        asyncio.set_event_loop(self._loop)
        self._server = server.RtspServer(str(self.folder), host="127.0.0.1", port=self.port)
        self._loop.run_until_complete(self._server.start())
        self._started.set()
        self._loop.run_forever()

    def freeze(self) -> threading.Event:
        """Stop all that it does until the event is set; connections stay open and are taken."""
        resumed = threading.Event()
        self._loop.call_soon_threadsafe(resumed.wait, 20)
        return resumed

    def kill(self) -> None:
        """End it with all its connections."""

        def end() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_later(0.05, self._loop.stop)

        if self._server._server is not None:
            self._loop.call_soon_threadsafe(self._server._server.close)
        self._loop.call_soon_threadsafe(end)
        self._thread.join(5)


def test_rtsp_killed_and_back(colour_model: Path, paint: Paint, tmp_path: Path) -> None:
    pytest.importorskip("aio_rtsp_toolkit", reason="aio-rtsp-toolkit is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paint(tmp_path / "a.mp4", SCENES)
    server = Rtsp(tmp_path, port)
    url = f"door=rtsp://me:secret@127.0.0.1:{port}/a.mp4"
    watcher = StreamWatcher(colour_model, [url], "cpu", patience=QUICK)
    reports: list[Report] = []
    end = time.monotonic() + 15
    while "lost" not in states(reports) and time.monotonic() < end:
        watcher.step()
        reports += watcher.news()
    found, wanted = events(reports), HAPPENS
    # FFmpeg looks at the first frames before it gives any, so the beginning is missed.
    late = wanted[-1][2] - found[-1][2]
    check([(name, start + late, end + late) for name, start, end in found[1:]], wanted[1:])
    assert [name for name, *_ in found] == [name for name, *_ in wanted]
    server.kill()
    while states(reports).count("lost") < 2 and time.monotonic() < end:
        watcher.step()
        reports += watcher.news()
    paint(tmp_path / "a.mp4", [("green", 0.8), ("-", 0.3)], size=(128, 96))
    again, server = len(reports), Rtsp(tmp_path, port)
    while "green" not in [n for n, *_ in events(reports[again:])] and time.monotonic() < end:
        watcher.step()
        reports += watcher.news()
    server.kill()
    reports += watcher.close()
    assert "size" in states(reports[again:])
    assert [name for name, *_ in events(reports[again:])] == ["green"]
    assert "secret" not in said(reports)


def test_rtsp_frozen_and_resumed(colour_model: Path, paint: Paint, tmp_path: Path) -> None:
    """A server that stays open and is silent: the watchdog ends the wait, not the system's."""
    pytest.importorskip("aio_rtsp_toolkit", reason="aio-rtsp-toolkit is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paint(tmp_path / "a.mp4", [("-", 0.5), ("red", 8.0)])
    server = Rtsp(tmp_path, port)
    url = f"door=rtsp://me:secret@127.0.0.1:{port}/a.mp4"
    watcher = StreamWatcher(colour_model, [url], "cpu", patience=QUICK)
    reports: list[Report] = []

    def until(message: str) -> None:
        end = time.monotonic() + 10
        while message not in said(reports) and time.monotonic() < end:
            watcher.step()
            reports.extend(watcher.news())
        assert message in said(reports)

    def began() -> list[EventReport]:
        found = (r for r in reports if isinstance(r, EventReport))
        return [r for r in found if r.event.kind == "begin"]

    def until_red(number: int) -> None:
        end = time.monotonic() + 10
        while len(began()) < number and time.monotonic() < end:
            watcher.step()
            reports.extend(watcher.news())
        assert [r.event.name for r in began()] == ["red"] * number

    until_red(1)
    frozen, resume = time.monotonic(), server.freeze()
    until("it broke off (nothing came for 0.6 s)")
    assert 0.5 < time.monotonic() - frozen < 3
    assert events(reports) and "lost" in states(reports)  # what was going on is ended
    # A new connection is taken, and then nothing is said.
    until("it cannot be opened (nothing came for 0.6 s)")
    resume.set()
    until_red(2)
    server.kill()
    reports += watcher.close()
    assert watcher.failed == []
    assert "secret" not in said(reports)


def test_a_slow_model_drops_frames_of_what_is_live_and_says_so(colour_model: Path) -> None:
    red = np.full((1080, 1920, 3), (230, 10, 10), np.uint8)  # the resizing takes its time

    def quickly() -> Iterator[tuple[float, Any]]:
        start = time.monotonic()
        while (at := time.monotonic() - start) < 1.2:
            yield at, red
            time.sleep(0.001)

    watcher = StreamWatcher(colour_model, [GivenSource("x", quickly)], "cpu", stats=0.2)
    reports = watch(watcher, lambda reports: "lost" in states(reports))
    final = reports[-1]
    assert isinstance(final, StatsReport)
    stats = final.sources[0]
    assert stats.dropped > stats.frames
    assert stats.end_to_end_ms.p50 is not None and stats.end_to_end_ms.p50 < 500
    middle = [r for r in reports if isinstance(r, StatsReport) and not r.final]
    assert middle and middle[0].sources[0].best and middle[0].sources[0].best.name == "red"
    check(events(reports), [("red", 0, 1.2)])


def test_nothing_to_watch(colour_model: Path) -> None:
    with pytest.raises(InputError, match="there is nothing to watch"):
        StreamWatcher(colour_model, [], "cpu")


def test_closing_ends_what_goes_on(colour_model: Path) -> None:
    red = np.full((48, 64, 3), (230, 10, 10), np.uint8)
    over = threading.Event()

    def forever() -> Iterator[tuple[float, Any]]:
        start = time.monotonic()
        while not over.wait(0.02):
            yield time.monotonic() - start, red

    source = GivenSource("x", forever)
    with StreamWatcher(colour_model, [source], "cpu", updates=None, duration=1.0) as watcher:
        reports = list(watcher)
    over.set()
    kinds = [r.event.kind for r in reports if isinstance(r, EventReport)]
    assert kinds == ["begin", "end"]
    assert isinstance(reports[-1], StatsReport) and reports[-1].final
    assert watcher.close() == []
