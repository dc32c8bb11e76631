"""Text for people: messages and progress on stderr, so that stdout holds results; words; tables."""

from __future__ import annotations

import logging
import os
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

# ------------------------------------------------------------------------------------- progress


def say(message: str, console: Console | None = None) -> None:
    """One message on stderr (or the given console), but for markup as it is.

    On a terminal lines end between words; elsewhere they are as long as they are. A bar that is
    being drawn stays below it.
    """
    from rich.console import Console

    if _silent:
        return
    console = console or (_drawn_on[-1] if _drawn_on else Console(stderr=True))
    text = printable(message)
    if console.is_terminal:
        text = in_width(text, console.width)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


_drawn_on: list[Console] = []  # where bars are being drawn
_silent: list[bool] = []  # why nothing is said now


@contextmanager
def only_first_speaks(is_first: bool) -> Iterator[None]:
    """Within it, nothing is said and no bar drawn in a process that is not the first of several."""
    before = list(_silent)
    _silent.extend([] if is_first else [True])
    try:
        yield
    finally:
        _silent[:] = before


def terminal_width(stream: TextIO) -> int | None:
    """Letters in a line of the terminal that a stream writes to; None where it is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else None
    except (OSError, ValueError):  # a stream of another kind; a terminal that does not tell
        return None


def in_width(text: str, width: int | None) -> str:
    """The text with lines ended between words, where there is a width; a long word is never cut.

    What a line goes on with stands two letters further in than its beginning, or, of a row of
    columns, under the last.
    """
    if not width:
        return text
    return "\n".join(
        textwrap.fill(
            line,
            width,
            subsequent_indent=_hanging(line, width),
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        )
        if len(line) > width
        else line
        for line in text.split("\n")
    )


def _hanging(line: str, width: int) -> str:
    """What stands before that which a line goes on with."""
    before_last = re.match(r"\s*\S.*\s{2,}(?=\S)", line)
    if before_last and before_last.end() <= width // 2:
        return " " * before_last.end()
    return " " * min(len(line) - len(line.lstrip()) + 2, width // 2)


@contextmanager
def progress_bar(
    what: str, total: int, done: int = 0, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of steps just done; draws on a terminal alone."""
    with _progress(what, total, done, quiet) as (progress, task):
        yield lambda steps: progress.advance(task, steps)


@contextmanager
def progress_counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with (steps done, steps in all); draws on a terminal alone."""
    with _progress(what, None, 0, False) as (progress, task):
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def only_errors(*loggers: str) -> Iterator[None]:
    """Within it, libraries log nothing below errors."""
    levels = {logger: logger.level for logger in map(logging.getLogger, loggers)}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextmanager
def _progress(what: str, total: int | None, done: int, quiet: bool) -> Iterator[tuple]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    hidden = quiet or bool(_silent) or not console.is_terminal
    with Progress(*_columns(), console=console, disable=hidden, transient=True) as progress:
        _drawn_on.append(console)
        try:
            yield progress, progress.add_task(what, total=total, completed=done)
        finally:
            _drawn_on.remove(console)


def _columns() -> tuple[ProgressColumn, ...]:
    from rich import progress

    return (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left:"),
        progress.TimeRemainingColumn(),
    )


# ---------------------------------------------------------------------------------------- words


_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters, but for tabs and line ends, and lone surrogates escaped.

    Names of files and classes come from outside: a terminal obeys what they hold. Surrogates stand
    for bytes that are not UTF-8, which most outputs refuse.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """The words of a text with single spaces between."""
    return " ".join(text.split())


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def first_of(names: Iterable[object], most: int = 3) -> str:
    """The first few of some names: "a, b, c, ..."."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")


def counted(number: int, one: str, many: str = "") -> str:
    """ "1 clip", "2 clips"; ``many`` where an s does not make it."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def in_nfc(name: str) -> str:
    """A name in the spelling of Unicode that all systems can agree on: NFC."""
    return unicodedata.normalize("NFC", name)


def alike(names: Sequence[str]) -> tuple[str, ...]:
    """Class names to be compared: in NFC, unless two of them would then be the same."""
    spelled = tuple(map(in_nfc, names))
    return spelled if len(set(spelled)) == len(spelled) else tuple(names)


# --------------------------------------------------------------------------------------- tables


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first of them heads, in columns two spaces apart.

    The first column stands to the left, and so does any other without a number below its head.
    """
    return "\n".join("  ".join(row).rstrip() for row in _padded(rows)[0])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table, which also reads well in a terminal."""
    padded, is_left = _padded(rows)
    heads = zip(padded[0], is_left, strict=True)
    rule = ["-" * (len(head) + 2 - (not left)) + ":" * (not left) for head, left in heads]
    lines = ["| " + " | ".join(row) + " |" for row in padded]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def _padded(rows: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[bool]]:
    """The cells in the widths of their columns, and which columns stand to the left."""
    columns, is_left = [], []
    for column in zip(*rows, strict=True):
        width = max(map(len, column))
        numbers = any(cell.lstrip("+-")[:1].isdigit() for cell in column[1:])
        is_left.append(not columns or not numbers)
        columns.append([c.ljust(width) if is_left[-1] else c.rjust(width) for c in column])
    return [list(row) for row in zip(*columns, strict=True)], is_left
