"""Keys and time in, clips out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.collect.session import KEYS, Session


def did(session: Session, moments: list[tuple[float, str]]) -> list[tuple[str, str]]:
    """What keys ("" for none) at times led to."""
    actions = [
        action
        for now, key in moments
        for action in (session.press(key, now) if key else session.tick(now))
    ]
    return [(action.kind, action.name) for action in actions]


SITTINGS: dict[str, tuple[dict[str, Any], list[tuple[float, str]], list[tuple[str, str]]]] = {
    "a clip": (
        {},
        [(0, "1"), (1.9, ""), (2, ""), (4.9, ""), (5, "")],
        [("start", "wave"), ("keep", "wave")],
    ),
    "without a countdown": (
        {"countdown": 0}, [(0, "2"), (3, "")], [("start", "nod"), ("keep", "nod")],
    ),
    "ended by hand": (
        {"countdown": 0}, [(0, "1"), (1, " ")], [("start", "wave"), ("keep", "wave")],
    ),
    "too short": (
        {"countdown": 0}, [(0, "1"), (0.2, " ")], [("start", "wave"), ("drop", "wave")],
    ),
    "not now": ({}, [(0, "1"), (1, " "), (3, "")], []),
    "held by its key": (
        {"countdown": 0, "seconds": 0},
        [(0, "1"), (50, "2"), (60, "1")],
        [("start", "wave"), ("keep", "wave")],
    ),
    "undone": (
        {"countdown": 0},
        [(0, "1"), (3, ""), (4, "u"), (5, "u")],
        [("start", "wave"), ("keep", "wave"), ("undo", "wave")],
    ),
    "quit while one is cut": (
        {"countdown": 0}, [(0, "1"), (1, "q")], [("start", "wave"), ("drop", "wave")],
    ),
    "a key of no class": ({}, [(0, "3"), (5, "")], []),
    "hands free": (
        {"hands_free": True, "per_class": 1, "countdown": 1, "seconds": 1},
        [(t / 2, "") for t in range(12)],
        [("start", "wave"), ("keep", "wave"), ("start", "nod"), ("keep", "nod")],
    ),
    "hands free, paused and gone on": (
        {"hands_free": True, "per_class": 1, "countdown": 1, "seconds": 1, "have": {"nod": 1}},
        [(0, ""), (0.5, " "), (3, ""), (4, " "), (4, ""), (5, ""), (6, "")],
        [("start", "wave"), ("keep", "wave")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("sitting", SITTINGS)
def test_sittings(sitting: str) -> None:
    options, moments, expected = SITTINGS[sitting]
    assert did(Session(["wave", "nod"], **options), moments) == expected


def test_it_ends_when_all_are_there() -> None:
    session = Session(["a"], seconds=1, countdown=0, per_class=2, have={"a": 1}, hands_free=True)
    did(session, [(0, ""), (0, ""), (1, ""), (1, "")])
    assert session.is_over
    assert session.counts == {"a": 2}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": []}, "there are no classes"),
        ({"classes": [str(i) for i in range(40)]}, f"40 classes, but keys for {len(KEYS)}"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": 0.1}, "seconds must be 0 or at least 0.3, got 0.1"),
        ({"per_class": 0}, "per_class must be at least 1, got 0"),
        ({"hands_free": True}, "hands_free needs"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        Session(options.pop("classes", ["a"]), **options)
    assert sentence in str(caught.value)


@given(st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["", "1", "2", " ", "u"])), max_size=80))
def test_every_clip_that_starts_is_kept_or_dropped(moves: list[tuple[float, str]]) -> None:
    session = Session(["a", "b"], seconds=1.5, countdown=0.5)
    now, open_clip, kept = 0.0, None, {"a": 0, "b": 0}
    for wait, key in moves:
        now += wait
        for action in session.press(key, now) if key else session.tick(now):
            if action.kind == "start":
                assert open_clip is None
                open_clip = action.name
            elif action.kind == "undo":
                kept[action.name] -= 1
            else:
                assert open_clip == action.name
                open_clip = None
                kept[action.name] += action.kind == "keep"
    assert session.recording == open_clip
    assert session.counts == kept
