"""Paragraphs and tables in Markdown, for all sections."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]
"""What a file of benchmarks/results holds."""


def parts(*blocks: str) -> str:
    """Tables as they are and paragraphs filled to 100 columns, with empty lines between."""
    fill = textwrap.TextWrapper(100, break_long_words=False, break_on_hyphens=False).fill
    return "\n\n".join(b if b.startswith("|") else fill(" ".join(b.split())) for b in blocks)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; numbers stand to the right."""
    columns = [_shown(column) for column in zip(*rows, strict=True)]
    numbers = (all(re.fullmatch(r"[-+]?\d[\d.e-]*|-", v) for v in column) for column in columns)
    rule = ["---:" if right else "---" for right in numbers]
    lines = [list(heads), rule, *zip(*columns, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(column: Sequence[Any]) -> list[str]:
    """The values of a column as text, its fractions with the same number of digits."""
    fractions = [v for v in column if isinstance(v, float)]
    digits = max((len(repr(v).partition(".")[2]) for v in fractions), default=0)
    same = all("e" not in repr(v) for v in fractions)
    return [f"{v:.{digits}f}" if same and isinstance(v, float) else cell(v) for v in column]


def cell(value: Any) -> str:
    """A value as text: "-" for none, at most five digits of a number."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {cell(v)}" for key, v in value.items())
    if isinstance(value, list):
        return listed(value)
    return " ".join(str(value).replace("|", "\\|").split())


def listed(values: Sequence[Any]) -> str:
    return ("; " if any(isinstance(v, list) for v in values) else ", ").join(map(cell, values))
