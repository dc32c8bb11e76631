"""What lies on disk beside the clips that were read, and hints that the layout was misread."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path

from gtdnet.data.check.understanding import Understanding
from gtdnet.data.findings import Finding, finding
from gtdnet.data.formats import FORMATS, Format
from gtdnet.data.formats.lookup import (
    PLACES,
    SYSTEM_FOLDERS,
    is_other_video,
    is_video,
    split_folders,
    split_of,
    stem_of,
)
from gtdnet.files import walk
from gtdnet.text import counted, in_nfc

_TABLES = (".csv", ".tsv", ".txt", ".json")
_MOST_TEXT = 1 << 20  # characters of a table that are looked at


def layout(understood: Understanding) -> Iterator[Finding]:
    """Findings about the whole of a dataset's folder."""
    yield from _no_validation(understood)
    root, of = Path(understood.root), FORMATS[understood.format]
    if not root.is_dir() or of.is_derived:
        return
    yield from _beside(understood, root, of)
    if of.is_whole:
        yield from _nested(understood)
        yield from _tables(understood, root)


def _no_validation(understood: Understanding) -> Iterator[Finding]:
    if "train" not in understood.read or "validation" in understood.read or understood.findings:
        return
    text = "There is no validation split: training would keep its last epoch, its accuracy unknown."
    fix = (
        "Let gtdnet train hold clips out, as with --val 0.2 (--group keeps the clips of a person "
        "or source together), or add the split."
    )
    yield Finding("no-validation", "warning", 1, text, fix)


def _beside(understood: Understanding, root: Path, of: Format) -> Iterator[Finding]:
    """Files below the root that look like videos, but are in no split."""
    splits = understood.read.values()
    known = {r.path for found in splits for r in (*found.records, *found.missing)}
    homes = {str(root), *(str(path) for paths in split_folders(root).values() for path in paths)}
    loose: list[str] = []
    other: list[str] = []
    foreign: list[str] = []
    for folder, folders, files in walk(root):
        foreign += (str(Path(folder, name)) for name in folders if name in SYSTEM_FOLDERS)
        folders[:] = sorted(n for n in folders if n[0] != "." and n not in SYSTEM_FOLDERS)
        for name in sorted(files):
            if name.startswith("._") and is_video(name):
                foreign.append(str(Path(folder, name)))
            if name[0] == "." or not (is_other_video(name) or (of.is_whole and is_video(name))):
                continue
            if (path := str(Path(folder, name))) not in known:
                is_loose = of.is_whole and folder in homes and is_video(name)
                (loose if is_loose else other).append(path)
    yield from finding(
        "loose",
        "warning",
        loose,
        "Videos outside the folders of classes, which are left out",
        "Move each into the folder of its class.",
    )
    yield from finding(
        "left-out",
        "warning",
        other,
        "Files that look like videos, but are in no split",
        "Move them to where the clips of a class are, or re-encode them as .mp4, or remove them.",
    )
    yield from finding(
        "foreign",
        "info",
        foreign,
        "What another system keeps beside files, which is no video",
        "Nothing needs to be done: it is not read. It can be removed.",
    )


def _nested(understood: Understanding) -> Iterator[Finding]:
    """Splits inside of classes: jump/train/a.mp4."""
    inside: dict[str, None] = {}
    for found in understood.read.values():
        for record in found.records:
            name, *between = record.id.split("/")[:-1] or [""]
            if between and split_of(between[0]):
                inside[f"{name}/{between[0]}"] = None
    yield from finding(
        "nested-splits",
        "warning",
        inside,
        "Folders called as splits inside of classes, all of which are in one split",
        "Nest them the other way round, as train/CLASS and val/CLASS.",
    )


def _tables(understood: Understanding, root: Path) -> Iterator[Finding]:
    """Tables beside the videos that name them, but are not read."""
    paths = [r.path for found in understood.read.values() for r in found.records]
    paths = list(map(in_nfc, paths))
    names = {os.path.basename(path) for path in paths}  # noqa: PTH119
    names |= {stem for path in paths if len(stem := stem_of(path)) > 3 and not stem.isdecimal()}
    folders = [root / place for place in PLACES]
    folders += [path for found in split_folders(root).values() for path in found]
    ignored: list[str] = []
    for folder in filter(Path.is_dir, folders):
        for table in sorted(folder.iterdir()):
            is_read = str(table) in understood.annotations
            if table.suffix.lower() not in _TABLES or table.name[0] == "." or is_read:
                continue
            try:
                words = _words(table)
            except OSError:
                continue
            if (number := len(words & names)) >= min(2, len(paths)):
                ignored.append(f"{table} (names {counted(number, 'clip')})")
    yield from finding(
        "ignored-table",
        "warning",
        ignored,
        "Tables that name clips, but are not read: folders alone say classes and splits",
        "If one says more than the folders, give it as --data, written as a list of clips "
        "(docs/data.md).",
    )


def _words(table: Path) -> set[str]:
    """What may be the name of a clip in a table: parts of its text, those with blanks in them too.

    UTF-16 is what Excel writes as "Unicode text".
    """
    with table.open("rb") as file:
        begin = file.read(2)
    is_utf16 = begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    with table.open(encoding="utf-16" if is_utf16 else "utf-8-sig", errors="replace") as file:
        text = in_nfc(file.read(_MOST_TEXT))
    cells = {part.strip() for part in re.split(r"[\t\r\n,;|\"/\\\[\]{}]+", text)}
    return cells.union(re.split(r"[\s,;:|\"'/\\\[\]{}]+", text))
