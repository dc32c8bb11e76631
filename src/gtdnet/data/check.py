"""`gtdnet check`: decode every clip of a dataset and say what is wrong with it before training.

Clips are decoded wholly, in parallel. What is found is a list of `Finding`, each with its remedy.
The good clips can be written as a manifest, which `read_annotations` reads as a dataset.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gtdnet.data.decode import iter_frames, probe
from gtdnet.data.findings import Finding, finding, odd_classes
from gtdnet.data.formats import (
    FORMATS,
    Annotations,
    Format,
    VideoRecord,
    detect_format,
    list_splits,
    read_annotations,
)
from gtdnet.data.formats.clip_list import write_clip_list
from gtdnet.data.formats.lookup import is_other_video, is_video
from gtdnet.data.pack.index import changed_files
from gtdnet.errors import DecodeError, InputError
from gtdnet.files import walk
from gtdnet.text import counted, first_line, one_line
from gtdnet.workers import map_in_processes, num_cores

SEVERITIES = ("error", "warning", "info")

_MIN_SIDE = 32  # pixels
_MAX_ASPECT = 4
_MAX_IMBALANCE = 10
_PER_PROCESS = 32  # clips that take about as long as starting a process does


@dataclass(frozen=True)
class ClipFacts:
    """What decoding one clip showed. ``error`` is the reason where it can't be decoded."""

    path: str
    num_frames: int = 0
    height: int = 0
    width: int = 0
    fps: float | None = None
    digest: str | None = None
    is_empty: bool = False
    error: str | None = None


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


