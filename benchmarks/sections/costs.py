"""What every backbone costs, by engine: ``benchmarks/costs.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gtdnet.measure.machine import describe_load
from sections.markdown import Results, parts, table

METHODS = {"tsn": "TSN", "tsm": "TSM", "gtdnet": "GTDNet"}


def render(results: Results) -> str:
    counted, measured = results["numbers"], results["parts"]
    clip, yardstick = results["clip"], results["yardstick"].split()
    side = clip["crop_size"]
    heads = ["backbone", *(f"M parameters, {name}" for name in METHODS.values())]
    sizes = [
        [backbone, *(of[m][key] for key in ("m_parameters", "gmacs") for m in METHODS)]
        for backbone, of in counted.items()
    ]
    times = []
    for name, part in measured.items():
        backbone, engine = name.split(", ")
        for precision in dict.fromkeys(key.split()[1] for key in part["rows"]):
            rows = [part["rows"].get(f"{method} {precision}") for method in METHODS]
            times.append([backbone, engine, precision, *_row(rows)])
    by_backbone = {backbone: place for place, backbone in enumerate(counted)}
    times.sort(key=lambda row: by_backbone[row[0]])
    cores = results["machine"]["cores"]
    loads = {name: describe_load(part["load"], cores) for name, part in measured.items()}
    profiles = [block for name, part in measured.items() for block in _profiles(name, part)]
    return parts(
        f"""A clip of {clip["num_segments"]} frames of {side}x{side} pixels at 174 classes. Numbers
        that follow from the architecture alone first; GMACs: billions of multiply-accumulates.""",
        table([*heads, *(f"GMACs, {name}" for name in METHODS.values())], sizes),
        f"""One clip, one thread, CPU milliseconds, medians. The models of a row, its backbone's
        others in the same engine and the yardstick ({yardstick[0]} in {yardstick[1]},
        {yardstick[2]}) took turns in one process: times as multiples of the floor's (TSN) with
        their 95 % intervals, and TSN's as a multiple of the yardstick's, are ratios within rounds,
        which other load moves less; where no interval stands there were fewer than six rounds, and
        such a ratio is a guide. A millisecond of two rows may be another.""",
        table(
            ["backbone", "engine", "precision", "TSN, ms", "TSM, ms", "GTDNet, ms", "TSM / floor",
             "GTDNet / floor", "TSN / yardstick"],
            times,
        ),
        *profiles,
        "Meanwhile: " + "; ".join(f"{name}: {told}" for name, told in loads.items()) + ".",
    )  # fmt: skip


def _row(rows: list[Mapping[str, Any] | None]) -> list[Any]:
    """Milliseconds of the three, the ratios of two to the first, its ratio to the yardstick."""
    floor = rows[0]
    return [
        *(None if row is None else row["cpu_ms"] for row in rows),
        *(_ratio(row and row["vs_floor"]) for row in rows[1:]),
        _ratio(floor and floor["vs_yardstick"]),
    ]


def _ratio(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    told = f"{value['ratio']:.2f}"
    if value["low"] is None:
        return told
    return f"{told} [{value['low']:.2f}, {value['high']:.2f}]"


def _profiles(name: str, part: Mapping[str, Any]) -> list[str]:
    """Where what a model takes more than its floor goes, of those that were profiled."""
    told = []
    for key, row in part["rows"].items():
        if kinds := row.get("kinds"):
            method, precision = key.split()
            told += [
                f"{METHODS[method]}, {name}, {precision}, minus its floor, in ms per call:",
                table(
                    ["kind", "ms", "floor", "difference"],
                    [[k["kind"], k["ms"], k.get("floor_ms"), k.get("more_ms")] for k in kinds],
                ),
            ]
    return told
