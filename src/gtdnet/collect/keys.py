"""Keys as they are pressed, without Enter."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gtdnet.errors import InputError


@contextmanager
def keyboard() -> Iterator[Callable[[float], str]]:
    """A function that waits some seconds at most, and gives what was pressed meanwhile.

    Ctrl-C stays what it is; the terminal is as before in the end.

    Raises:
        ValueError: stdin is no terminal.
    """
    if not sys.stdin.isatty():
        raise InputError(
            "stdin is no terminal, so no keys can be pressed; run it in one, or cut a video by a "
            "list: --marks FILE.csv"
        )
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield _windows_keys
        return
    stream = sys.stdin.fileno()
    before = termios.tcgetattr(stream)
    try:
        tty.setcbreak(stream)
        yield lambda seconds: _keys(stream, seconds)
    finally:
        termios.tcsetattr(stream, termios.TCSADRAIN, before)


def _keys(stream: int, seconds: float) -> str:
    if not select.select([stream], [], [], seconds)[0]:
        return ""
    data = os.read(stream, 64)
    if not data:  # the terminal is gone
        return "q"
    # An arrow or function key comes as an Escape with more behind it; it is no Escape.
    return "" if len(data) > 1 and data[0] == 0x1B else data.decode(errors="ignore")


def _windows_keys(seconds: float) -> str:
    import msvcrt
    import time

    end, pressed = time.monotonic() + seconds, ""
    while not pressed and time.monotonic() < end:
        while msvcrt.kbhit():  # type: ignore[attr-defined]
            pressed += msvcrt.getwch()  # type: ignore[attr-defined]
        time.sleep(0.005)
    return pressed
