"""What ``gtdnet calibrate`` measured, as a model file tells it, and its reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

_SIZE, _LEFT, _RIGHT, _TOP, _BOTTOM = 260, 40, 250, 10, 220
_MAY_LACK = ("threshold", "precision", "low", "recall")
_OF_BACKGROUND = ("threshold", "events", "hours", "per_hour", "high", "expected", "missed")


class Diagram(NamedTuple):
    """A reliability diagram: its title, what it says in words, and its drawing as SVG."""

    title: str
    told: str
    view_box: str
    drawing: Markup


@dataclass(frozen=True)
class Calibrated:
    """A calibration.

    Attributes:
        measured: what the model file holds of it.
        diagrams: before and after.
        classes: each a mapping with name, clips, threshold, named, precision, low and recall.
        background: of streams; empty where none was measured.
    """

    measured: Mapping[str, Any]
    diagrams: tuple[Diagram, ...]
    classes: Sequence[Mapping[str, Any]]
    background: Mapping[str, Any]


def read_calibration(measured: Mapping[str, Any]) -> Calibrated | None:
    """A calibration of what a file holds; None where it is none, or another version's."""
    try:
        diagrams = tuple(
            _diagram(f"{when.capitalize()} calibration", measured["reliability"][when], error)
            for when, error in (("before", measured["ece"]["before"]),
                                ("after", measured["ece"]["after"]))
        )  # fmt: skip
        classes = [
            {"name": str(row["name"]), "clips": row["clips"], **{k: row[k] for k in _MAY_LACK}}
            for row in measured["classes"]
        ]
        background = measured.get("background") or {}
        numbers = [measured[key] for key in ("temperature", "clips", "precision", "confidence")]
        numbers += [measured["nll"][when] for when in ("before", "after")]
        numbers += [row["clips"] for row in classes]
        numbers += [row[k] for row in classes for k in _MAY_LACK if row[k] is not None]
        if background:
            numbers += [background[key] for key in _OF_BACKGROUND]
        if not all(isinstance(number, (int, float)) for number in numbers):
            return None
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return Calibrated(measured, diagrams, classes, background)


def _diagram(title: str, bins: Sequence[Sequence[Any]], error: float) -> Diagram:
    """Bars: the share that is right of the answers with such a probability; a dot: their mean."""
    answers = [int(one[0]) for one in bins]
    most, width = max(answers), (_RIGHT - _LEFT) / len(bins)

    def x(share: float) -> float:
        return round(_LEFT + share * (_RIGHT - _LEFT), 1)

    def y(share: float) -> float:
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)

    parts = []
    for tick in (0, 0.5, 1):
        kind = "grid" if tick else "base"
        parts.append(
            f'<line class="{kind}" x1="{_LEFT}" x2="{_RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>'
        )
        label = f"{100 * tick:g}\u00a0%"
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{label}</text>')
        parts.append(f'<text x="{x(tick)}" y="{_BOTTOM + 16}" text-anchor="middle">{label}</text>')
    for k, (count, confidence, accuracy) in enumerate(bins):
        if not count:
            continue
        shade = 0.25 + 0.75 * (int(count) / most) ** 0.5  # where most answers are it is darkest
        parts.append(
            f'<rect class="bar" x="{_LEFT + k * width + 1:.1f}" width="{width - 2:.1f}" '
            f'y="{y(float(accuracy))}" height="{_BOTTOM - y(float(accuracy)):.1f}" '
            f'opacity="{shade:.2f}"/>'
        )
        parts.append(
            f'<circle class="dot" cx="{x(float(confidence))}" cy="{y(float(accuracy))}" r="3"/>'
        )
    parts.append(f'<line class="ideal" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    told = f"calibration error {100 * float(error):.1f}\u00a0% over {sum(answers)} answers"
    return Diagram(title, told, f"0 0 {_SIZE} {_BOTTOM + 24}", Markup("".join(parts)))
