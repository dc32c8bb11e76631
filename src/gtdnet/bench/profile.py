"""Where the time of a call goes: its operators, and by kind what it has more than the floor.

Calls are profiled apart from those that are timed, by turns as these are, and those of engines in
builds of their own. What is told are means of the quieter half of the calls: others' work makes
calls longer and none shorter.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch

from gtdnet.engines import Node
from gtdnet.measure.timing import rounded

CALLS = 20
"""That are profiled of each case, if there is time."""

_NAMES = 80  # columns


class Profiler(NamedTuple):
    """A case that can tell what its operators take.

    Attributes:
        call: one call.
        nodes: of each call so far; asked once.
    """

    call: Callable[[], object]
    nodes: Callable[[], list[list[Node]]]


def by_pytorch(call: Callable[[], object], device: torch.device) -> Profiler:
    """The profiler of what computes in PyTorch; by the GPU's time if that is the device."""
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it tells stderr when it starts
    on_gpu = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    calls: list[list[Node]] = []

    def profiled() -> None:
        with profile(activities=[activity]) as found:
            call()
            if on_gpu:
                torch.cuda.synchronize(device)
        events = [event for event in found.key_averages() if getattr(event, spent) > 0]
        calls.append([Node(e.key, _kind(e.key), e.count, getattr(e, spent) / 1e6) for e in events])

    return Profiler(profiled, lambda: calls)


def _kind(name: str) -> str:
    """An operator of PyTorch without the numbers that torch.compile gives to what it generates."""
    return re.sub(r"^graph_\d+_|_\d+$|: \d+/\d+$| \w{52} ##$", "", name)


def quiet_mean(calls: Iterable[Sequence[Node]]) -> list[Node]:
    """The nodes of a call in the mean of the quieter half of the calls, one of each name."""
    ordered = sorted(calls, key=lambda nodes: sum(node.seconds for node in nodes))
    half = ordered[: (len(ordered) + 1) // 2]
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for node in (node for nodes in half for node in nodes):
        key = node.name, node.kind
        times, seconds = found.get(key, (0.0, 0.0))
        found[key] = times + node.calls, seconds + node.seconds
    return [
        Node(*key, times / len(half), seconds / len(half))
        for key, (times, seconds) in found.items()
    ]


def operators(nodes: Sequence[Node], rows: int) -> list[dict[str, Any]]:
    """The costliest operators of a call, as many as there are rows; JSON-ready."""
    total = sum(node.seconds for node in nodes)
    return [
        {
            "name": _short(node.name),
            "calls": round(node.calls),
            "ms": rounded(1e3 * node.seconds),
            "share": rounded(node.seconds / total, 3),
        }
        for node in sorted(nodes, key=lambda node: -node.seconds)[:rows]
    ]


def kinds(nodes: Sequence[Node], floor: Sequence[Node] | None, rows: int) -> list[dict[str, Any]]:
    """The time of a call by kind of operation, or what it has more than the floor's; JSON-ready.

    As many kinds as there are rows, those that matter most, then the rest: together the whole call.

    Args:
        nodes: of a call.
        floor: of a call of the floor in the same setting; None: there is none to compare with.
        rows: 1 or more.
    """
    own, base = _by_kind(nodes), _by_kind(floor or [])
    more = {kind: own[kind] - base[kind] for kind in own | base}
    most = sorted(more, key=lambda kind: -abs(more[kind]))
    shown = sorted(most[:rows], key=lambda kind: -more[kind])
    groups = [(_short(kind), [kind]) for kind in shown]
    if most[rows:]:
        groups.append(("rest", most[rows:]))
    whole = sum(more.values())
    found = []
    for name, members in groups:
        seconds, its_floor, difference = (
            sum(of[kind] for kind in members) for of in (own, base, more)
        )
        row: dict[str, Any] = {"kind": name, "ms": rounded(1e3 * seconds)}
        if floor is not None:
            row["floor_ms"] = rounded(1e3 * its_floor)
            row["more_ms"] = rounded(1e3 * difference)
        found.append({**row, "share": rounded(difference / whole, 3) if whole else None})
    return found


def _by_kind(nodes: Iterable[Node]) -> defaultdict[str, float]:
    """Seconds of each kind that took any."""
    found: defaultdict[str, float] = defaultdict(float)
    for node in nodes:
        if node.seconds:
            found[node.kind] += node.seconds
    return found


def _short(name: str) -> str:
    """Both ends of a long name."""
    return name if len(name) <= _NAMES else f"{name[:48]}...{name[-29:]}"
