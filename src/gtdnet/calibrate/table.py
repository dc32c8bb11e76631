"""What a calibration found, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gtdnet.infer.render import percent
from gtdnet.text import aligned, counted


def describe(result: Mapping[str, Any]) -> str:
    """The fit, the thresholds and the background, in a few lines."""
    measured = result["measured"]
    nll, ece = measured["nll"], measured["ece"]
    fit = [
        ("", "before", "after"),
        ("negative log likelihood", f"{nll['before']:.4f}", f"{nll['after']:.4f}"),
        ("calibration error", _percent(ece["before"]), _percent(ece["after"])),
    ]
    parts = [
        f"temperature {measured['temperature']:g}, by {counted(measured['clips'], 'clip')}",
        aligned(fit),
    ]
    rows = [
        (
            row["name"],
            str(row["clips"]),
            _threshold(row["threshold"]),
            _percent(row["precision"]),
            _percent(row["low"]),
            _percent(row["recall"]),
        )
        for row in measured["classes"]
    ]
    heads = ("class", "clips", "threshold", "precision", "at least", "recall")
    wanted, sure = measured["precision"], measured["confidence"]
    parts.append(
        f"from these probabilities on a class is named, so that {100 * wanted:g} % of its answers "
        f"are right ({100 * sure:g} % sure); any: however probable; none: it is never named"
    )
    parts.append(aligned([heads, *rows]))
    if background := measured.get("background"):
        parts.append(
            f"nothing below {background['threshold']:.6g}: {counted(background['events'], 'event')}"
            f" in {background['hours']:.3g} hours in which nothing happens, "
            f"{background['per_hour']:.3g} an hour (95 % sure: at most {background['high']:.3g})\n"
            f"of {background['expected']} events in {counted(background['clips'], 'clip')}, each a "
            f"short stream, {background['missed']} were missed; {background['wrong']} others were "
            f"seen\n{background['live']}"
        )
    else:
        parts.append(
            "no background was measured: --background FOLDER of videos in which nothing happens "
            "says below which probability a stream shows nothing"
        )
    parts.append(f"model: {result['output']}")
    return "\n\n".join(parts)


def _percent(share: float | None) -> str:
    return "-" if share is None else percent(share)


def _threshold(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.4f}" if value else "any"
