"""What the camera sees, in a terminal: two pixels a letter, one above the other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style


class Picture:
    """A picture, uint8 [H, W, 3], as large as fits into ``columns`` x ``rows`` letters."""

    def __init__(self, rgb: NDArray[np.uint8], columns: int, rows: int) -> None:
        self.pixels = shrunk(rgb, columns, 2 * rows)  # [2*R, C, 3]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._segments()

    def _segments(self) -> Iterable[Segment]:
        upper, lower = self.pixels[0::2], self.pixels[1::2]
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            for top, bottom in zip(above, below, strict=True):
                yield Segment("▀", Style(color=_colour(top), bgcolor=_colour(bottom)))
            yield Segment.line()


def shrunk(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The picture at its own shape within width x height, of an even height; nearest pixels."""
    h, w = rgb.shape[:2]
    scale = min(width / w, height / h)
    columns = max(1, min(width, round(w * scale)))
    rows = max(2, min(height, 2 * round(h * scale / 2)))
    at_rows = (np.arange(rows) + 0.5) * h / rows
    at_columns = (np.arange(columns) + 0.5) * w / columns
    return rgb[at_rows.astype(int)[:, None], at_columns.astype(int)]


def _colour(rgb: list[int]) -> Color:
    return Color.from_triplet(ColorTriplet(*rgb))
