"""Several evaluations of the same clips as one: the mean of their probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtdnet.errors import InputError
from gtdnet.evaluate.options import EnsembleOptions
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
from gtdnet.measure.provenance import versions
from gtdnet.text import aligned, alike, first_of, say


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
    first, split = members[0], members[0].result["protocol"]["split"]
    views = _views([member.result["protocol"]["views"] for member in members])
    beside = first.path if first.path.name else first.path.absolute()
    beside = beside.with_name(f"ensemble-{split}-{re.sub('[() ]', '', views)}")
    measured, described = [], []
    for part, weight in zip(parts, weights, strict=True):
        protocol, metrics = part.result["protocol"], part.metrics
        about = {"path": str(part.path), "weight": weight, "model": part.result["model"]}
        figures = {key: metrics[key] for key in FIGURES}
        measured.append({**about, "views": protocol["views"], **figures})
        described.append({**about, "protocol": protocol})
    result = {
        **joined.to_dict(),
        "members": measured,
        "against_best": _against_best(joined, parts),
        "protocol": {
            "views": views,
            "split": split,
            "frames": first.result["protocol"]["frames"],
            "fingerprint": joined.fingerprint,
            "members": described,
        },
        "model": {
            "path": None,
            "name": " + ".join(member.result["model"]["name"] for member in members),
            "sha256": None,
        },
        "data": first.result["data"],
        "versions": {"gtdnet": versions()["gtdnet"]},
    }
    with output_folder(beside, options.output, options.overwrite, result_file) as folder:
        result["output"] = str(folder)
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
        if member.labels.ndim == 2:
            raise InputError(
                f"{member.path}: its clips have any number of classes (multi-label), which "
                f"ensembles do not take; give evaluations of models of one class a clip"
            )
        parts = {"protocol": ("views", "split", "frames"), "model": ("name",), "data": ()}
        for part, names in parts.items():
            if part not in member.result or set(names) - set(member.result[part]):
                raise InputError(f"{member.path}: it has no whole {part!r}; evaluate again")
        if (views := member.result["protocol"]["views"]).count("x") < 2:
            raise InputError(
                f"{member.path}: its views {views!r} are not frames x crops x clips; evaluate again"
            )
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
    names, order = alike(member.class_names), alike(first.class_names)
    if names == order:
        return replace(member, class_names=first.class_names)
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
        class_names=first.class_names,
        scores=member.scores[:, columns],
        labels=labels[member.labels],
        failures=tuple(failures),
    )


def _weights(weights: Sequence[float] | None, count: int) -> list[float]:
    weights = [1.0] * count if weights is None else weights
    if len(weights) != count:
        raise InputError(f"{len(weights)} weights were given for {count} members; give each one")
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise InputError(f"weights must be positive numbers, got {weight:g}")
    return [float(weight) for weight in weights]


def _join(
    members: Sequence[Results], weights: Sequence[float], common: bool
) -> tuple[Evaluation, list[Results]]:
    """The ensemble, and each member on the ensemble's clips."""
    first, *others = members
    shared = set(first.ids).intersection(*(member.ids for member in others))
    if any(len(member.ids) > len(shared) for member in members):
        _check_common(members, shared, common)
    ids = tuple(clip for clip in first.ids if clip in shared)
    parts = [member.only(ids) for member in members]
    labels, failures = _labels(parts), _failures(members, shared)
    parts = [replace(part, labels=labels, failures=failures) for part in parts]
    scores = np.average([part.scores for part in parts], axis=0, weights=weights)
    joined = Evaluation(first.class_names, ids, scores.astype(np.float32), labels, failures)
    return joined, parts


def _failures(members: Sequence[Results], shared: set[str]) -> tuple[FailedClip, ...]:
    """Clips that failed in any member, then those that not all of them scored."""
    found: dict[str, FailedClip] = {}
    for member in members:
        for failure in member.failures:
            found.setdefault(failure.id, failure)
    for member in members:
        for clip, label in zip(member.ids, member.labels.tolist(), strict=True):
            if clip not in shared:
                known = found.get(clip, FailedClip(clip, label, "", "not scored by all members"))
                found[clip] = known._replace(label=max(label, known.label))
    return tuple(found.values())


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
            lacks.append(
                f"{member.path} lacks {len(missing)} ({first_of(missing)}; {unread} could not be "
                f"read)"
            )
    raise InputError(
        f"the members are not of the same {len(every)} clips: {', '.join(lacks)}; evaluate on the "
        f"same clips, or take the {len(shared)} that all have with --common"
    )


def _labels(parts: Sequence[Results]) -> NDArray[np.int64]:
    """The labels of the same clips, on which all members that know them must agree."""
    first, *others = parts
    labels, names = first.labels, first.class_names
    for part in others:
        its = part.labels
        differ = np.flatnonzero((labels >= 0) & (its >= 0) & (labels != its))
        if len(differ):
            clip = differ[0]
            raise InputError(
                f"{first.path} and {part.path} disagree about the classes of {len(differ)} of "
                f"{len(labels)} clips, such as {first.ids[clip]}: {names[labels[clip]]!r} and "
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


def _against_best(joined: Evaluation, parts: Sequence[Results]) -> dict[str, Any] | None:
    """McNemar's test against the member that is right most often (the first of those)."""
    known = joined.labels >= 0
    if not known.any():
        return None
    best = max(parts, key=lambda part: int(part.correct.sum()))
    test = mcnemar(joined.correct[known], best.correct[known])
    return {
        "path": str(best.path),
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
    rows.append((result["protocol"]["views"], *_percents(result), "", "the ensemble"))
    parts = [aligned(rows), summary(result)]
    if test := result["against_best"]:
        p = test["p_value"]
        parts.insert(
            1,
            f"against the best member ({test['path']}): right alone on {test['ensemble_only']} and "
            f"wrong alone on {test['member_only']} clips, "
            f"p {f'= {p:.4f}' if p >= 0.0001 else '< 0.0001'} (exact McNemar test)",
        )
    return "\n\n".join(parts)


def _percents(figures: Mapping[str, Any]) -> list[str]:
    shares = (figures[key] for key in FIGURES)
    return ["-" if share is None else f"{100 * share:.2f} %" for share in shares]
