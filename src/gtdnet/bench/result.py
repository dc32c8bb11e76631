"""What a bench found: the envelope it travels in, its file, and its tables."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import yaml

from gtdnet.files import write_text
from gtdnet.measure.machine import describe_load, describe_machine
from gtdnet.measure.memory import taken_mib
from gtdnet.measure.provenance import now, versions
from gtdnet.text import aligned, counted, one_line

Result = Mapping[str, Any]
_Cell = Callable[[Mapping[str, Any]], str]
_Columns = dict[str, _Cell]


class Table(NamedTuple):
    """Heads, and rows of text under them."""

    heads: list[str]
    rows: list[list[str]]


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


def save(result: Result, output: str | None) -> None:
    """Write a result as YAML, atomically; nothing without an output."""
    if output:
        write_text(output, yaml.safe_dump(dict(result), sort_keys=False, allow_unicode=True))


def blocks(result: Result) -> list[str | Table]:
    """A result as sentences and tables, for the terminal and for documents.

    Raises:
        KeyError: the result lacks something.
    """
    return _BLOCKS[result["bench"]](result)


def text(result: Result) -> str:
    """The blocks for a terminal."""
    return "\n\n".join(
        _filled(b) if isinstance(b, str) else aligned([b.heads, *b.rows]) for b in blocks(result)
    )


# ------------------------------------------------------------------------- models, training

_CLOCKS = {"cpu": "CPU time", "gpu": "GPU time", "wall": "wall time"}
_SECONDS = {"cpu": "CPU-second", "gpu": "GPU second", "wall": "second"}


def _models(result: Result) -> list[str | Table]:
    columns: _Columns = {
        "GMACs": lambda c: _number(c["gmacs"]),
        "GFLOP/s": lambda c: _number(c["gflops"]),
        "of peak": lambda c: _percent(c["share_of_peak"]),
    }
    ratios: _Columns = {"/ floor": lambda c: _ratio(c["vs_floor"])}
    told = ""
    if result["reference"]:
        ratios["x reference"] = lambda c: _ratio(c["vs_reference"])
        told = f"x reference: how many times as fast as {result['reference']}, plain, fp32, NCHW."
    several = len({p["threads"] for p in result["peak_gflops"]}) > 1
    peaks = [
        f"{_number(p['gflops'])} in {p['precision']}"
        + (f" with {counted(p['threads'], 'thread')}" if several else "")
        for p in result["peak_gflops"]
        if p["gflops"]
    ]
    told += f""" GFLOP/s: 2 x MACs per {_SECONDS[result["clock"]]}; the most seen here:
        {" and ".join(peaks) or "unknown"}."""
    return _bench(result, "ms", _MODEL_SETTINGS, columns, ratios, told)


def _train(result: Result) -> list[str | Table]:
    ratios: _Columns = {
        "/ floor": lambda c: _ratio(c["vs_floor"]),
        "x fp32-nchw": lambda c: _ratio(c["vs_fp32_nchw"]),
    }
    told = f"""x fp32-nchw: how many times as fast as the same network in fp32 and NCHW. Settings:
        {"; ".join(f"{k}: {v}" for k, v in result["settings"].items())}."""
    return _bench(result, "ms a step", _TRAIN_SETTINGS, {}, ratios, told)


def _bench(
    result: Result,
    head: str,
    settings: Mapping[str, Callable[[Any], str]],
    columns: _Columns,
    ratios: _Columns,
    told: str,
) -> list[str | Table]:
    """What the results of models and of training steps have in common."""
    cases, clock = result["cases"], result["clock"]
    first, varying = _settings(cases, settings)
    if clock != "wall":
        first += [
            f"{head}, p95 and clips/s are wall time, {' and '.join(ratios)} {_CLOCKS[clock]}."
        ]
    memory, memory_legend = _memory(cases)
    table = {
        "model": lambda c: c["model"],
        **varying,
        **_times(head, clock),
        **columns,
        **memory,
        **ratios,
    }
    legend = f"""/ floor: time as a multiple of that of the plain 2D network in the same setting.
        Ratios: medians of {counted(result["rounds"], "round")} and their 95 % intervals. {told}
        {memory_legend}"""
    unmeasured = [c for c in cases if "process_failed" in c["memory"]]
    return [
        *([" ".join(first)] if first else []),
        _table(table, cases),
        *_circumstances(result, legend),
        *_by_reason("Memory not measured:", unmeasured, lambda c: c["memory"]["process_failed"]),
        *_by_reason("Left out:", result["left_out"], lambda c: c["reason"]),
        *_profiles(cases),
    ]


def _profiles(cases: Sequence[Mapping[str, Any]]) -> list[str | Table]:
    """Of each case that was profiled: its operators, and its time by kind of operation."""
    found: list[str | Table] = []
    for case in cases:
        parts = (case.get(k) for k in ("model", "engine", "setting", "precision", "layout"))
        batch = f"batch {case['batch_size']}"
        label = ", ".join(str(part) for part in [*parts, batch] if part)
        if case.get("operators"):
            found += [f"Operators of {label}, per call:", _table(_OPERATORS, case["operators"])]
        if kinds := case.get("kinds"):
            whole = sum(row["ms"] for row in kinds)
            if "floor_ms" in kinds[0]:
                floor = sum(row["floor_ms"] for row in kinds)
                told = f"{whole:.2f} - {floor:.2f} = {whole - floor:.2f}"
                found += [f"{label}, minus its floor, by kind of operation ({told} ms per call):"]
                found += [_table(_KINDS_VS_FLOOR, kinds)]
            else:
                found += [f"{label}, by kind of operation ({whole:.2f} ms per call):"]
                found += [_table(_KINDS, kinds)]
    return found


_OPERATORS: _Columns = {
    "operator": lambda o: o["name"],
    "calls": lambda o: str(o["calls"]),
    "ms": lambda o: _number(o["ms"]),
    "share": lambda o: _percent(o["share"]),
}
_KINDS: _Columns = {
    "kind": lambda k: k["kind"],
    "ms": lambda k: _number(k["ms"]),
    "share": lambda k: _percent(k["share"]),
}
_KINDS_VS_FLOOR: _Columns = {
    "kind": lambda k: k["kind"],
    "ms": lambda k: _number(k["ms"]),
    "floor": lambda k: _number(k["floor_ms"]),
    "difference": lambda k: _number(k["more_ms"]),
    "share of it": lambda k: _percent(k["share"]),
}


# -------------------------------------------------------------------------------------- data


def _data(result: Result) -> list[str | Table]:
    several = len(result["data"]) > 1
    compared = any(stage["vs_first"] for stage in result["stages"])
    clock = result["clock"]
    columns: _Columns = {
        **({"data": lambda c: c["data"]} if several else {}),
        "view": lambda c: c["view"],
        "stage": lambda c: c["stage"],
        "CPU ms": lambda c: _number(c["cpu_ms"]),
        "wall ms": lambda c: _number(c["wall_ms"]),
        "videos/CPU-s": lambda c: _number(c["videos_per_cpu_second"]),
        "videos/s": lambda c: _number(c["videos_per_second"]),
    }
    if compared:
        columns["x first"] = lambda c: _ratio(c["vs_first"])
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
        legend += f""" x first: how many times as fast as with the first data, by {_CLOCKS[clock]},
            median of {result["rounds"]} rounds and its 95 % interval."""
    return [
        one_line(f"{result['spec']}. {'; '.join(sets)}."),
        _table(columns, result["stages"]),
        *_circumstances(result, legend),
        *map(str, result["notes"]),
    ]


def _several(result: Result) -> list[str | Table]:
    """Several benches that were run one after the other."""
    found: list[str | Table] = []
    for part in result["parts"]:
        found += [f"### {part['title']}", f"`{part['command']}`", *blocks(part)]
    failed = [f"- {title}: {reason}" for title, reason in result["failed"].items()]
    return [*found, "\n".join(["Not measured:", *failed])] if failed else found


_BLOCKS: dict[str, Callable[[Result], list[str | Table]]] = {
    "models": _models,
    "train": _train,
    "data": _data,
    "several": _several,
}

# ------------------------------------------------------------------------------------- parts

_MODEL_SETTINGS: dict[str, Callable[[Any], str]] = {
    "engine": lambda v: f"engine {v}",
    "precision": str,
    "layout": str,
    "batch_size": lambda v: f"batch {v}",
    "threads": lambda v: counted(v, "thread"),
    "num_segments": lambda v: f"{v} frames",
    "crop_size": lambda v: f"{v}x{v} pixels",
}
_TRAIN_SETTINGS = {
    "setting": str,
    **{k: _MODEL_SETTINGS[k] for k in ("batch_size", "threads", "num_segments", "crop_size")},
}
_HEADS = {"batch_size": "batch", "num_segments": "frames", "crop_size": "pixels"}


def _times(head: str, clock: str) -> _Columns:
    """Of a call, by the wall clock and by that of the ratios."""
    columns: _Columns = {
        head: lambda c: _number(c["latency_ms"]["median"]),
        "p95": lambda c: _number(c["latency_ms"]["p95"]),
        "clips/s": lambda c: _number(c["clips_per_second"]),
    }
    if clock == "cpu":
        columns["clips/CPU-s"] = lambda c: _number(c["clips_per_cpu_second"])
    if clock == "gpu":
        columns["GPU ms"] = lambda c: _number(c["gpu_ms"])
    return columns


def _settings(
    cases: Sequence[Mapping[str, Any]], names: Mapping[str, Callable[[Any], str]]
) -> tuple[list[str], _Columns]:
    """Of the settings, a sentence of those that all cases share, and columns of the others."""
    fixed: list[str] = []
    varying: _Columns = {}
    for name, told in names.items():
        values = {case[name] for case in cases}
        if len(values) > 1:
            varying[_HEADS.get(name, name)] = lambda case, name=name: str(case[name] or "-")
        elif values != {None}:
            fixed.append(told(values.pop()))
    return [f"The same for all: {', '.join(fixed)}."] if fixed else [], varying


def _table(columns: _Columns, rows: Iterable[Mapping[str, Any]]) -> Table:
    return Table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _circumstances(result: Result, legend: str) -> list[str | Table]:
    """What is below a table: whether it was measured for long enough, its legend, other load."""
    told = [one_line(legend)]
    if result["rounds"] < 6:
        rounds = counted(result["rounds"], "round")
        told.insert(0, f"Only {rounds}: too few for an interval, which takes 6; raise --seconds.")
    load = describe_load(result["load"], result["machine"]["cores"])
    return [*told, f"{load[0].upper()}{load[1:]}."]


def _by_reason(title: str, cases: Sequence[Mapping[str, Any]], reason: _Cell) -> list[str | Table]:
    """The cases by reason, if there are any; a model is named where it is the only one."""
    reasons: dict[str, dict[str, set[str]]] = {}
    for case in cases:
        keys = ("engine", "setting", "precision", "layout")
        label = " ".join(str(case[key]) for key in keys if case.get(key))
        reasons.setdefault(reason(case), {}).setdefault(label, set()).add(case["model"])
    lines = []
    for why, labels in reasons.items():
        told = [
            f"{label} of {models.pop()}" if len(models) == 1 else label
            for label, models in labels.items()
        ]
        lines.append(f"- {', '.join(told)}: {why}")
    return ["\n".join([title, *lines])] if lines else []


def _memory(cases: Sequence[Mapping[str, Any]]) -> tuple[_Columns, str]:
    """Columns and legend; none where no memory was measured."""
    keys = {key for case in cases for key in case["memory"]}
    legend = ""
    if "gpu_peak_mib" in keys:
        legend = "MiB: of the GPU's memory at most, weights included."
    elif "process_peak_mib" in keys:
        legend = (
            "MiB: what a process of its own takes at most beyond its imports, weights included."
        )
    columns: _Columns = {
        "MiB": lambda c: _number(taken_mib(c["memory"])),
        "MiB / floor": lambda c: _number(c["memory_vs_floor"]),
    }
    measured = any(taken_mib(case["memory"]) is not None for case in cases)
    return columns if measured else {}, legend


def _ratio(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    if value["low"] is None or value["low"] == value["high"]:  # the latter of itself
        return f"{value['ratio']:.3g}"
    digits = 2 if value["ratio"] < 10 else 1
    low, middle, high = (f"{value[key]:.{digits}f}" for key in ("low", "ratio", "high"))
    return f"{middle} [{low}, {high}]"


def _number(value: float | None) -> str:
    """Three digits, and no more of a large number than its whole part."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{round(100 * share)} %"


def _filled(text: str) -> str:
    """Each line of the text in lines of 100 columns."""
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return "\n".join(textwrap.fill(line, 100, **options) for line in text.splitlines())
