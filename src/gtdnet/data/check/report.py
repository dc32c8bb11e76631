"""The report of `gtdnet check`: numbers of the splits and findings, as data and as text."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gtdnet.data.check.clips import ClipFacts
from gtdnet.data.check.understanding import Understanding, format_understanding
from gtdnet.data.findings import Finding
from gtdnet.data.formats import Annotations
from gtdnet.text import counted, one_line

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class SplitStatistics:
    """Numbers of one split; ranges are (min, median, max) over its readable clips, or None.

    ``without_class`` and ``labels_per_clip``, a mean, are those of multi-label clips; or None.
    """

    clips: int
    readable: int
    missing: int
    num_frames: tuple[float, float, float] | None
    seconds: tuple[float, float, float] | None
    fps: dict[str, int]
    sizes: dict[str, int]
    codecs: dict[str, int]
    class_counts: dict[str, int]
    without_class: int | None = None
    labels_per_clip: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; what only multi-label clips have is left out of others."""
        values = asdict(self)
        if self.labels_per_clip is None:
            del values["without_class"], values["labels_per_clip"]
        return values


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found; ``facts`` are those of every clip, by path."""

    understood: Understanding = field(repr=False)
    facts: Mapping[str, ClipFacts] = field(repr=False)
    splits: dict[str, SplitStatistics]
    findings: tuple[Finding, ...]
    manifest: str | None
    not_written: str | None  # why there is no manifest although one was asked for
    seconds: float

    @property
    def root(self) -> str:
        return self.understood.root

    @property
    def format(self) -> str:
        return self.understood.format

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.understood.class_names

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings may remain."""
        return all(found.severity != "error" for found in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "ok": self.ok,
            "root": self.root,
            "format": self.format,
            "reason": self.understood.reason,
            "annotations": self.understood.annotations,
            "class_names": self.class_names,
            "splits": {split: numbers.to_dict() for split, numbers in self.splits.items()},
            "findings": [asdict(found) for found in self.findings],
            "manifest": self.manifest,
            "not_written": self.not_written,
            "seconds": self.seconds,
        }


def statistics_of(found: Annotations, facts: dict[str, ClipFacts]) -> SplitStatistics:
    good = [fact for r in found.records if not (fact := facts[r.path]).error]
    several = [len(r.label) for r in found.records if isinstance(r.label, tuple)]
    return SplitStatistics(
        clips=len(found.records) + len(found.missing),
        readable=len(good),
        missing=len(found.missing),
        num_frames=_spread([fact.num_frames for fact in good]),
        seconds=_spread([fact.num_frames / fact.fps for fact in good if fact.fps]),
        fps=dict(Counter(f"{fact.fps:.4g}" for fact in good if fact.fps).most_common()),
        sizes=dict(Counter(f"{fact.width}x{fact.height}" for fact in good).most_common()),
        codecs=dict(Counter(fact.codec for fact in good).most_common()),
        class_counts=class_counts(found, facts),
        without_class=several.count(0) if several else None,
        labels_per_clip=sum(several) / len(several) if several else None,
    )


def _spread(numbers: Sequence[float]) -> tuple[float, float, float] | None:
    return (min(numbers), statistics.median(numbers), max(numbers)) if numbers else None


def class_counts(found: Annotations, facts: dict[str, ClipFacts]) -> dict[str, int]:
    good = (record for record in found.records if not facts[record.path].error)
    counts = Counter(label for record in good for label in record.classes)
    return {name: counts[number] for number, name in enumerate(found.class_names)}


def format_report(report: CheckReport, understanding: bool = True) -> str:
    """The report as plain text for people; ``understanding``: how the dataset was read, too."""
    lines = [format_understanding(report.understood), ""] if understanding else []
    clips = sum(numbers.clips - numbers.missing for numbers in report.splits.values())
    lines += [f"{counted(clips, 'clip')} decoded in {report.seconds:.1f} s"]
    for split, numbers in report.splits.items():
        lines += [f"  {split}", *(f"    {name:8}  {text}" for name, text in _lines(numbers))]
    for found in report.findings:
        lines += ["", f"{found.severity} [{found.code}] {found.message}"]
        lines += [f"    {one_line(example)}" for example in found.examples]
        if found.count > len(found.examples) > 0:
            lines.append(f"    ... and {found.count - len(found.examples)} more")
        lines.append(f"  -> {found.fix}")
    counts = Counter(found.severity for found in report.findings)
    summary = ", ".join(counted(counts[severity], severity) for severity in SEVERITIES[:2])
    lines += ["", f"{'OK' if report.ok else 'Not OK'}: {summary}."]
    if report.manifest:
        lines.append(f"Manifest of the readable clips: {report.manifest}")
    if report.not_written:
        lines.append(f"{report.not_written[0].upper()}{report.not_written[1:]}")
    return "\n".join(lines)


def _lines(numbers: SplitStatistics) -> Iterator[tuple[str, str]]:
    if numbers.readable < numbers.clips - numbers.missing:
        yield "readable", f"{numbers.readable} of {numbers.clips - numbers.missing} clips"
    if numbers.num_frames:
        yield "frames", "{0:g}-{2:g}, median {1:g}".format(*numbers.num_frames)
    if numbers.seconds:
        yield "seconds", "{0:.1f}-{2:.1f}, median {1:.1f}".format(*numbers.seconds)
    for name, counts in (
        ("frames/s", numbers.fps),
        ("size", numbers.sizes),
        ("codec", numbers.codecs),
    ):
        if counts:
            yield name, _most(counts)
    if present := [count for count in numbers.class_counts.values() if count]:
        yield "a class", f"{min(present)}-{max(present)} clips"
    if numbers.labels_per_clip is not None:
        none = counted(numbers.without_class or 0, "clip")
        yield "a clip", f"{numbers.labels_per_clip:.2f} labels on average, {none} with none"


def _most(counts: dict[str, int], top: int = 3) -> str:
    """The values with most clips, and their clips where there are several."""
    if len(counts) == 1:
        return next(iter(counts))
    names = sorted(counts, key=lambda name: -counts[name])
    rest = sum(counts[name] for name in names[top:])
    others = [f"{len(names) - top} others ({rest})"] if rest else []
    return ", ".join([*(f"{name} ({counts[name]})" for name in names[:top]), *others])
