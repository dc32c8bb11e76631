"""Keys from a real terminal, and what the preview makes of a picture."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from gtdnet.collect.keys import keyboard
from gtdnet.collect.preview import Picture, shrunk

pty = pytest.importorskip("pty", reason="terminals of this kind are POSIX's")


def test_keys_come_without_enter_and_the_terminal_is_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import termios

    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        before = termios.tcgetattr(theirs)
        with keyboard() as keys:
            assert keys(0) == ""
            os.write(ours, b"1")
            assert keys(5) == "1"
            os.write(ours, b"\x1b[A")  # an arrow
            assert keys(5) == ""
            os.write(ours, b"\x1b")
            assert keys(5) == "\x1b"
        assert termios.tcgetattr(theirs) == before
    os.close(ours)


def test_without_a_terminal_there_are_no_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(ValueError, match="stdin is no terminal"), keyboard():
            pass


@pytest.mark.parametrize(
    ("picture", "room", "expected"),
    [
        ((480, 640), (80, 48), (48, 64)),
        ((480, 640), (40, 48), (30, 40)),
        ((2000, 3), (80, 48), (48, 1)),
        ((1, 1), (80, 48), (48, 48)),
        ((2, 1000), (80, 48), (2, 80)),
    ],
)
def test_the_preview_keeps_the_shape(
    picture: tuple[int, int], room: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert shrunk(np.zeros((*picture, 3), np.uint8), *room).shape == (*expected, 3)


def test_two_pixels_a_letter() -> None:
    rgb = np.array([[[255, 0, 0]], [[0, 0, 255]]], np.uint8)  # red above blue
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="truecolor", width=10)
    console.print(Picture(rgb, 1, 1))
    assert "\x1b[38;2;255;0;0;48;2;0;0;255m▀" in file.getvalue()
