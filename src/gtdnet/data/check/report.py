"""The report of `gtdnet check`: numbers of the splits and findings, as data and as text."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gtdnet.data.check.clips import ClipFacts
from gtdnet.data.findings import Finding
from gtdnet.data.formats import Annotations
from gtdnet.text import counted, one_line

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class SplitStatistics:
    """Numbers of one split; ranges are (min, median, max) over its readable clips, or None."""

    clips: int
    readable: int
    missing: int
    num_frames: tuple[float, float, float] | None
    seconds: tuple[float, float, float] | None
    fps: dict[str, int]
    sizes: dict[str, int]
    class_counts: dict[str, int]


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found."""

    root: str
    format: str
    class_names: tuple[str, ...]
    splits: dict[str, SplitStatistics]
    findings: tuple[Finding, ...]
    manifest: str | None
    not_written: str | None  # why there is no manifest although one was asked for
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings may remain."""
        return all(found.severity != "error" for found in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"ok": self.ok, **asdict(self)}


def statistics_of(found: Annotations, facts: dict[str, ClipFacts]) -> SplitStatistics:
    good = [fact for r in found.records if not (fact := facts[r.path]).error]
    return SplitStatistics(
        clips=len(found.records) + len(found.missing),
        readable=len(good),
        missing=len(found.missing),
        num_frames=_spread([fact.num_frames for fact in good]),
        seconds=_spread([fact.num_frames / fact.fps for fact in good if fact.fps]),
        fps=dict(Counter(f"{fact.fps:.4g}" for fact in good if fact.fps).most_common()),
        sizes=dict(Counter(f"{fact.width}x{fact.height}" for fact in good).most_common()),
        class_counts=class_counts(found, facts),
    )


def _spread(numbers: Sequence[float]) -> tuple[float, float, float] | None:
    return (min(numbers), statistics.median(numbers), max(numbers)) if numbers else None


def class_counts(found: Annotations, facts: dict[str, ClipFacts]) -> dict[str, int]:
    counts = Counter(record.label for record in found.records if not facts[record.path].error)
    return {name: counts[number] for number, name in enumerate(found.class_names)}


def format_report(report: CheckReport) -> str:
    """The report as plain text for people."""
    classes = counted(len(report.class_names), "class", "classes")
    lines = [f"{report.root}: {report.format}, {classes}, {report.seconds:.1f} s"]
    for split, numbers in report.splits.items():
        line = f"  {split}: {numbers.clips} clips"
        if numbers.readable < numbers.clips:
            line += f", {numbers.readable} of them readable"
        if numbers.num_frames:
            line += ", {0:g}-{2:g} frames (median {1:g})".format(*numbers.num_frames)
        if numbers.seconds:
            line += ", {0:.1f}-{2:.1f} s (median {1:.1f})".format(*numbers.seconds)
        if numbers.fps:
            line += f", {_most(numbers.fps)} frames/s"
        if numbers.sizes:
            line += f", {_most(numbers.sizes)}"
        if counts := [count for count in numbers.class_counts.values() if count]:
            line += f", {min(counts)}-{max(counts)} clips a class"
        lines.append(line)
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


def _most(counts: dict[str, int], top: int = 3) -> str:
    names = sorted(counts, key=lambda name: -counts[name])
    return " / ".join(names[:top]) + (f" / {len(names) - top} others" if len(names) > top else "")
