from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from gtdnet.text import in_width, only_errors, printable, progress_bar, progress_counter, say


def test_messages_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    message = "[red]runs/a[0] " + "x" * 200  # neither markup nor wrapped
    say(message)
    assert capsys.readouterr() == ("", message + "\n")


def test_what_a_terminal_would_obey_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    plain = "視频 é\tα\n[1m] \u202f😀"
    assert printable(plain) == plain
    assert printable("a\x1b[31mb\x07\r\x9b\x7f\udcca") == r"a\x1b[31mb\x07\r\x9b\x7f\udcca"
    say("a\x1b[31m\udcca")
    assert capsys.readouterr().err == "a\\x1b[31m\\udcca\n"


def test_messages_go_to_the_console_given() -> None:
    file = io.StringIO()
    say("done", Console(file=file))
    assert file.getvalue() == "done\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two three"]),
        ("one two three four five", ["one two three four", "  five"]),
        ("  -> one two three four", ["  -> one two three", "    four"]),
        ("  go   to where it is", ["  go   to where it", "       is"]),  # under its column
        ("a" * 30 + " b", ["a" * 30, "  b"]),  # a long word, such as a path, is never cut
        ("a b\n" + "c" * 18, ["a b", "c" * 18]),
    ],
)
def test_lines_end_between_words(text: str, lines: list[str]) -> None:
    assert in_width(text, 18).split("\n") == lines
    assert in_width(text, None) == text


def test_bars_draw_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("clips", 3, done=1) as advance:
        advance(2)
    with progress_counter("clips") as update:
        update(1, 3)
    assert capsys.readouterr() == ("", "")


def test_only_errors_are_logged_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    library = logging.getLogger("chatty")
    with caplog.at_level(logging.INFO, "chatty"):
        with pytest.raises(KeyError), only_errors("chatty", "another"):
            library.warning("a hint")
            library.error("a failure")
            raise KeyError
        library.info("a note")
    assert caplog.messages == ["a failure", "a note"]
    assert logging.getLogger("another").level == logging.NOTSET
