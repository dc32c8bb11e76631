"""Pictures and text placed in inches on a figure, in the fonts that are here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from gtdnet.infer.fonts import FONTS, installed

__all__ = ["ACCENT", "FAINT", "FONTS", "GREY", "INK", "Canvas", "quiet_fonts", "save"]

INK, GREY, FAINT, ACCENT = "#1b1f24", "#636b75", "#dfe3e8", "#f2a33c"


class Canvas:
    """A figure on which things are placed in inches from its top left corner."""

    def __init__(self, width: float, dpi: int) -> None:
        self.width, self.dpi = width, dpi
        self.figure = Figure(figsize=(width, 1), dpi=dpi, facecolor="white")
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.family = installed()

    def finish(self, height: float) -> Figure:
        self.figure.set_size_inches(self.width, height)
        self.axes.set_aspect("auto")
        self.axes.set_xlim(0, self.width)
        self.axes.set_ylim(height, 0)
        return self.figure

    def picture(
        self, picture: NDArray[np.uint8], x: float, y: float, width: float, height: float = 0
    ) -> None:
        height = height or width
        extent = (x, x + width, y + height, y)
        self.axes.imshow(picture, extent=extent, interpolation="antialiased")
        self.axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=FAINT, lw=0.4))

    def bar(self, x: float, y: float, width: float, height: float, share: float) -> None:
        for colour, part in ((FAINT, 1.0), (ACCENT, share)):
            self.axes.add_patch(Rectangle((x, y), width * part, height, color=colour, lw=0))

    def disc(self, centre: tuple[float, float], radius: float, ring: float) -> None:
        self.axes.add_patch(Circle(centre, radius, facecolor=ACCENT, lw=0))
        self.axes.add_patch(
            Circle(centre, ring, fill=False, edgecolor=GREY, lw=0.5, ls=(0, (3, 3)))
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: str,
        width: float,
        *,
        bold: bool = False,
        align: str = "left",
        lines: int = 1,
    ) -> float:
        """Text from y downwards, wrapped to ``width``, shortened to ``lines``; returns its end."""
        font = FontProperties(family=self.family, size=size, weight="bold" if bold else "normal")
        step = 1.22 * size / 72
        for line in self._wrap(text, font, width, lines):
            self.axes.text(
                x, y + 0.82 * step, line, font=font, color=colour, ha=align, parse_math=False
            )
            y += step
        return y

    def _wrap(self, text: str, font: FontProperties, width: float, lines: int) -> list[str]:
        words, wrapped = text.split(" "), []
        while words and len(wrapped) < lines - 1:
            count = len(words)
            while count > 1 and self._width(" ".join(words[:count]), font) > width:
                count -= 1
            wrapped.append(self._shorten(" ".join(words[:count]), font, width))
            words = words[count:]
        if words:
            wrapped.append(self._shorten(" ".join(words), font, width))
        return wrapped

    def _shorten(self, text: str, font: FontProperties, width: float) -> str:
        if self._width(text, font) <= width:
            return text
        while text and self._width(f"{text}…", font) > width:
            text = text[:-1]
        return f"{text.rstrip()}…"

    def _width(self, text: str, font: FontProperties) -> float:
        return self.renderer.get_text_width_height_descent(text, font, ismath=False)[0] / self.dpi


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """Within it, nothing is said of letters that no font here has: they are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a .png, .pdf or .svg file."""
    figure.savefig(path, dpi=figure.dpi, metadata=_metadata(path))


def _metadata(path: Path) -> dict[str, str | None]:
    # The same clip gives the same file: no time of writing in it.
    if path.suffix.lower() == ".png":
        return {"Software": "gtdnet"}
    return {"CreationDate": None} if path.suffix.lower() == ".pdf" else {"Date": None}
