"""Line charts of a run's metrics.csv as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

_WIDTH, _HEIGHT = 380, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 372, 10, 184


class Line(NamedTuple):
    """One line of a chart: its name, its CSS class, a value per epoch (None: not measured)."""

    name: str
    kind: str
    values: Sequence[float | None]


def line_chart(
    id: str,
    title: str,
    epochs: Sequence[float],
    lines: Sequence[Line],
    show: Callable[[float], str],
    *,
    from_zero: bool = False,
    kept: float | None = None,
) -> tuple[str, dict[str, Any]]:
    """A chart as an HTML figure, and what page.js needs to tell its values; one line at least.

    Args:
        id: of the SVG element.
        title: above the chart.
        epochs: ascending.
        lines: the values, at least one of them not None.
        show: how a value is written.
        from_zero: whether the axis begins at 0.
        kept: epoch to mark with a vertical line.
    """
    known = [value for line in lines for value in line.values if value is not None]
    ticks = _ticks(0.0 if from_zero else min(known), max(known))
    x_ticks = [tick for tick in _ticks(epochs[0], epochs[-1], 6) if tick == round(tick)]

    def x(epoch: float) -> float:
        first, last = epochs[0], epochs[-1]
        share = (epoch - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (_RIGHT - _LEFT), 1)

    def y(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)

    parts = []
    for i, tick in enumerate(ticks):
        kind = "grid" if i else "base"
        parts.append(
            f'<line class="{kind}" x1="{_LEFT}" x2="{_RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>'
            f'<text x="{_LEFT - 7}" y="{y(tick) + 4}" text-anchor="end">{_short(tick, show)}</text>'
        )
    inside = [tick for tick in x_ticks if epochs[0] <= tick <= epochs[-1]] or [epochs[0]]
    parts += [
        f'<text x="{x(tick)}" y="{_BOTTOM + 17}" text-anchor="middle">{tick:g}</text>'
        for tick in inside
    ]
    if kept is not None:
        parts.append(
            f'<line class="kept" x1="{x(kept)}" x2="{x(kept)}" y1="{_TOP}" y2="{_BOTTOM}"/>'
        )
    for line in lines:
        points = [
            (x(epoch), y(value))
            for epoch, value in zip(epochs, line.values, strict=True)
            if value is not None
        ]
        if len(points) > 1:
            path = " ".join(f"{a},{b}" for a, b in points)
            parts.append(f'<polyline class="{line.kind}" points="{path}"/>')
        if len(points) <= 30:
            parts += [f'<circle class="{line.kind}" cx="{a}" cy="{b}" r="2.5"/>' for a, b in points]
    parts.append(f'<line class="hair" x1="0" x2="0" y1="{_TOP}" y2="{_BOTTOM}"/>')
    keys = ""
    if len(lines) > 1:  # of one line alone, the title says what it is
        keys = "".join(f'<span class="key {one.kind}">{escape(one.name)}</span>' for one in lines)
    last = "; ".join(
        f"{line.name} {show(value)}"
        for line in lines
        if (value := next((v for v in reversed(line.values) if v is not None), None)) is not None
    )
    figure = (
        f'<figure><figcaption><b>{escape(title)}</b><span class="values">{keys}</span></figcaption>'
        f'<svg class="curve" id="{id}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)} over the epochs; at the end: {escape(last)}">'
        f"{''.join(parts)}</svg></figure>"
    )
    return figure, {
        "epochs": list(epochs),
        "x": [x(epoch) for epoch in epochs],
        "series": [
            [line.name, [None if value is None else show(value) for value in line.values]]
            for line in lines
        ],
    }


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
    text = show(tick)
    number, space, unit = text.partition("\u00a0")
    if "." in number and "e" not in number:
        number = number.rstrip("0").rstrip(".")
    return escape(f"{number}{space}{unit}")
