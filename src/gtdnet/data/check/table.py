"""Classes and their numbers of clips as text that stays readable with hundreds of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from gtdnet.data.formats.base import ALIASES
from gtdnet.text import counted, one_line, printable

WIDTH = 80
MOST = 60  # classes that are all listed; of more the ends
ENDS = 10
_LONG = 12  # classes from which on they stand in several columns
_BETWEEN = 4

Row = tuple[str, ...]  # a class and its number of clips in each split


def class_table(names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> str:
    """A line a class, in columns where they fit; of more than 60 classes the largest and smallest.

    ``counts`` has the clips of each class, by split. Classes come in their own order, which is
    that of the labels; the largest and smallest by their training clips (the first split's).
    """
    heads = ("class", *(ALIASES[split][0] for split in counts))
    rows = [
        (one_line(printable(name)), *(str(clips[label]) for clips in counts.values()))
        for label, name in enumerate(names)
    ]
    if len(rows) <= MOST:
        return _columns(heads, rows)
    first = next(iter(counts.values()))
    order = sorted(range(len(names)), key=lambda label: (-first[label], label))
    middle = order[ENDS:-ENDS]
    largest, smallest = ([rows[label] for label in part] for part in (order[:ENDS], order[-ENDS:]))
    width = max(_width(row[0]) for row in (*largest, *smallest))
    ranges = [
        f"{min(clips[label] for label in middle)}-{max(clips[label] for label in middle)} clips "
        f"each in {split}, {sum(clips[label] for label in middle)} in all"
        for split, clips in counts.items()
    ]
    return "\n".join(
        [
            f"The {ENDS} largest:",
            _columns(heads, largest, width),
            f"The {ENDS} smallest:",
            _columns(heads, smallest, width),
            f"The {counted(len(middle), 'class', 'classes')} between (--json has all):",
            *(f"  {line}" for line in ranges),
        ]
    )


def _columns(heads: Row, rows: Sequence[Row], least: int = 0) -> str:
    """Rows one below another, going on in a column to the right where they are many and short."""
    widths = [max(map(_width, column)) for column in zip(heads, *rows, strict=True)]
    widths[0] = min(max(widths[0], least), WIDTH - sum(2 + width for width in widths[1:]))
    whole = sum(widths) + 2 * (len(widths) - 1)
    columns = max(1, (WIDTH + _BETWEEN) // (whole + _BETWEEN)) if len(rows) > _LONG else 1
    height = max(1, -(-len(rows) // columns))
    parts = [rows[start : start + height] for start in range(0, len(rows), height)] or [rows]
    lines = [[_line(heads, widths) for _ in parts]]
    lines += [
        [_line(part[number], widths) for part in parts if number < len(part)]
        for number in range(height)
    ]
    return "\n".join((" " * _BETWEEN).join(line).rstrip() for line in lines)


def _line(row: Row, widths: Sequence[int]) -> str:
    name, *numbers = row
    cells = [_fit(name, widths[0])]
    cells += [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
    return "  ".join(cells)


def _fit(text: str, width: int) -> str:
    """The text in exactly that many columns, shortened at its end."""
    if _width(text) > width:
        while _width(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns of a terminal: two for wide letters, none for marks that combine."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
