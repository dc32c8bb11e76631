"""``predict --timeline``: the probabilities of classes over the time of a video, as a picture."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from gtdnet.files import atomic_path
from gtdnet.infer.answers import Window, merge_windows
from gtdnet.infer.fonts import installed
from gtdnet.infer.render import clock, percent
from gtdnet.text import printable

# Told apart in print and by those who see few colours (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, GREY, FAINT = "#1b1f24", "#636b75", "#dfe3e8"
_WIDTH, _ROW, _LONGEST = 11.0, 0.62, 38  # inches, inches, letters of a name


def borders(windows: Sequence[Window]) -> NDArray[np.float64]:
    """Seconds between which each window is the nearest one: [windows + 1].

    In windows side by side these are their ends; of windows that overlap, the middle between their
    centres.
    """
    centres = np.array([(w.start + w.end) / 2 for w in windows])
    inner = (centres[1:] + centres[:-1]) / 2
    side_by_side = [a.end == b.start for a, b in pairwise(windows)]
    ends = np.array([w.end for w in windows[:-1]])
    inner = np.where(side_by_side, ends, inner)
    return np.concatenate([[windows[0].start], inner, [windows[-1].end]])


def shown_classes(windows: Sequence[Window], most: int = len(COLOURS)) -> list[tuple[int, str]]:
    """The classes (label, name) that matter: by how long and how surely each is the best one.

    Those that are never the best one follow by their mean probability.
    """
    best: dict[int, float] = {}
    mean: dict[int, float] = {}
    names: dict[int, str] = {}
    for window in windows:
        first = window.scores[0]
        best[first.label] = best.get(first.label, 0.0) + first.probability
        for score in window.scores:
            mean[score.label] = mean.get(score.label, 0.0) + score.probability
            names[score.label] = score.name
    order = sorted(names, key=lambda k: (-best.get(k, 0.0), -mean[k], k))
    return [(label, names[label]) for label in order[:most]]


def save_timeline(
    path: str | Path, title: str, windows: Sequence[Window], named: Sequence[Window] | None = None
) -> None:
    """Write the picture (.png, .pdf or .svg), atomically; arguments as of :func:`draw`."""
    with warnings.catch_warnings(), atomic_path(path) as temporary:
        # Letters that no font here has are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        draw(title, windows, named).savefig(temporary, dpi=150)


def draw(title: str, windows: Sequence[Window], named: Sequence[Window] | None = None) -> Figure:
    """A row for each class that matters, its probability over time; below, the best class.

    Of a calibrated model ``named`` are the same windows with the classes alone that are named:
    then the lowest row has these, and gaps.
    """
    classes, edges = shown_classes(windows), borders(windows)
    rows = len(classes)
    height = 1.35 + _ROW * (rows + 1)
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    family = {"family": installed(), "parse_math": False}
    axes = figure.subplots(rows + 1, 1, sharex=True)
    left, right = 0.29, 0.985
    figure.subplots_adjust(left, 0.6 / height, right, 1 - 0.55 / height, hspace=0.28)
    figure.text(0.012, 1 - 0.33 / height, _short(title, 110), size=12, color=INK, **family)
    colours = dict(zip([label for label, _ in classes], COLOURS, strict=False))
    for ax, (label, name) in zip(axes, classes, strict=False):
        values = [next((s.probability for s in w.scores if s.label == label), 0.0) for w in windows]
        ax.stairs(values, edges, fill=True, color=colours[label], alpha=0.85, lw=0)
        ax.set_ylim(0, 1)
        ax.set_yticks([0, 1], ["0", "100 %"], size=7, color=GREY)
        ax.yaxis.tick_right()
        ax.set_ylabel(
            _short(name), rotation=0, ha="right", va="center", size=10, color=INK, **family
        )
    _best_row(axes[-1], windows if named is None else named, colours, edges, family)
    for ax in axes:
        ax.tick_params(length=0)
        ax.spines[["top", "left", "right"]].set_visible(False)
        ax.spines["bottom"].set_color(FAINT)
    figure.subplots_adjust(right=0.95)
    axes[-1].set_xlim(edges[0], max(edges[-1], edges[0] + 1e-3))
    axes[-1].xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 3, 6, 10]))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x).removesuffix(".0")))
    axes[-1].tick_params(axis="x", length=3, labelsize=9, labelcolor=GREY, color=FAINT)
    return figure


def _best_row(ax, windows, colours, edges, family) -> None:
    """The best class of each moment as a band, its name where there is room."""
    total = max(edges[-1] - edges[0], 1e-3)
    for segment in merge_windows(windows):
        colour = colours.get(segment.label, GREY)
        width = segment.end - segment.start
        ax.axvspan(segment.start, segment.end, color=colour, lw=0)
        room = int(width / total * 95)  # letters
        text = f"{segment.name}  {percent(segment.probability)}"
        text = text if len(text) <= room else segment.name
        if len(text) <= room:
            middle = segment.start + width / 2
            ax.text(middle, 0.5, printable(text), size=9, color="white", ha="center", va="center",
                    **family)  # fmt: skip
    ax.set_ylim(0, 1)
    ax.set_yticks([])
    ax.set_ylabel("best", rotation=0, ha="right", va="center", size=10, color=GREY)


def _short(name: str, most: int = _LONGEST) -> str:
    name = printable(name).replace("\n", " ")
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"
