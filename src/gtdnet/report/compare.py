"""Runs compared in pairs, clip by clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from gtdnet.evaluate.statistics import Interval, discoveries, mcnemar, paired_difference_interval
from gtdnet.report.reading import Evaluated, Run
from gtdnet.text import alike


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same clips, or the sentence that says why they cannot be compared.

    ``difference`` is the first's top-1 minus the second's; ``significant``: at most 5 % of the
    differences that a report calls so are expected to be chance (Benjamini and Hochberg);
    ``remark``: what differs in how the two were evaluated.
    """

    first: str
    second: str
    refusal: str | None = None
    clips: int = 0
    first_only: int = 0
    second_only: int = 0
    p_value: float = 1.0
    difference: float = 0.0
    interval: Interval = (0.0, 0.0)
    significant: bool = False
    remark: str = ""


def compare_runs(runs: Sequence[Run]) -> list[Comparison]:
    """Every pair of the runs that have an evaluation."""
    there = [(run.name, run.evaluated) for run in runs if run.evaluated]
    pairs = [_compare(*first, *second) for first, second in combinations(there, 2)]
    found = iter(discoveries([pair.p_value for pair in pairs if pair.refusal is None]))
    return [
        pair if pair.refusal is not None else replace(pair, significant=bool(next(found)))
        for pair in pairs
    ]


def _compare(first: str, a: Evaluated, second: str, b: Evaluated) -> Comparison:
    if refusal := _refusal(first, a, second, b):
        return Comparison(first, second, refusal)
    # What earlier versions averaged, without saying so.
    one, other = ({"average": "probabilities", **each.protocol} for each in (a, b))
    right = np.array([(a.clips[clip][1], b.clips[clip][1]) for clip in a.clips])
    test = mcnemar(right[:, 0], right[:, 1])
    return Comparison(
        first,
        second,
        None,
        len(right),
        *test,
        (test.first_only - test.second_only) / len(right),
        paired_difference_interval(test.first_only, test.second_only, len(right)),
        remark=", ".join(
            f"{name} {one.get(name)} and {other.get(name)}"
            for name in ("views", "average", "frames")
            if one.get(name) != other.get(name)
        ),
    )


def _refusal(first: str, a: Evaluated, second: str, b: Evaluated) -> str | None:
    """Why the two cannot be compared clip by clip, if so."""
    for name, evaluated in ((first, a), (second, b)):
        if evaluated.labels.ndim == 2:
            return (
                f"A clip of {name} has any number of classes (multi-label), so it is not right or "
                f"wrong as a whole; compare the intervals above."
            )
        if not evaluated.clips:
            return f"The clips of {name} have no labels, so nothing is right or wrong."
    splits = a.protocol.get("split"), b.protocol.get("split")
    if splits[0] != splits[1]:
        return (
            f"{first} was evaluated on the {splits[0]} split and {second} on the {splits[1]} "
            f"split; evaluate both on the same one."
        )
    shared = set(alike(a.class_names)) & set(alike(b.class_names))
    if len(shared) < max(len(a.class_names), len(b.class_names)):
        return (
            f"{first} knows {len(a.class_names)} classes and {second} {len(b.class_names)}, of "
            f"which {len(shared)} are the same; only models of the same classes can be compared."
        )
    only_a, only_b = a.clips.keys() - b.clips.keys(), b.clips.keys() - a.clips.keys()
    if only_a or only_b:
        return (
            f"The clips are not the same: {len(only_a)} were scored in {first} alone and "
            f"{len(only_b)} in {second} alone, such as {min(only_a or only_b)}; evaluate both on "
            f"the same clips."
        )
    if other := [clip for clip in a.clips if a.clips[clip][0] != b.clips[clip][0]]:
        clip = other[0]
        return (
            f"{len(other)} clips have different labels in the two, such as {clip}: "
            f"“{a.clips[clip][0]}” in {first} and “{b.clips[clip][0]}” in {second}; evaluate both "
            f"with the same annotations."
        )
    return None
