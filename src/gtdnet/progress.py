"""Progress and messages on stderr, so that stdout holds results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def say(message: str, console: Console | None = None) -> None:
    """One message on stderr (or the given console), as it is."""
    console = console or Console(stderr=True)
    console.print(message, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(
    what: str, total: int, done: int = 0, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of steps just done; draws on a terminal alone."""
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(*_columns(), console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda steps: progress.advance(task, steps)


@contextmanager
def progress_counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with (steps done, steps in all); draws on a terminal alone."""
    console = Console(stderr=True)
    hidden = not console.is_terminal
    with Progress(*_columns(), console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
