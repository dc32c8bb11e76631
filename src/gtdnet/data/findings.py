"""What is odd about a dataset before a clip of it is decoded: `gtdnet check` and `train` say it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gtdnet.data.formats import Annotations
from gtdnet.data.formats.lookup import split_of
from gtdnet.text import first_of

MAX_EXAMPLES = 10


@dataclass(frozen=True)
class Finding:
    """One kind of problem: how often, where (the first examples), and what to do about it."""

    code: str
    severity: str
    count: int
    message: str
    fix: str
    examples: tuple[str, ...] = ()

    def sentence(self) -> str:
        """All of it in a line."""
        where = f" ({first_of(self.examples)})" if self.examples else ""
        return f"{self.message.rstrip('.')}{where}. {self.fix}"


def finding(
    code: str, severity: str, examples: Iterable[str], message: str, fix: str
) -> Iterator[Finding]:
    """A finding if there is any example."""
    if listed := list(examples):
        text = f"{message}: {len(listed)}."
        yield Finding(code, severity, len(listed), text, fix, tuple(listed[:MAX_EXAMPLES]))


def odd_classes(read: Mapping[str, Annotations]) -> Iterator[Finding]:
    """Class names and labels that seldom are what was meant."""
    first = next(iter(read.values()))
    if len(first.class_names) == 1:
        text = f"There is one class, {first.class_names[0]!r}: whatever is answered is right."
        fix = "Check that this is the dataset's own folder, or add clips of something else."
        yield Finding("one-class", "warning", 1, text, fix)
    yield from finding(
        "split-as-class",
        "warning",
        filter(split_of, first.class_names),
        "Classes with the names of splits",
        "If they are splits, name their folders train, val and test, beside each other.",
    )
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in first.class_names:
        alike[re.sub(r"[\W_]+", " ", name.casefold()).strip() or name].append(name)
    yield from finding(
        "similar-classes",
        "warning",
        (" = ".join(map(repr, names)) for names in alike.values() if len(names) > 1),
        "Classes whose names differ in case, spaces or signs alone",
        "Give them one name if they are one class.",
    )
    yield from finding(
        "only-in-validation",
        "warning",
        only_measured(read),
        "Classes with validation clips, but none for training",
        "Add training clips of them, or take them out: what is not learned is answered wrong.",
    )
    if "train" in read:
        train = read["train"]
        clips = len(train.records) + len(train.missing)
        if len(train.class_names) > clips:
            text = f"There are {len(train.class_names)} classes, but {clips} training clips."
            fix = "Check the labels, and that the clips of a class are not taken for classes."
            yield Finding("few-clips", "warning", 1, text, fix)


def only_measured(read: Mapping[str, Annotations]) -> list[str]:
    """The classes that have clips on disk in validation, but not in train."""
    if not {"train", "validation"} <= set(read):
        return []
    learned, measured = (
        {label for r in read[s].records for label in r.classes} for s in ("train", "validation")
    )
    names = read["validation"].class_names
    return [name for label, name in enumerate(names) if label in measured - learned]


def shared_clips(read: Mapping[str, Annotations]) -> Iterator[Finding]:
    """Clips that are in two splits at once, by path."""
    where: defaultdict[str, list[str]] = defaultdict(list)
    for split, found in read.items():
        for path in {record.path for record in found.records}:
            where[path].append(split)
    yield from finding(
        "leakage",
        "error",
        (f"{path} ({', '.join(splits)})" for path, splits in where.items() if len(splits) > 1),
        "Clips that are in several splits",
        "Keep each in one split only: accuracy on clips seen in training means nothing.",
    )
