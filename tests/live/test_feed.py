"""A source in its thread: losses, silence, and a thread that never comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gtdnet.live.feed import Change, Feed, Frame
from gtdnet.live.sources import GivenSource, Patience

QUICK = Patience(silence=0.2, gap=1.0, pause=0.05, longest_pause=0.1)
PICTURE = np.zeros((4, 6, 3), np.uint8)


def frames(number: int) -> list[tuple[float, Any]]:
    return [(i / 10, PICTURE) for i in range(number)]


def collect(feed: Feed, enough: Callable[[list[Any]], bool], limit: float = 5.0) -> list[Any]:
    """What comes, frames as their timestamps, changes as their state."""
    found: list[Any] = []
    until = time.monotonic() + limit
    while time.monotonic() < until and not feed.is_over and not enough(found):
        if (item := feed.take()) is None:
            time.sleep(0.002)
        else:
            found.append(item.shot.timestamp if isinstance(item, Frame) else item.state)
    return found


def test_every_frame_of_a_file_in_order() -> None:
    feed = Feed(GivenSource("x", lambda: frames(20), live=False), QUICK)
    feed.start()
    time.sleep(0.05)  # it is ahead, and waits
    found = collect(feed, lambda _: False)
    assert found == ["open", *(i / 10 for i in range(20)), "ended"]
    assert feed.is_over
    assert (feed.dropped, feed.losses) == (0, 0)


def test_the_newest_frame_of_what_is_live() -> None:
    feed = Feed(GivenSource("x", lambda: frames(20)), Patience())
    feed.start()
    time.sleep(0.1)
    found = collect(feed, lambda found: "lost" in found)
    assert found == ["open", 1.9, "lost"]
    assert feed.dropped == 19
    feed.close()


def test_what_cannot_be_read_costs_itself() -> None:
    def fail() -> Iterator[Any]:
        yield from frames(1)
        raise RuntimeError("decoder\nfell over")

    feed = Feed(GivenSource("x", fail, live=False), QUICK)
    feed.start()
    until = time.monotonic() + 5
    items: list[Any] = []
    while not feed.is_over and time.monotonic() < until:
        items += [item] if (item := feed.take()) else []
    assert items[-1] == Change("failed", "it cannot be read (RuntimeError: decoder)")


def test_every_end_is_a_loss_and_pauses_grow() -> None:
    feed = Feed(GivenSource("x", lambda: frames(1)), QUICK)
    feed.start()
    pauses: list[float | None] = []
    until = time.monotonic() + 5
    while len(pauses) < 4 and time.monotonic() < until:
        if isinstance(item := feed.take(), Change) and item.state == "lost":
            pauses.append(item.pause)
        time.sleep(0.002)
    feed.close()
    assert pauses == [0.05, 0.1, 0.1, 0.1]
    assert feed.losses == 4


def test_tries_in_vain_are_said_once() -> None:
    tries: list[float] = []
    over = threading.Event()

    def refuse() -> Iterator[Any]:
        tries.append(time.monotonic())
        if len(tries) not in (1, 8):
            raise RuntimeError("nobody is there")
        yield from frames(1)
        if len(tries) == 8:
            over.wait(20)

    feed = Feed(GivenSource("x", refuse), QUICK)
    feed.start()
    found = collect(feed, lambda found: found.count("open") == 2)
    feed.close()
    over.set()
    assert found == ["open", 0.0, "lost", "lost", "open"]
    assert len(tries) == 8
    assert feed.losses == 1


def test_silence_is_a_loss_though_its_thread_never_comes_back() -> None:
    frozen, opened = threading.Event(), []

    def freeze() -> Iterator[Any]:
        opened.append(1)
        yield from frames(1)
        frozen.wait(20)  # as a device that does not answer
        yield 99.0, PICTURE

    feed = Feed(GivenSource("x", freeze), QUICK)
    feed.start()
    found = collect(feed, lambda found: found.count("open") == 3)
    assert found[:7] == ["open", 0.0, "lost", "open", 0.0, "lost", "open"]
    assert len(opened) == 3
    frozen.set()  # what the abandoned threads have to say goes nowhere
    time.sleep(0.05)
    assert 99.0 not in collect(feed, lambda _: True)
    feed.close()


def test_threads_that_are_stuck_do_not_pile_up() -> None:
    frozen, opened = threading.Event(), []

    def freeze() -> Iterator[Any]:
        opened.append(1)
        frozen.wait(20)
        yield from ()

    patience = Patience(silence=0.01, gap=1, pause=0.001, longest_pause=0.001)
    feed = Feed(GivenSource("x", freeze), patience)
    feed.start()
    collect(feed, lambda _: False, limit=0.5)
    assert len(opened) == 8
    frozen.set()
    collect(feed, lambda _: len(opened) > 8)
    assert len(opened) > 8
    feed.close()
