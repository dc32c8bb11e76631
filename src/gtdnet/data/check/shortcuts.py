"""What tells classes, or splits, apart without a look at what happens: size, rate, codec, length.

A network finds such a difference sooner than the motion, and its accuracy then says nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from gtdnet.data.check.clips import ClipFacts
from gtdnet.data.findings import Finding, finding
from gtdnet.data.formats import Annotations

_LEAST = 5  # clips of a class, and of the others, from which something may be concluded
_MOST_HERE, _MOST_ELSEWHERE = 0.9, 0.1  # shares of clips of one kind
_LONGER = 0.95  # of all pairs of clips, one of the class and one of the others

Groups = Mapping[str, Sequence[ClipFacts]]

_KINDS: dict[str, Callable[[ClipFacts], str]] = {
    "in size": lambda fact: f"{fact.width}x{fact.height}",
    "in frame rate": lambda fact: f"{fact.fps:.3g} frames/s" if fact.fps else "without a rate",
    "in codec": lambda fact: fact.codec,
}


def shortcuts(read: Mapping[str, Annotations], facts: Mapping[str, ClipFacts]) -> Iterator[Finding]:
    """Classes of the training split, and splits, that differ from the others as a whole."""
    classes, clips = _by_class(read["train"], facts) if "train" in read else ({}, [])
    yield from finding(
        "shortcut",
        "warning",
        (line for what, kind in _KINDS.items() for line in _apart(classes, clips, what, kind)),
        "Classes that can be told from the others without a look at what happens in them",
        "Encode all clips alike, and record all classes under the same conditions; or else do not "
        "trust the accuracy.",
    )
    yield from finding(
        "length-tells",
        "info",
        _longer(classes, clips),
        "Classes whose clips are nearly all longer, or shorter, than the others'",
        "If their actions do not take longer, cut all clips alike: their speed tells them apart.",
    )
    splits = {split: _good(found, facts) for split, found in read.items()}
    every = [fact for clips in splits.values() for fact in clips]
    yield from finding(
        "splits-differ",
        "warning",
        (line for what, kind in _KINDS.items() for line in _apart(splits, every, what, kind)),
        "Splits that differ from the others as a whole",
        "Encode all clips alike, unless the difference is what is to be measured.",
    )


def _good(found: Annotations, facts: Mapping[str, ClipFacts]) -> list[ClipFacts]:
    return [fact for r in found.records if not (fact := facts[r.path]).error]


def _by_class(found: Annotations, facts: Mapping[str, ClipFacts]) -> tuple[Groups, list[ClipFacts]]:
    """The clips of each class, and all: a multi-label clip is of several classes, or of none."""
    groups: defaultdict[str, list[ClipFacts]] = defaultdict(list)
    every: list[ClipFacts] = []
    for record in found.records:
        if record.label is not None and not (fact := facts[record.path]).error:
            every.append(fact)
            for label in record.classes:
                groups[found.class_names[label]].append(fact)
    return groups, every


def _apart(
    groups: Groups, every: Sequence[ClipFacts], what: str, kind: Callable[[ClipFacts], str]
) -> Iterator[str]:
    """Of each group that is nearly all of one kind, which the others hardly have: a line."""
    counts = {name: Counter(map(kind, clips)) for name, clips in groups.items()}
    total = Counter(map(kind, every))
    for name, own in counts.items():
        clips, others = own.total(), total.total() - own.total()
        if min(clips, others) < _LEAST:
            continue
        (value, number), *_ = own.most_common(1)
        elsewhere = total[value] - number
        if number >= _MOST_HERE * clips and elsewhere <= _MOST_ELSEWHERE * others:
            yield f"{name}, {what}: {number} of {clips} are {value}, {elsewhere} of {others} others"


def _longer(groups: Groups, every: Sequence[ClipFacts]) -> Iterator[str]:
    lengths = {n: np.array([fact.num_frames for fact in clips]) for n, clips in groups.items()}
    count = np.bincount(np.array([fact.num_frames for fact in every], dtype=np.int64))
    for name, own in lengths.items():
        rest = count - np.bincount(own, minlength=len(count))
        others = np.repeat(np.arange(len(rest)), rest)  # in ascending order
        if min(len(own), len(others)) < _LEAST:
            continue
        below = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
        longer = below.mean() / (2 * len(others))  # share of pairs; ties count half
        if not 1 - _LONGER < longer < _LONGER:
            yield (
                f"{name}: {own.min()}-{own.max()} frames (median {np.median(own):g}), others "
                f"{others[0]}-{others[-1]} (median {np.median(others):g})"
            )
