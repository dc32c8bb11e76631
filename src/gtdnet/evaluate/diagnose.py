"""Do these data need time? Accuracies with the frames in order, shuffled, reversed, and one alone.

Everything is decided per class and from pairs: the same clips, with their frames in two orders.

A model that has lost the thread gives one answer to everything, and the clips of that class are
"right" for no reason. So a class's accuracy is not enough: the share of *other* classes' clips that
get its answer is taken off.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtdnet.evaluate.results import Evaluation
from gtdnet.evaluate.statistics import (
    McNemar,
    discoveries,
    mcnemar,
    paired_difference_interval,
    wilson_interval,
)
from gtdnet.text import aligned

RULE = (
    "A class needs the order if its clips are recognised less often when shuffled (exact McNemar "
    "test; 5 % of false alarms among the classes named), or if so many other clips then get its "
    "answer that their share takes more than a quarter off its accuracy. It does not need the "
    "order if both together take off less than a quarter. More and less are meant with 95 % "
    "confidence; in between it cannot be told. One frame is enough by the same rule, with the "
    "middle frame alone in place of the shuffled ones."
)
_NAMED = 6  # classes in a sentence
_TABLE_ROWS, _WIDTH = 40, 44  # of the table of classes, and of a name in it

Answers = NDArray[np.int64]
Clips = NDArray[np.bool_]


class _Need(NamedTuple):
    """Whether a class needs what was taken away; None where it cannot be told, and why."""

    needed: bool | None
    p_value: float | None = None
    unclear: str | None = None


def diagnose(evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Compare evaluations of the same clips, one for each of FRAME_ORDERS.

    Clips without a label are left out; there must be one with. The result is JSON-ready:

        top1, top1_interval    by order of frames, fractions; 95 % confidence
        chance                 1 / number of classes
        per_class              rows: name, clips, the accuracies, needs_order, one_frame_enough,
                               and what the class is taken for when reversed
        verdict, notes, rule   sentences
    """
    names = evaluations["in-order"].class_names
    labels = evaluations["in-order"].labels
    known = labels >= 0
    labels = labels[known]
    answers = {order: e.scores[known].argmax(axis=1) for order, e in evaluations.items()}
    hits = {order: int((given == labels).sum()) for order, given in answers.items()}
    intervals = {order: list(wilson_interval(n, len(labels))) for order, n in hits.items()}
    chance = 1 / len(names)
    order_needs = frames_needs = [
        _Need(None, unclear="the model is not clearly better than chance")
    ] * len(names)
    if intervals["in-order"][0] > chance:
        order_needs, frames_needs = (
            _needs(labels, answers["in-order"], answers[order], len(names))
            for order in ("shuffled", "repeated")
        )
    rows = []
    for label, needs in enumerate(zip(order_needs, frames_needs, strict=True)):
        own = {order: given[labels == label] for order, given in answers.items()}
        rows.append(_row(names, label, own, *needs))
    found = {
        "top1": {order: n / len(labels) for order, n in hits.items()},
        "top1_interval": intervals,
        "chance": chance,
        "per_class": rows,
    }
    return {**found, **_words(found), "rule": RULE}


def _needs(labels: Answers, before: Answers, after: Answers, num_classes: int) -> list[_Need]:
    """For every class, whether it needs what the clips had before and lack after."""
    own = [labels == label for label in range(num_classes)]
    tests = [mcnemar(before[o] == label, after[o] == label) for label, o in enumerate(own)]
    differs = discoveries([test.p_value for test in tests])
    return [
        _need(before == label, after == label, own[label], tests[label], bool(differs[label]))
        for label in range(num_classes)
    ]


def _need(before: Clips, after: Clips, own: Clips, test: McNemar, differs: bool) -> _Need:
    """Whether one class needs it.

    ``before`` and ``after`` [N] say which clips get the class's answer, ``own`` [N] which are of
    it, ``differs`` whether the test of these is significant.
    """
    clips, others = int(own.sum()), int((~own).sum())
    if not clips:
        return _Need(None, unclear="no clips")
    if differs and test.first_only > test.second_only:
        return _Need(True, test.p_value)
    false = float(before[~own].mean()) if others else 0.0
    if wilson_interval(int(before[own].sum()), clips)[0] <= false:
        return _Need(None, test.p_value, "hardly recognised with the frames in order")
    low, high = paired_difference_interval(test.first_only, test.second_only, clips)
    low = min(low, 0.0)  # of its own clips the exact test has the say
    if others:
        more = mcnemar(after[~own], before[~own])  # clips that are now taken for this class
        more_low, more_high = paired_difference_interval(more.first_only, more.second_only, others)
        low, high = low + more_low, high + max(0.0, more_high)
    quarter = (float(before[own].mean()) - false) / 4
    if low > quarter or high < quarter:
        return _Need(low > quarter, test.p_value)
    return _Need(None, test.p_value, "too few clips")


