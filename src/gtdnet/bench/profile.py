"""Where the time of a call goes: its operators, and by kind what it has more than the floor.

Calls are profiled apart from those that are timed, by turns as these are. What is told are means of
the quieter half of the calls: others' work makes calls longer and none shorter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch

from gtdnet.engines.profile import Node, OperatorLog
from gtdnet.measure.timing import rounded

CALLS = 20
"""That are profiled of each case, if there is time."""


class Profiler(NamedTuple):
    """A case that can tell what its operators take."""

    call: Callable[[], object]
    nodes: Callable[[], list[list[Node]]]  # of each call so far; asked once


def by_pytorch(call: Callable[[], object], device: torch.device) -> Profiler:
    """The profiler of what computes in PyTorch; by the GPU's time if that is the device."""
    log = OperatorLog(device)

    def profiled() -> None:
        with log.call():
            call()

    return Profiler(profiled, lambda: log.calls)


def quiet_mean(calls: Iterable[Sequence[Node]]) -> list[Node]:
    """The nodes of a call in the mean of the quieter half of the calls, one of each name."""
    ordered = sorted(calls, key=lambda nodes: sum(node.seconds for node in nodes))
    half = ordered[: (len(ordered) + 1) // 2]
    found: defaultdict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in (node for nodes in half for node in nodes):
        found[node.name, node.kind].append(node)
    return [
        Node(*key, sum(n.calls for n in same) / len(half), sum(n.seconds for n in same) / len(half))
        for key, same in found.items()
    ]


def operators(nodes: Sequence[Node], rows: int) -> list[dict[str, Any]]:
    """The costliest operators of a call, as many as there are rows; JSON-ready."""
    whole = sum(node.seconds for node in nodes)
    return [
        {
            "name": _short(node.name),
            "calls": round(node.calls),
            "ms": rounded(1e3 * node.seconds),
            "share": rounded(node.seconds / whole, 3),
        }
        for node in sorted(nodes, key=lambda node: -node.seconds)[:rows]
    ]


def kinds(nodes: Sequence[Node], floor: Sequence[Node] | None, rows: int) -> list[dict[str, Any]]:
    """The time of a call by kind of operation, or what it has more than the floor's; JSON-ready.

    As many kinds as there are rows, those that matter most, then the rest: together the whole call.
    ``floor`` are the nodes of the floor in the same setting, if there is one to compare with.
    """
    own, base = _by_kind(nodes), _by_kind(floor or ())
    more = {kind: own[kind] - base[kind] for kind in own | base}
    most = sorted(more, key=lambda kind: -abs(more[kind]))
    shown = sorted(most[:rows], key=lambda kind: -more[kind])
    groups = [(_short(kind), [kind]) for kind in shown] + [("rest", most[rows:])]
    whole = sum(more.values())
    found = []
    for name, members in groups if most[rows:] else groups[:-1]:
        row: dict[str, Any] = {"kind": name}
        for key, seconds in (("ms", own), ("floor_ms", base), ("more_ms", more)):
            if key == "ms" or floor is not None:
                row[key] = rounded(1e3 * sum(seconds[kind] for kind in members))
        share = sum(more[kind] for kind in members) / whole if whole else None
        found.append({**row, "share": rounded(share, 3)})
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
    return name if len(name) <= 80 else f"{name[:48]}...{name[-29:]}"
