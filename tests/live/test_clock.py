"""The time of a stream: literal tables, and that it always goes on."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.live.clock import Pace, StreamClock

TABLES = {
    # (timestamp, arrived) -> (time, missed); None for a new connection
    "timestamps": (
        True,
        [(7.0, 100.0), (7.1, 100.3), (7.3, 100.4)],
        [(0.0, None), (0.1, None), (0.3, None)],
    ),
    "none of its own": (
        True,
        [(None, 100.0), (None, 100.5), (None, 107.0)],
        [(0.0, None), (0.5, None), (7.0, 6.5)],
    ),
    "repeated and a little back": (
        True,
        [(1.0, 0.0), (1.0, 0.1), (0.9, 0.2), (1.2, 0.3)],
        [(0.0, None), (0.001, None), (0.002, None), (0.2, None)],
    ),
    "a jump forward goes by the wall": (
        True,
        [(1.0, 0.0), (901.0, 0.5), (901.1, 0.6)],
        [(0.0, None), (0.5, 900.0), (0.6, None)],
    ),
    "a jump back": (
        True,
        [(50.0, 0.0), (50.1, 0.1), (3.0, 0.3), (3.1, 0.4)],
        [(0.0, None), (0.1, None), (0.3, 0.2), (0.4, None)],
    ),
    "a file is believed": (
        False,
        [(0.0, 5.0), (0.1, 5.0), (60.1, 5.1), (60.2, 5.1)],
        [(0.0, None), (0.1, None), (60.1, 60.0), (60.2, None)],
    ),
    "a new connection goes by the wall": (
        True,
        [(7.0, 0.0), (7.5, 0.5), None, (2.0, 30.0), (2.1, 30.2)],
        [(0.0, None), (0.5, None), (30.0, None), (30.1, None)],
    ),
}


@pytest.mark.parametrize("table", TABLES)
def test_tables(table: str) -> None:
    is_live, frames, expected = TABLES[table]
    clock, found = StreamClock(5.0, is_live), []
    for frame in frames:
        if frame is None:
            clock.begin()
        else:
            found.append(clock.at(*frame))
    assert [t for t, _ in found] == pytest.approx([t for t, _ in expected])
    assert [m is None for _, m in found] == [m is None for _, m in expected]
    assert [m for _, m in found if m] == pytest.approx([m for _, m in expected if m])


@given(
    st.lists(
        st.tuples(st.none() | st.floats(-1e6, 1e6), st.floats(0, 20), st.booleans()), max_size=50
    ),
    st.booleans(),
)
def test_time_always_goes_on(frames: list[tuple[float | None, float, bool]], live: bool) -> None:
    clock, arrived, last = StreamClock(2.0, live), 0.0, -1.0
    for timestamp, later, is_new in frames:
        if is_new:
            clock.begin()
        arrived += later
        now, missed = clock.at(timestamp, arrived)
        assert now > last
        assert missed is None or missed > 0
        last = now


def test_frames_pass_when_they_are_due() -> None:
    pace, stop = Pace(5.0), threading.Event()
    start = time.monotonic()
    passed = []
    for timestamp in (10.0, 10.1, 10.2, 3.0, 3.1, 500.0):  # the jumps begin anew
        pace.wait(timestamp, stop)
        passed.append(time.monotonic() - start)
    assert passed == pytest.approx([0, 0.1, 0.2, 0.2, 0.3, 0.3], abs=0.08)
    stop.set()
    pace.wait(504.0, stop)  # somebody waits for it to end
    assert time.monotonic() - start < 1