def check_dataset(
    root: str | Path,
    *,
    format: str | None = None,
    splits: Sequence[str] | None = None,
    num_segments: int = 8,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    manifest: Path | None = None,
) -> CheckReport:
    """Decode every clip of the given splits (default: all there are) and report.

    ``workers`` processes decode (default: one per core; 0: none but this one). ``progress`` is
    called with (clips done, clips in all). ``manifest`` is written with the clips that decode; if
    that fails, the report says why. Raises InputError if no split can be read at all, or if the
    manifest exists already.
    """
    start = time.perf_counter()
    if manifest is not None and manifest.exists():
        raise InputError(f"The manifest {manifest} exists already; delete it or name another one.")
    read, findings = _read(Path(root), format, splits)
    paths = sorted({record.path for found in read.values() for record in found.records})
    if workers is None:
        workers = min(num_cores(), len(paths) // _PER_PROCESS)
    facts: dict[str, ClipFacts] = {}
    with closing(map_in_processes(inspect_clip, paths, workers)) as inspected:
        for fact in inspected:
            facts[fact.path] = fact
            if progress:
                progress(len(facts), len(paths))
    findings += finding(
        "checksum",
        "error",
        changed_files(Path(root)),
        "Files of the packed dataset that are not as they were written",
        "Copy them again, or pack the dataset again into a new folder.",
    )
    findings += _broken(read, facts)
    findings += _contents(read, facts)
    findings += odd_classes(read)
    if splits is None:
        findings += _left_out(Path(root), read)
    findings += _classes(read, facts)
    findings += _shapes(facts, num_segments)
    first = next(iter(read.values()))
    not_written = None
    if manifest is not None:
        kept = {
            fact.path: {"num_frames": fact.num_frames, "fps": fact.fps}
            for fact in facts.values()
            if not fact.error
        }
        try:
            write_clip_list(manifest, root, read, kept)
        except (OSError, InputError) as error:
            not_written = f"the manifest {manifest} could not be written: {first_line(error)}"
    return CheckReport(
        root=str(root),
        format=first.format,
        class_names=first.class_names,
        splits={split: _statistics(found, facts) for split, found in read.items()},
        findings=tuple(sorted(findings, key=lambda found: SEVERITIES.index(found.severity))),
        manifest=str(manifest) if manifest is not None and not not_written else None,
        not_written=not_written,
        seconds=time.perf_counter() - start,
    )


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


# Decoding


def inspect_clip(path: str) -> ClipFacts:
    """Decode a clip to its end.

    The digest covers every fourth pixel of every fourth row of all frames: equal for copies and
    for the same stream in another container, not for re-encodings.
    """
    digest = hashlib.blake2b(digest_size=16)
    facts = ClipFacts(path)
    try:
        info = probe(path)
        facts = replace(facts, height=info.height, width=info.width, fps=info.fps)
        digest.update(f"{info.width}x{info.height}".encode())
        for num_frames, frame in enumerate(iter_frames(path), 1):
            digest.update(frame[::4, ::4].tobytes())
            facts = replace(facts, num_frames=num_frames)
    except DecodeError as error:
        is_empty = Path(path).is_file() and Path(path).stat().st_size == 0
        # A broken picture names itself, not its folder.
        name = "" if error.path == path else f"{Path(error.path).name}: "
        return replace(facts, error=name + error.reason, is_empty=is_empty)
    return replace(facts, digest=digest.hexdigest())


# Findings


def _read(
    root: Path, format: str | None, splits: Sequence[str] | None
) -> tuple[dict[str, Annotations], list[Finding]]:
    """The splits that can be read, and a finding for each that can't."""
    format = format or detect_format(root)
    read: dict[str, Annotations] = {}
    errors: list[InputError] = []
    for split in splits or list_splits(root, format):
        try:
            read[split] = read_annotations(root, split, format, allow_missing=True)
        except InputError as error:
            errors.append(error)
    if not read:
        raise errors[0] if errors else InputError(f"{root} has no annotated split.")
    fix = "Correct the annotation file; the split was not checked."
    return read, [Finding("annotations", "error", 1, str(error), fix) for error in errors]


def _broken(read: dict[str, Annotations], facts: dict[str, ClipFacts]) -> Iterator[Finding]:
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


def _left_out(root: Path, read: dict[str, Annotations]) -> Iterator[Finding]:
    """Files below the root that look like videos, but are in no split."""
    first = next(iter(read.values()))
    of = FORMATS[first.format]
    if not root.is_dir() or of.is_derived:
        return
    known = {r.path for found in read.values() for r in (*found.records, *found.missing)}
    left_out: list[str] = []
    for folder, folders, files in walk(root):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        paths = [str(Path(folder, n)) for n in sorted(files) if n[0] != "." and _is_left(n, of)]
        left_out += (path for path in paths if path not in known)
    yield from finding(
        "left-out",
        "warning",
        left_out,
        "Files that look like videos, but are in no split",
        "Move them to where the clips of a class are, or re-encode them as .mp4, or remove them.",
    )


def _is_left(name: str, of: Format) -> bool:
    return is_other_video(name) or (of.is_whole and is_video(name))


def _contents(read: dict[str, Annotations], facts: dict[str, ClipFacts]) -> Iterator[Finding]:
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


def _classes(read: dict[str, Annotations], facts: dict[str, ClipFacts]) -> Iterator[Finding]:
    for split in ("train", "validation"):
        if split not in read:
            continue
        counts = _class_counts(read[split], facts)
        yield from finding(
            "class-without-clips",
            "warning",
            (name for name, count in counts.items() if not count),
            f"Classes without a readable clip in {split}",
            "Add clips, or remove the classes: they can't be "
            + ("learned." if split == "train" else "measured."),
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


def _shapes(facts: dict[str, ClipFacts], num_segments: int) -> Iterator[Finding]:
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
            if min(fact.width, fact.height) < _MIN_SIDE
            or max(fact.width, fact.height) > _MAX_ASPECT * min(fact.width, fact.height)
        ),
        f"Pictures smaller than {_MIN_SIDE} pixels or longer than {_MAX_ASPECT}:1",
        "Look at them: cropping to a square leaves little of the picture.",
    )


def _class_counts(found: Annotations, facts: dict[str, ClipFacts]) -> dict[str, int]:
    counts = Counter(record.label for record in found.records if not facts[record.path].error)
    return {name: counts[number] for number, name in enumerate(found.class_names)}


def _statistics(found: Annotations, facts: dict[str, ClipFacts]) -> SplitStatistics:
    good = [fact for r in found.records if not (fact := facts[r.path]).error]
    return SplitStatistics(
        clips=len(found.records) + len(found.missing),
        readable=len(good),
        missing=len(found.missing),
        num_frames=_spread([fact.num_frames for fact in good]),
        seconds=_spread([fact.num_frames / fact.fps for fact in good if fact.fps]),
        fps=dict(Counter(f"{fact.fps:.4g}" for fact in good if fact.fps).most_common()),
        sizes=dict(Counter(f"{fact.width}x{fact.height}" for fact in good).most_common()),
        class_counts=_class_counts(found, facts),
    )


def _spread(numbers: Sequence[float]) -> tuple[float, float, float] | None:
    return (min(numbers), statistics.median(numbers), max(numbers)) if numbers else None
