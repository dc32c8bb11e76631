"""What decoding the clips of a dataset showed to be wrong with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from gtdnet.data.check.clips import ClipFacts
from gtdnet.data.check.report import class_counts
from gtdnet.data.findings import Finding, finding, only_measured
from gtdnet.data.formats import Annotations, VideoRecord
from gtdnet.text import counted

_MIN_SIDE = 32  # pixels
_MAX_ASPECT = 4
_MAX_IMBALANCE = 10
_FEW = 5  # training clips of a class


def broken(read: dict[str, Annotations], facts: dict[str, ClipFacts]) -> Iterator[Finding]:
    bad = [fact for fact in facts.values() if fact.error]
    yield from finding(
        "empty",
        "error",
        (fact.path for fact in bad if fact.is_empty),
        "Empty files",
        "Download or encode them again, or train on the manifest, which leaves them out.",
    )
    yield from finding(
        "unreadable",
        "error",
        (f"{fact.path}: {fact.error}" for fact in bad if not fact.is_empty),
        "Clips that can't be decoded to their end",
        "Re-encode or replace them, or train on the manifest, which leaves them out.",
    )
    for split, found in read.items():
        if not found.records:
            text = f"The {split} split has no clips on disk."
            yield Finding("no-clips", "error", 1, text, "Add the videos or check the path.")
        yield from finding(
            "missing",
            "warning",
            (record.path for record in found.missing),
            f"Clips annotated in {split} but not on disk",
            "Download them, or go on without them: they are left out everywhere.",
        )


def contents(read: dict[str, Annotations], facts: dict[str, ClipFacts]) -> Iterator[Finding]:
    """The same pictures or the same id more than once."""
    same: defaultdict[str, list[tuple[str, VideoRecord]]] = defaultdict(list)
    ids: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for split, found in read.items():
        for record in found.records:
            ids[record.id][split] = record.path
            if digest := facts[record.path].digest:
                same[digest].append((split, record))
    repeated = [group for group in same.values() if len(group) > 1]
    leaks = [group for group in repeated if len({split for split, _ in group}) > 1]
    yield from finding(
        "leakage",
        "error",
        map(_named, leaks),
        "The same pictures in several splits",
        "Keep each in one split only: accuracy on clips seen in training means nothing.",
    )
    torn = [group for group in repeated if len({record.label for _, record in group}) > 1]
    yield from finding(
        "contradiction",
        "warning",
        map(_named, torn),
        "The same pictures under different labels",
        "Keep the right one.",
    )
    plain = [group for group in repeated if group not in leaks and group not in torn]
    yield from finding(
        "duplicate",
        "warning",
        map(_named, plain),
        "Clips that are there more than once",
        "Keep one of each, or accept that they count double.",
    )
    shared = {clip: where for clip, where in ids.items() if len(where) > 1}
    yield from finding(
        "shared-id",
        "warning",
        (f"{clip}: {', '.join(where.values())}" for clip, where in shared.items()),
        "Ids that occur in several splits",
        "Make sure that they are different clips; rename them.",
    )


def _named(group: Sequence[tuple[str, VideoRecord]]) -> str:
    return " = ".join(f"{record.path} ({split})" for split, record in group)


def classes(read: dict[str, Annotations], facts: dict[str, ClipFacts]) -> Iterator[Finding]:
    for split in ("train", "validation"):
        if split not in read:
            continue
        counts = class_counts(read[split], facts)
        elsewhere = only_measured(read) if split == "train" else []
        yield from finding(
            "class-without-clips",
            "warning",
            (name for name, count in counts.items() if not count and name not in elsewhere),
            f"Classes without a readable clip in {split}",
            "Add clips, or remove the classes: they can't be "
            + ("learned." if split == "train" else "measured."),
        )
        if split == "train":
            yield from finding(
                "few-in-class",
                "info",
                (f"{name}: {counts[name]}" for name in counts if 0 < counts[name] < _FEW),
                f"Classes of fewer than {_FEW} training clips",
                "Add clips, or expect them to be learned by heart; do not trust their accuracy.",
            )
        present = [count for count in counts.values() if count]
        if split == "train" and present and max(present) > _MAX_IMBALANCE * min(present):
            ends = [min(counts, key=lambda name: counts[name] or max(present))]
            ends.append(max(counts, key=counts.__getitem__))
            yield Finding(
                "imbalance",
                "info",
                1,
                f"Training classes have between {min(present)} and {max(present)} clips.",
                "Read mean class accuracy beside top-1.",
                tuple(f"{name}: {counts[name]}" for name in ends),
            )


def shapes(facts: dict[str, ClipFacts], num_segments: int) -> Iterator[Finding]:
    good = [fact for fact in facts.values() if not fact.error]
    yield from finding(
        "short",
        "info",
        (f"{f.path}: {f.num_frames} frames" for f in good if f.num_frames < num_segments),
        f"Clips of fewer than {num_segments} frames",
        "Nothing needs to be done: their frames repeat evenly.",
    )
    yield from finding(
        "odd-size",
        "warning",
        (
            f"{fact.path}: {fact.width}x{fact.height}"
            for fact in good
            if is_odd_size(fact.width, fact.height)
        ),
        f"Pictures smaller than {_MIN_SIDE} pixels or longer than {_MAX_ASPECT}:1",
        "Look at them: cropping to a square leaves little of the picture.",
    )
    yield from finding(
        "gaps",
        "info",
        (f"{f.path}: {counted(f.gaps, 'gap')} in {f.num_frames} frames" for f in good if f.gaps),
        "Clips at a constant rate but for gaps in time, where frames may have been lost",
        "Nothing, if the camera or encoder left these frames out; else get the files again.",
    )


def is_odd_size(width: int, height: int) -> bool:
    """Whether a square crop leaves little of such a picture."""
    return min(width, height) < _MIN_SIDE or max(width, height) > _MAX_ASPECT * min(width, height)