def _row(
    names: Sequence[str], label: int, answers: Mapping[str, Answers], order: _Need, frames: _Need
) -> dict[str, Any]:
    """What is known of one class from the answers to its clips in each order of frames."""
    clips = len(answers["in-order"])
    backwards = np.bincount(answers["reversed"], minlength=len(names))
    into, count = int(backwards.argmax()), int(backwards.max())
    most = clips > 0 and wilson_interval(count, clips)[0] > 0.5
    accuracies = {
        key.replace("-", "_"): float((given == label).mean()) if clips else None
        for key, given in answers.items()
    }
    return {
        "name": names[label],
        "clips": clips,
        **accuracies,
        "needs_order": order.needed,
        "needs_order_p": order.p_value,
        "needs_order_unclear": order.unclear,
        "one_frame_enough": None if frames.needed is None else not frames.needed,
        "one_frame_enough_p": frames.p_value,
        "one_frame_enough_unclear": frames.unclear,
        "reversed_into": names[into] if clips else None,
        "reversed_into_clips": count,
        "reversed_becomes_another": into != label if most else None,
    }


def _words(found: Mapping[str, Any]) -> dict[str, Any]:
    """``verdict``, one sentence, and ``notes``, further ones."""
    top1, chance = found["top1"]["in-order"], found["chance"]
    if found["top1_interval"]["in-order"][0] <= chance:
        verdict = (
            f"It cannot be told what the classes need: with the frames in order the model is right "
            f"on {100 * top1:.1f} % of the clips, not clearly better than chance "
            f"({100 * chance:.1f} %)."
        )
        return {"verdict": verdict, "notes": []}
    rows = [row for row in found["per_class"] if row["clips"]]
    total = f"of {len(rows)} classes"
    needed = sum(row["needs_order"] is True for row in rows)
    spared = [f'"{row["name"]}"' for row in rows if row["needs_order"] is False]
    enough = [f'"{row["name"]}"' for row in rows if row["one_frame_enough"]]
    turned = [
        f'"{row["name"]}" becomes "{row["reversed_into"]}" '
        f"({row['reversed_into_clips']} of {row['clips']} clips)"
        for row in rows
        if row["reversed_becomes_another"]
    ]
    same = sum(row["reversed_becomes_another"] is False for row in rows)
    one_frame = f"One frame is enough for {len(enough)} {total}"
    backwards = (
        f"Played backwards, {len(turned)} {total} are taken for another and {same} for what they "
        f"are"
    )
    return {
        "verdict": _sentence(
            f"{needed} {total} need the order of frames",
            _listed(spared, "these do not: "),
            _unclear(rows, "needs_order"),
        ),
        "notes": [
            _sentence(one_frame, _listed(enough), _unclear(rows, "one_frame_enough")),
            _sentence(backwards, _listed(turned)),
        ],
    }


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part) + "."


def _unclear(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    unclear = [f'"{row["name"]}" ({row[f"{key}_unclear"]})' for row in rows if row[key] is None]
    return _listed(unclear, "it cannot be told of ")


def _listed(items: Sequence[str], before: str = "") -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return before + ", ".join(items[:_NAMED]) + more if items else ""


def describe(diagnosis: Mapping[str, Any]) -> str:
    """The diagnosis for people: accuracies, classes (if they are not many), verdict."""
    lines = ["top-1 by the order of frames [95 % confidence]:"]
    for order, share in diagnosis["top1"].items():
        low, high = diagnosis["top1_interval"][order]
        lines.append(f"  {order:9}{100 * share:7.2f} %  [{100 * low:.2f}, {100 * high:.2f}]")
    lines.append(f"  {'chance':9}{100 * diagnosis['chance']:7.2f} %")
    rows = diagnosis["per_class"]
    if len(rows) <= _TABLE_ROWS:
        lines += ["", _table(rows)]
    words = [diagnosis["verdict"], *diagnosis["notes"], "", diagnosis["rule"]]
    return "\n".join([*lines, "", *(textwrap.fill(text, 100) for text in words)])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    mark = {True: "yes", False: "no", None: "?"}
    keys = ("in_order", "shuffled", "reversed", "repeated")
    heads = ["class", "clips", *(key.replace("_", " ") for key in keys), "needs order"]
    lines = [[*heads, "one frame enough"]]
    for row in rows:
        shares = ("" if row[key] is None else f"{100 * row[key]:.0f} %" for key in keys)
        marks = mark[row["needs_order"]], mark[row["one_frame_enough"]]
        lines.append([row["name"][:_WIDTH], str(row["clips"]), *shares, *marks])
    return aligned(lines)
