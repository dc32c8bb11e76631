"""Kinetics: train.csv, val.csv, ... and {youtube_id}_{start:06d}_{end:06d}.mp4 anywhere below.

A video is never taken from another split's folder. The classes are sorted by name, over the train
and validation tables.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gtdnet.data.formats import lookup
from gtdnet.data.formats.base import (
    ALIASES,
    NewClip,
    Rows,
    VideoRecord,
    WritableFormat,
    register_format,
)
from gtdnet.errors import InputError
from gtdnet.files import write_text
from gtdnet.text import in_nfc


@register_format
class Kinetics(WritableFormat):
    name = "kinetics"
    signs = "train.csv with youtube_id"

    def recognises(self, root: Path) -> bool:
        tables = lookup.split_files(root, ".csv").values()
        return any("youtube_id" in _first_line(table) for found in tables for table in found)

    def splits(self, root: Path) -> Iterable[str]:
        return lookup.split_files(root, ".csv")

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        table = lookup.need_file(root, ".csv", ALIASES[split], f"{split}.csv")
        names: set[str] = set()
        for labelled in ("train", "validation"):
            if file := lookup.find_file(root, ".csv", ALIASES[labelled]):
                names.update(row["label"] for row in _table(file) if row.get("label"))
        class_names = sorted(set(map(in_nfc, names)))
        index = {name: number for number, name in enumerate(class_names)}
        folders = lookup.split_folders(root)
        own = folders.pop(split, [root])[0]
        files: dict[str, list[str]] = {}
        others = [folder for found in folders.values() for folder in found]
        for path in lookup.videos_below(root, skip=others):
            files.setdefault(lookup.stem_of(path), []).append(path)

        def rows() -> Rows:
            for row in _table(table):
                if other := _other_split(row, split):
                    raise InputError(
                        f"{table} is for {split}, but has the clip {row['youtube_id']:.40} of the "
                        f"split {other!r}; keep each in its own table."
                    )
                try:
                    start, end = int(float(row["time_start"])), int(float(row["time_end"]))
                except (ValueError, OverflowError):
                    raise InputError(
                        f"{table} has a time that is not a number: {row!r:.120}."
                    ) from None
                clip = f"{row['youtube_id']}_{start:06d}_{end:06d}"
                name = row.get("label") or ""
                label = lookup.label_of(name or None, index, clip, table, split)
                paths = files.get(clip, [])
                expected = str(own / name / f"{clip}.mp4")
                path = min(paths, key=lambda p: (not _is_in(p, name), p), default=expected)
                yield VideoRecord(clip, path, label), bool(paths)

        return class_names, rows()

    def clip_path(self, clip: NewClip) -> Path:
        youtube_id, start, end = _identity(clip)
        name = f"{youtube_id}_{start:06d}_{end:06d}.mp4"
        return Path(ALIASES[clip.split][0], clip.class_name, name)

    def write(self, root: Path, names: Sequence[str], clips: Sequence[NewClip], seed: int) -> None:
        for split, mine in lookup.by_split(clips).items():
            short = ALIASES[split][0]
            table = io.StringIO()
            rows = csv.writer(table, lineterminator="\n")
            rows.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
            rows.writerows([clip.class_name, *_identity(clip), short] for clip in mine)
            write_text(root / f"{short}.csv", table.getvalue())


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(1 << 16)


def _table(path: Path) -> Iterator[dict[str, str]]:
    rows = csv.DictReader(lookup.read_text(path).splitlines())
    try:
        lacking = {"youtube_id", "time_start", "time_end"} - set(rows.fieldnames or ())
        if lacking:
            names = " and ".join(sorted(lacking))
            raise InputError(f"{path} has no column {names} in its first line.")
        for row in rows:
            if None in row.values():
                raise InputError(
                    f"{path}, line {rows.line_num}, has fewer columns than the first line."
                )
            yield row
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}, is no row of a table: {error}.") from None


def _other_split(row: Mapping[str, str], split: str) -> str | None:
    """What the row's own column says if it is another split that we know."""
    said = (row.get("split") or "").strip()
    known = any(said.lower() in names for names in ALIASES.values())
    return said if known and said.lower() not in ALIASES[split] else None


def _is_in(path: str, name: str) -> bool:
    """Whether a video lies in the folder of a class, named with spaces or underscores."""
    folder = os.path.basename(os.path.dirname(path))  # noqa: PTH119, PTH120
    return folder.replace(" ", "_") == name.replace(" ", "_")


def _identity(clip: NewClip) -> tuple[str, int, int]:
    """An id of eleven characters, as YouTube's, and where the clip starts and ends, in seconds."""
    digest = hashlib.sha256(clip.key.encode()).digest()
    start = 7 * clip.number % 290
    return base64.urlsafe_b64encode(digest)[:11].decode(), start, start + 10
