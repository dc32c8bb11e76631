"""Fonts for class names, in whatever letters they are written."""

from __future__ import annotations

from functools import cache
from pathlib import Path

# The first that is there; the others fill in for the letters it does not have.
FONTS = (
    "Arial", "Liberation Sans", "DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC",
    "Arial Unicode MS", "Hiragino Sans", "Microsoft YaHei",
)  # fmt: skip


@cache
def installed() -> list[str]:
    """Those of :data:`FONTS` that are there."""
    from matplotlib import font_manager

    names = set(font_manager.get_font_names())
    return [name for name in FONTS if name in names]


@cache
def font_file(text: str) -> Path:
    """The file of the first font that has all letters of a text, or the most of them."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    letters = {ord(letter) for letter in text if not letter.isspace()}
    files = [font_manager.findfont(name) for name in installed()]
    missing = {file: len(letters - set(FT2Font(file).get_charmap())) for file in files}
    return Path(min(files, key=lambda file: missing[file]))
