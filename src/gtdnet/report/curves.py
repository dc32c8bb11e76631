"""Line charts of a run's metrics.csv, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 380, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 372, 10, 184


class Line(NamedTuple):
    """One line of a chart: its name, its CSS class, a value per epoch (None: not measured)."""

    name: str
    kind: str
    values: Sequence[float | None]


class Chart(NamedTuple):
    """A chart; ``last`` tells the values at the end, ``data`` lets page.js tell the others."""

    name: str
    title: str
    lines: Sequence[Line]
    last: str
    view_box: str
    drawing: Markup
    data: dict[str, Any]


def line_chart(
    name: str,
    title: str,
    epochs: Sequence[float],
    lines: Sequence[Line],
    show: Callable[[float], str],
    *,
    from_zero: bool = False,
    kept: float | None = None,
) -> Chart | None:
    """Draw lines over the epochs (ascending); None if nothing was measured.

    Lines without a value are left out. ``name`` is the chart's in ids, ``show`` writes a value,
    ``from_zero`` lets the axis begin at 0, and a vertical line marks the epoch ``kept``.
    """
    lines = [line for line in lines if any(value is not None for value in line.values)]
    if not lines:
        return None
    known = [value for line in lines for value in line.values if value is not None]
    ticks = _ticks(0.0 if from_zero else min(known), max(known))
    first, last = epochs[0], epochs[-1]
    whole = [tick for tick in _ticks(first, last, 6) if tick == round(tick)]

    def x(epoch: float) -> float:
        share = (epoch - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (_RIGHT - _LEFT), 1)

    def y(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)

    parts = []
    for i, tick in enumerate(ticks):
        parts.append(_straight("grid" if i else "base", (_LEFT, _RIGHT), (y(tick), y(tick))))
        parts.append(_words(_LEFT - 7, y(tick) + 4, "end", _short(tick, show)))
    for tick in [tick for tick in whole if first <= tick <= last] or [first]:
        parts.append(_words(x(tick), _BOTTOM + 17, "middle", f"{tick:g}"))
    if kept is not None:
        parts.append(_straight("kept", (x(kept), x(kept)), (_TOP, _BOTTOM)))
    for line in lines:
        values = zip(epochs, line.values, strict=True)
        points = [(x(epoch), y(value)) for epoch, value in values if value is not None]
        if len(points) > 1:
            path = " ".join(f"{a},{b}" for a, b in points)
            parts.append(f'<polyline class="{line.kind}" points="{path}"/>')
        if len(points) <= 30:
            parts += [f'<circle class="{line.kind}" cx="{a}" cy="{b}" r="2.5"/>' for a, b in points]
    parts.append(_straight("hair", (0, 0), (_TOP, _BOTTOM)))
    series = [(line.name, [None if v is None else show(v) for v in line.values]) for line in lines]
    ends = [(name, next(text for text in reversed(texts) if text)) for name, texts in series]
    return Chart(
        name,
        title,
        lines,
        "; ".join(f"{name} {text}" for name, text in ends),
        f"0 0 {_WIDTH} {_HEIGHT}",
        Markup("".join(parts)),
        {"epochs": list(epochs), "x": [x(epoch) for epoch in epochs], "series": series},
    )


def _straight(kind: str, x: tuple[float, float], y: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{x[0]}" x2="{x[1]}" y1="{y[0]}" y2="{y[1]}"/>'


def _words(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``, about ``count`` steps."""
    size = max(abs(low), abs(high))
    if high - low <= max(1e-9 * size, 1e-30):  # one value, as far as anyone can see
        high = low + (size if size > 1e-30 else 1.0)
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _short(tick: float, show: Callable[[float], str]) -> str:
    """A value at the axis, without the zeros that ``show`` puts behind the point."""
    number, space, unit = show(tick).partition("\u00a0")
    if "." in number and "e" not in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number}{space}{unit}"
