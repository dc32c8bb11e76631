"""How a dataset is read, before a clip of it is decoded: its format, files, splits and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gtdnet.data.check.table import class_table
from gtdnet.data.findings import Finding
from gtdnet.data.formats import (
    FORMATS,
    SPLITS,
    Annotations,
    Format,
    detect_format,
    list_splits,
    read_annotations,
)
from gtdnet.data.formats.lookup import noting_files
from gtdnet.data.pack.remote import is_remote
from gtdnet.errors import InputError
from gtdnet.text import counted, first_of, printable


@dataclass(frozen=True)
class Understanding:
    """What a dataset was taken for.

    Attributes:
        root: the folder or file that was given.
        format: the format that it is read as.
        reason: why, as "it has train.txt".
        annotations: the files that were read; none where the names of folders say it all.
        is_whole: whether all splits were asked for.
        read: the splits that could be read.
        findings: one for each that could not.
    """

    root: str
    format: str
    reason: str
    annotations: tuple[str, ...]
    is_whole: bool
    read: dict[str, Annotations]
    findings: tuple[Finding, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return next(iter(self.read.values())).class_names

    def counts(self) -> dict[str, list[int]]:
        """The clips of every class on disk, by split, in the order of the classes."""
        of_split = {
            split: Counter(label for r in found.records for label in r.classes)
            for split, found in self.read.items()
        }
        return {s: [n[k] for k in range(len(self.class_names))] for s, n in of_split.items()}


def understand(
    root: str | Path, format: str | None = None, splits: Sequence[str] | None = None
) -> Understanding:
    """Read the annotations of the given splits, or of all; InputError if none can be read."""
    root = str(root)
    read: dict[str, Annotations] = {}
    errors: list[InputError] = []
    with noting_files() as files:
        name = format or detect_format(root)
        for split in splits or list_splits(root, name):
            try:
                read[split] = read_annotations(root, split, name, allow_missing=True)
            except InputError as error:
                errors.append(error)
    if not read:
        raise errors[0] if errors else InputError(f"{root} has no annotated split.")
    of = FORMATS[next(iter(read.values())).format]
    fix = "Correct the annotation file; the split was not checked."
    return Understanding(
        root=root,
        format=of.name,
        reason="--format says so" if of.name == format else _reason(Path(root), of),
        annotations=tuple(map(str, files)) or _sign(root, of),
        is_whole=splits is None,
        read=read,
        findings=tuple(Finding("annotations", "error", 1, str(error), fix) for error in errors),
    )


def format_understanding(understood: Understanding) -> str:
    """The same as text for people, in 80 columns where names allow it."""
    of = FORMATS[understood.format]
    if understood.annotations:
        read_from = first_of((_below(path, understood.root) for path in understood.annotations), 8)
    else:
        read_from = "the names of folders" if of.is_whole else f"what {of.name} reads"
    names, counts = understood.class_names, understood.counts()
    splits = ", ".join(map(_split_line, understood.read.values()))
    lines = [
        understood.root,
        f"  format       {of.name}: {understood.reason}",
        f"  read from    {read_from}",
        f"  splits       {splits}{_absent(understood)}",
        f"  classes      {len(names)}",
        *_labels_lines(understood),
        *_columns_lines(understood),
        "",
        class_table(names, counts),
    ]
    return printable("\n".join(lines))


def _reason(root: Path, of: Format) -> str:
    return f"{'it is' if root.is_file() else 'it has'} {of.signs}"


def _sign(root: str, of: Format) -> tuple[str, ...]:
    sign = Path(root, of.signs)
    if is_remote(root):
        return (f"{root.rstrip('/')}/{of.signs}",)
    return (str(sign),) if sign.is_file() else ()


def _split_line(found: Annotations) -> str:
    notes = [f"{len(found.missing)} more are not on disk"] if found.missing else []
    if unlabelled := sum(record.label is None for record in found.records):
        notes.append(f"{unlabelled} without a label")
    beside = f" ({', '.join(notes)})" if notes else ""
    return f"{found.split} {counted(len(found.records), 'clip')}{beside}"


def _columns_lines(understood: Understanding) -> list[str]:
    """What else a table says of its clips."""
    columns = {
        name for found in understood.read.values() for r in found.records[:1] for name in r.columns
    }
    further = [name for name in columns if name.lower() != "split"]
    if not further:
        return []
    use = "for --group of gtdnet train; else they mean nothing"
    return [f"  also         {', '.join(sorted(further))}: {use}"]


def _labels_lines(understood: Understanding) -> list[str]:
    """Of multi-label clips, how many classes they have."""
    parts = []
    for split, found in understood.read.items():
        if labels := [len(r.label) for r in found.records if isinstance(r.label, tuple)]:
            mean = sum(labels) / len(labels)
            parts.append(f"{split} {mean:.2f} on average, {labels.count(0)} clips with none")
    return [f"  labels       any number a clip: {'; '.join(parts)}"] if parts else []


def _absent(understood: Understanding) -> str:
    if not understood.is_whole:
        return "; others were not asked for"
    there = {*understood.read, *(["validation"] if understood.findings else [])}
    absent = [split for split in SPLITS[:2] if split not in there]
    return f"; no {' and no '.join(absent)}" if absent else ""


def _below(path: str, root: str) -> str:
    base = Path(root) if Path(root).is_dir() else Path(root).parent
    return str(Path(path).relative_to(base)) if Path(path).is_relative_to(base) else path
