"""Several evaluations of the same clips as one: the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtdnet.errors import InputError
from gtdnet.evaluate.protocol import FIGURES, differing_names, summary
from gtdnet.evaluate.results import (
    Evaluation,
    FailedClip,
    Results,
    output_folder,
    read_results,
    result_file,
    write_results,
)
from gtdnet.evaluate.statistics import mcnemar
from gtdnet.text import say

_NAMED = 3  # clips in a message


@dataclass
class EnsembleOptions:
    """Average the probabilities of several evaluations

    Args:
        members: folders that gtdnet evaluate or ensemble wrote, or their scores.npz; two or more.
        weights: one positive number for each member; default: all count the same.
        common: where members lack each other's clips, use those that all of them have.
        output: folder of the results; default: a new one beside the first member.
        overwrite: replace the results that are in the output folder.
    """

    members: Sequence[str]
    weights: Sequence[float] | None = None
    common: bool = False
    output: str | None = None
    overwrite: bool = False


def ensemble(options: EnsembleOptions) -> dict[str, Any]:
    """Join evaluations by clip id and write the results as gtdnet evaluate does.

    Returns what metrics.json holds: as an evaluation's, its ``protocol`` naming the members, and
    beside it ``members``, their accuracies on the ensemble's clips, and ``against_best``, McNemar's
    test against the best of them (None without labels).

    Raises:
        ValueError: a member that cannot be read; members of other clips, classes or labels;
            weights that are none; or results that would be overwritten.
    """
    members = _read_members(options.members)
    weights = _weights(options.weights, len(members))
    joined, parts = _join(members, weights, options.common)
    protocols = [member.result["protocol"] for member in members]
    models = [member.result["model"] for member in members]
    views = _views([protocol["views"] for protocol in protocols])
    about = [
        {"path": str(member.path), "weight": weight, "model": model}
        for member, weight, model in zip(members, weights, models, strict=True)
    ]
    first = members[0].path
    name = f"ensemble-{protocols[0]['split']}-{views.translate({ord(c): None for c in '() '})}"
    beside = first if first.name else first.absolute()
    folder = output_folder(beside.with_name(name), options.output, options.overwrite, result_file)
    result = {
        **joined.metrics,
        **joined.intervals,
        "members": [
            {**member, "views": protocol["views"], **{key: part.metrics[key] for key in FIGURES}}
            for member, protocol, part in zip(about, protocols, parts, strict=True)
        ],
        "against_best": _against_best(joined, parts, members),
        "protocol": {
            "views": views,
            "split": protocols[0]["split"],
            "frames": protocols[0]["frames"],
            "fingerprint": joined.fingerprint,
            "members": [
                {**member, "protocol": protocol}
                for member, protocol in zip(about, protocols, strict=True)
            ],
        },
        "model": {"path": None, "name": " + ".join(m["name"] for m in models), "sha256": None},
        "data": members[0].result["data"],
        "versions": {"gtdnet": version("gtdnet")},
        "output": str(folder),
    }
    write_results(folder, joined, result)
    return result


def _read_members(paths: Sequence[str]) -> list[Results]:
    """The members, all with the first one's order of classes."""
    if len(paths) < 2:
        raise InputError(
            f"an ensemble needs at least two evaluations, got {len(paths)}; give the folders that "
            f"gtdnet evaluate wrote, or their scores.npz"
        )
    places = [Path(path).resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{path} is given twice; give it once and use --weights")
    first, *others = [read_results(path) for path in paths]
    for member in (first, *others):
        missing = {"protocol", "model", "data"} - set(member.result)
        if missing:
            raise InputError(f"{member.path}: it has no {min(missing)!r}; evaluate again")
    for member in others:
        for key, what in (("split", "the split"), ("frames", "frames in the order")):
            mine, its = (m.result["protocol"][key] for m in (first, member))
            if mine != its:
                raise InputError(
                    f"{first.path} is of {what} {mine!r} and {member.path} of {its!r}; evaluate "
                    f"both in the same way"
                )
    return [first, *(_with_classes_of(first, member) for member in others)]


def _with_classes_of(first: Results, member: Results) -> Results:
    names, order = member.class_names, first.class_names
    if names == order:
        return member
    if len(names) != len(order) or set(names) != set(order):
        both = {str(first.path): order, str(member.path): names}
        raise InputError(
            f"the classes of {member.path} are not those of {first.path}: "
            f"{differing_names(both)}; an ensemble needs models of the same classes"
        )
    say(f"{member.path} has the classes in another order; they are matched by name")
    columns = [names.index(name) for name in order]
    labels = np.array([*(order.index(name) for name in names), -1])  # label -1 stays -1
    failures = (f._replace(label=int(labels[f.label])) for f in member.failures)
    return replace(
        member,
        class_names=order,
        scores=member.scores[:, columns],
        labels=labels[member.labels],
        failures=tuple(failures),
    )


def _weights(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise InputError(
            f"{len(weights)} weights were given for {count} members; give one for each"
        )
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise InputError(f"weights must be positive numbers, got {weight:g}")
    return [float(weight) for weight in weights]


def _join(
    members: Sequence[Results], weights: Sequence[float], common: bool
) -> tuple[Evaluation, list[Evaluation]]:
    """The ensemble, and each member on the ensemble's clips."""
    first = members[0]
    rows = [{clip: row for row, clip in enumerate(member.ids)} for member in members]
    shared = set(rows[0]).intersection(*rows[1:])
    if any(len(own) > len(shared) for own in rows):
        _check_common(members, shared, common)
    ids = tuple(clip for clip in first.ids if clip in shared)
    chosen = [np.array([own[clip] for clip in ids], dtype=np.int64) for own in rows]
    labels = _labels(members, chosen, ids)
    scores = np.average(
        [member.scores[own] for member, own in zip(members, chosen, strict=True)],
        axis=0,
        weights=weights,
    )
    failures: dict[str, FailedClip] = {}
    for member in members:
        failures |= {f.id: f for f in member.failures if f.id not in failures}
    for member in members:
        own = zip(member.ids, member.labels.tolist(), strict=True)
        left_out = {clip: label for clip, label in own if clip not in shared}
        for clip, label in left_out.items():
            known = failures.get(clip, FailedClip(clip, label, "", "not scored by all members"))
            failures[clip] = known._replace(label=max(label, known.label))
    parts = [
        Evaluation(first.class_names, ids, member.scores[own], labels, tuple(failures.values()))
        for member, own in zip(members, chosen, strict=True)
    ]
    return replace(parts[0], scores=scores.astype(np.float32)), parts


def _check_common(members: Sequence[Results], shared: set[str], common: bool) -> None:
    """Refuse members of other clips unless asked for the common ones; else say what is left out."""
    every = {clip: None for member in members for clip in member.ids}  # in their order
    if not shared:
        raise InputError(
            f"{' and '.join(str(member.path) for member in members)} have no clip in common; "
            f"evaluate on the same data and split"
        )
    if common:
        say(
            f"{len(every) - len(shared)} of {len(every)} clips that not all members scored are "
            f"left out"
        )
        return
    lacks = []
    for member in members:
        own, failed = set(member.ids), {failure.id for failure in member.failures}
        missing = [clip for clip in every if clip not in own]
        if missing:
            unread = sum(clip in failed for clip in missing)
            more = ", ..." if len(missing) > _NAMED else ""
            lacks.append(
                f"{member.path} lacks {len(missing)} ({', '.join(missing[:_NAMED])}{more}; "
                f"{unread} could not be read)"
            )
    raise InputError(
        f"the members are not of the same {len(every)} clips: {', '.join(lacks)}; evaluate on the "
        f"same clips, or take the {len(shared)} that all have with --common"
    )


def _labels(
    members: Sequence[Results], chosen: Sequence[NDArray[np.int64]], ids: Sequence[str]
) -> NDArray[np.int64]:
    """The labels of the chosen clips, on which all members that know them must agree."""
    first = members[0]
    labels = first.labels[chosen[0]]
    for member, own in zip(members[1:], chosen[1:], strict=True):
        its = member.labels[own]
        differ = np.flatnonzero((labels >= 0) & (its >= 0) & (labels != its))
        if len(differ):
            clip, names = differ[0], first.class_names
            raise InputError(
                f"{first.path} and {member.path} disagree about the classes of {len(differ)} of "
                f"{len(ids)} clips, such as {ids[clip]}: {names[labels[clip]]!r} and "
                f"{names[its[clip]]!r}; evaluate both with the same annotations"
            )
        labels = np.where(labels >= 0, labels, its)
    return labels


def _views(views: Sequence[str]) -> str:
    """The members' views together: 8x3x2 and 16x3x2 are (8+16)x3x2.

    >>> _views(["8x3x2", "16x1x1"])
    '8x3x2 + 16x1x1'
    """
    parts = [text.rsplit("x", 2) for text in views]
    frames, crops, clips = zip(*parts, strict=True)
    if len({*crops}) == len({*clips}) == 1:
        return f"({'+'.join(frames)})x{crops[0]}x{clips[0]}"
    return " + ".join(views)


def _against_best(
    joined: Evaluation, parts: Sequence[Evaluation], members: Sequence[Results]
) -> dict[str, Any] | None:
    """McNemar's test against the member that is right most often (the first of those)."""
    known = joined.labels >= 0
    if not known.any():
        return None
    best = max(range(len(parts)), key=lambda i: int(parts[i].correct.sum()))
    test = mcnemar(joined.correct[known], parts[best].correct[known])
    return {
        "path": str(members[best].path),
        "ensemble_only": test.first_only,
        "member_only": test.second_only,
        "p_value": test.p_value,
    }


def describe(result: Mapping[str, Any]) -> str:
    """The ensemble and its members for people."""
    rows = [("", *FIGURES.values(), "weight", "evaluation")]
    for member in result["members"]:
        weight, path = f"{member['weight']:g}", member["path"]
        rows.append((member["views"], *_percents(member), weight, path))
    views = result["protocol"]["views"]
    rows.append((views, *_percents(result), "", "the ensemble"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{head:{widths[0]}}"
        + "".join(f"  {cell:>{w}}" for cell, w in zip(cells, widths[1:-1], strict=True))
        + f"  {path}"
        for head, *cells, path in rows
    ]
    if test := result["against_best"]:
        p = test["p_value"]
        lines += [
            "",
            f"against the best member ({test['path']}): right alone on {test['ensemble_only']} and "
            f"wrong alone on {test['member_only']} clips, "
            f"p {f'= {p:.4f}' if p >= 0.0001 else '< 0.0001'} (exact McNemar test)",
        ]
    return "\n".join([*lines, "", summary(result)])


def _percents(figures: Mapping[str, Any]) -> list[str]:
    shares = (figures[key] for key in FIGURES)
    return ["-" if share is None else f"{100 * share:.2f} %" for share in shares]
