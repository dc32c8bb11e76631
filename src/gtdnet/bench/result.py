"""What a bench found: the envelope it travels in, its file, and its tables."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from gtdnet import moved
from gtdnet.files import NotWritten, write_yaml
from gtdnet.measure.machine import describe_load, describe_machine
from gtdnet.measure.memory import taken_mib
from gtdnet.measure.provenance import now, versions
from gtdnet.text import aligned, counted, one_line, say

Row = Mapping[str, Any]
Block = str | list[list[str]]
"""Sentences, or a table: rows of text, the first of them heads."""

_Columns = dict[str, Callable[[Row], Any]]


def envelope(
    kind: str, title: str, command: str, device: torch.device, packages: Iterable[str] = ()
) -> dict[str, Any]:
    """What every result begins with: what it is, the command, when, with and on what."""
    return {
        "title": title,
        "bench": kind,
        "command": command,
        "date": now(),
        "versions": versions(packages),
        "machine": describe_machine(device),
    }


def save(result: dict[str, Any], output: str | None) -> None:
    """Write a result as YAML, atomically; nothing without an output.

    Where there is no room the result says so as ``not_written``, and so does a message.
    """
    try:
        if output:
            write_yaml(output, result)
    except NotWritten as error:
        result["not_written"] = str(error)
        say(str(error))


def text(result: Row) -> str:
    """The blocks for a terminal, in lines of 100 columns."""
    fill = textwrap.TextWrapper(100, break_long_words=False, break_on_hyphens=False).fill
    return "\n\n".join(
        "\n".join(map(fill, block.splitlines())) if isinstance(block, str) else aligned(block)
        for block in blocks(result)
    )


def blocks(result: Row) -> list[Block]:
    """A result as sentences and tables, for the terminal and for documents."""
    return _data(result) if result["bench"] == "data" else _cases(result)


_CLOCKS = {"cpu": "CPU time", "gpu": "GPU time", "wall": "wall time"}
_SECONDS = {"cpu": "CPU-second", "gpu": "GPU second", "wall": "second"}
_SETTINGS: dict[str, tuple[str, Callable[[Any], str]]] = {  # head of a column; in a sentence
    "engine": ("engine", lambda v: f"engine {v}"),
    "setting": ("setting", str),
    "precision": ("precision", str),
    "layout": ("layout", str),
    "batch_size": ("batch", lambda v: f"batch {v}"),
    "threads": ("threads", lambda v: counted(v, "thread")),
    "num_segments": ("frames", lambda v: f"{v} frames"),
    "crop_size": ("pixels", lambda v: f"{v}x{v} pixels"),
}


def _cases(result: Row) -> list[Block]:
    """Of models and of training steps."""
    cases, clock, training = result["cases"], result["clock"], result["bench"] == "train"
    ms = "ms a step" if training else "ms"
    fixed, varying = _settings(cases)
    ratios: _Columns = {"/ floor": lambda c: _ratio(c["vs_floor"])}
    told = ""
    if training:
        ratios["x fp32-nchw"] = lambda c: _ratio(c["vs_fp32_nchw"])
        settings = "; ".join(f"{name}: {what}" for name, what in result["settings"].items())
        told = f"""x fp32-nchw: how many times as fast as the same network in fp32 and NCHW.
            Settings: {settings}."""
    elif result["reference"]:
        ratios["x reference"] = lambda c: _ratio(c["vs_reference"])
        told = f"x reference: how many times as fast as {result['reference']}, plain, fp32, NCHW."
    if not training:
        told += f" GFLOP/s: 2 x MACs per {_SECONDS[clock]}."
    kinds_of_memory = {kind for case in cases for kind in case["memory"]}
    if "gpu_peak_mib" in kinds_of_memory:
        told += " MiB: of the GPU's memory at most, weights included."
    elif "process_peak_mib" in kinds_of_memory:
        told += """ MiB: what a process of its own takes at most beyond its imports, weights
            included."""
    columns: _Columns = {
        "model": lambda c: c["model"],
        **varying,
        ms: lambda c: c["latency_ms"]["median"],
        "p95": lambda c: c["latency_ms"]["p95"],
        "clips/s": lambda c: c["clips_per_second"],
        "clips/CPU-s": lambda c: c["clips_per_cpu_second"] if clock == "cpu" else None,
        "GPU ms": lambda c: c["gpu_ms"] if clock == "gpu" else None,
        "GMACs": lambda c: c.get("gmacs"),
        "GFLOP/s": lambda c: c.get("gflops"),
        "of peak": lambda c: _percent(c.get("share_of_peak")),
        "MiB": lambda c: taken_mib(c["memory"]),
        "MiB / floor": lambda c: c["memory_vs_floor"],
        **ratios,
    }
    if clock != "wall":
        names = " and ".join(ratios)
        fixed.append(f"{ms}, p95 and clips/s are wall time, {names} {_CLOCKS[clock]}.")
    legend = f"""/ floor: time as a multiple of that of the plain 2D network in the same setting.
        Ratios: medians of {counted(result["rounds"], "round")} and their 95 % intervals. {told}"""
    unmeasured = [c for c in cases if "process_failed" in c["memory"]]
    return [
        *([" ".join(fixed)] if fixed else []),
        _table(columns, cases),
        *_circumstances(result, legend),
        *_by_reason("Memory not measured:", unmeasured, lambda c: c["memory"]["process_failed"]),
        *_by_reason("Left out:", result["left_out"], lambda c: c["reason"]),
        *(block for case in cases for block in _profile(case)),
    ]


def _settings(cases: Sequence[Row]) -> tuple[list[str], _Columns]:
    """Of the settings, a sentence of those that all cases share, and columns of the others."""
    fixed: list[str] = []
    varying: _Columns = {}
    for name, (head, told) in _SETTINGS.items():
        values = {case.get(name) for case in cases}
        if len(values) > 1:
            varying[head] = lambda case, name=name: str(case[name] or "-")
        elif values != {None}:
            fixed.append(told(values.pop()))
    return [f"The same for all: {', '.join(fixed)}."] if fixed else [], varying


def _by_reason(title: str, cases: Sequence[Row], reason: Callable[[Row], str]) -> list[Block]:
    """The cases by reason, if there are any; a model is named where it is the only one."""
    reasons: dict[str, dict[str, set[str]]] = {}
    for case in cases:
        label = " ".join(_setting(case))
        reasons.setdefault(reason(case), {}).setdefault(label, set()).add(case["model"])
    lines = [title]
    for why, labels in reasons.items():
        told = [
            f"{label} of {models.pop()}" if len(models) == 1 else label
            for label, models in labels.items()
        ]
        lines.append(f"- {', '.join(told)}: {why}")
    return ["\n".join(lines)] if cases else []


def _profile(case: Row) -> list[Block]:
    """Of a case that was profiled: its operators, and its time by kind of operation."""
    found: list[Block] = []
    label = ", ".join([case["model"], *_setting(case), f"batch {case['batch_size']}"])
    if operators := case.get("operators"):
        columns: _Columns = {
            "operator": lambda o: o["name"],
            "calls": lambda o: str(o["calls"]),
            "ms": lambda o: o["ms"],
            "share": lambda o: _percent(o["share"]),
        }
        found += [f"Operators of {label}, per call:", _table(columns, operators)]
    if kinds := case.get("kinds"):
        compared = "floor_ms" in kinds[0]
        whole, floor = (sum(row.get(key, 0.0) for row in kinds) for key in ("ms", "floor_ms"))
        told = f"{whole:.2f} - {floor:.2f} = {whole - floor:.2f}" if compared else f"{whole:.2f}"
        if compared:
            label += ", minus its floor"
        columns = {
            "kind": lambda k: k["kind"],
            "ms": lambda k: k["ms"],
            "floor": lambda k: k.get("floor_ms"),
            "difference": lambda k: k.get("more_ms"),
            "share of it" if compared else "share": lambda k: _percent(k["share"]),
        }
        found += [f"{label}, by kind of operation ({told} ms per call):", _table(columns, kinds)]
    return found


def _setting(case: Row) -> list[str]:
    names = ("engine", "setting", "precision", "layout")
    return [case[name] for name in names if case.get(name)]


def _data(result: Row) -> list[Block]:
    compared = any(stage["vs_first"] for stage in result["stages"])
    columns: _Columns = {
        **({"data": lambda c: c["data"]} if len(result["data"]) > 1 else {}),
        "view": lambda c: c["view"],
        "stage": lambda c: c["stage"],
        "CPU ms": lambda c: c["cpu_ms"],
        "wall ms": lambda c: c["wall_ms"],
        "videos/CPU-s": lambda c: c["videos_per_cpu_second"],
        "videos/s": lambda c: c["videos_per_second"],
        "x first": lambda c: _ratio(c["vs_first"]),
    }
    sets = [
        f"{name}: {d['videos']} videos ({d['format']}, {d['split']}; mostly {d['pixels']} pixels, "
        f"{d['median_frames']:g} frames in the median)"
        + (f", {d['failed']} more undecodable" if d["failed"] else "")
        for name, d in result["data"].items()
    ]
    further = counted(result["num_workers"], "further process", "further processes")
    legend = f"""Per video, with all its views. open: opening it and counting its frames; sample:
        choosing them; decode: decoding up to the last chosen one and converting the chosen ones;
        transform: crops, resizing, flips; collate: putting videos side by side; item: all of these;
        loader: the same in {further}, CPU time of all together."""
    if compared:
        clock, rounds = _CLOCKS[result["clock"]], result["rounds"]
        legend += f""" x first: how many times as fast as with the first data, by {clock}, median of
            {rounds} rounds and its 95 % interval."""
    return [
        one_line(f"{result['spec']}. {'; '.join(sets)}."),
        _table(columns, result["stages"]),
        *_circumstances(result, legend),
        *result["notes"],
    ]


def _circumstances(result: Row, legend: str) -> list[Block]:
    """What is below a table: whether it was measured for long enough, its legend, other load."""
    told: list[Block] = [one_line(legend)]
    if result["rounds"] < 6:
        rounds = counted(result["rounds"], "round")
        told.insert(0, f"Only {rounds}: too few for an interval, which takes 6; raise --seconds.")
    load = describe_load(result["load"], result["machine"]["cores"])
    return [*told, f"{load[0].upper()}{load[1:]}."]


def _table(columns: _Columns, rows: Sequence[Row]) -> list[list[str]]:
    """Heads, and a row for each mapping; without the columns that none of them fills."""
    values = {head: [_cell(cell(row)) for row in rows] for head, cell in columns.items()}
    filled = {head: cells for head, cells in values.items() if set(cells) != {"-"}}
    return [list(filled), *map(list, zip(*filled.values(), strict=True))]


def _cell(value: Any) -> str:
    """Text as it is; three digits of a number, and no more of a large one than its whole part."""
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(value: Row | None) -> str | None:
    if value is None:
        return None
    if value["low"] is None or value["low"] == value["high"]:  # the latter of itself
        return f"{value['ratio']:.3g}"
    digits = 2 if value["ratio"] < 10 else 1
    low, middle, high = (f"{value[key]:.{digits}f}" for key in ("low", "ratio", "high"))
    return f"{middle} [{low}, {high}]"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{round(100 * share)} %"


__getattr__ = moved.names(__name__)
