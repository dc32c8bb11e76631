"""Tables of clips: .csv or .tsv with the columns path and label, and split where they have one.

    path,label,split,person
    clips/a.mp4,run,train,P01

Paths are relative to the table. Commas, semicolons or tabs part the cells, whichever the first line
has. Without the column split, train.csv, val.csv, ... are the splits, or the root is itself a table
and those beside it that differ in this word are the others. Further columns go with the records.
The classes are sorted by name, over the training and validation clips; classes.txt beside the table
gives them another order, or names to numbers.

A column labels in place of label has any number of classes of a clip, as jump;clap or jump|clap.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gtdnet.data.formats import lookup
from gtdnet.data.formats.base import (
    ALIASES,
    SPLITS,
    Format,
    Rows,
    VideoRecord,
    register_format,
)
from gtdnet.data.labels import Label
from gtdnet.errors import InputError
from gtdnet.text import first_of, in_nfc

_SUFFIXES = (".csv", ".tsv")
_SEVERAL = ("labels", "classes")  # the column of lists of classes
_ROLES = {  # what columns are called, in any case; of several the first
    "path": ("path", "file", "filename", "file_name", "video", "video_path"),
    "label": ("label", "class", "class_name", *_SEVERAL),
    "split": ("split",),
}
_SPLIT_OF = {alias: split for split, aliases in ALIASES.items() for alias in aliases}
_BETWEEN = re.compile(r"[;|]")  # of the classes in a cell of the column labels
_NUMBER = re.compile(r"0|[1-9]\d*", re.ASCII)


class _Row(NamedTuple):
    path: str
    labels: tuple[str, ...]  # at most one, unless ``several`` are allowed
    several: bool
    split: str
    columns: Mapping[str, str]
    where: str


@register_format
class CsvList(Format):
    name = "csv"
    signs = "a .csv with the columns path and label"

    def recognises(self, root: Path) -> bool:
        if root.is_file():
            return root.suffix.lower() in _SUFFIXES
        return any(_is_table(table) for table in _tables(root).values())

    def nearly(self, root: Path) -> str | None:
        if not root.is_dir():
            return None
        tables = [p for p in sorted(root.iterdir()) if p.suffix.lower() in _SUFFIXES]
        told = []
        for table in [path for path in tables if path.is_file() and path.name[0] != "."][:3]:
            first = lookup.read_first_line(table)
            lacking = [r for r in ("path", "label") if r not in _columns(first)[1]]
            told.append(
                f"{table.name} has no column {' and no column '.join(lacking)}: its first line, "
                f"which must name the columns, as path,label, is {first!r:.80}"
                if lacking
                else f"{table.name} lists clips, but its name says no split; give {table} itself"
            )
        return "; ".join(told) or None

    def splits(self, root: Path) -> Iterable[str]:
        return {row.split for row in _rows(root)}

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        folder = root.parent if root.is_file() else root
        rows = _rows(root)
        mine = [row for row in rows if row.split == split]
        if not mine:
            there = first_of(s for s in SPLITS if any(row.split == s for row in rows)) or "none"
            raise InputError(
                f"{root} has no clips of the {split} split (it has {there}); add a column split "
                f"with train, val or test, or a table {folder / ALIASES[split][0]}.csv."
            )
        names_file, names = lookup.listed_classes(folder)
        known = [(name, row.where) for row in rows if row.split != "test" for name in row.labels]
        numbered = all(_NUMBER.fullmatch(name) for name, _ in known)
        if not names_file and numbered:
            numbers = [lookup.whole_number(name, where) for name, where in known]
            names = lookup.numbered_classes(numbers, root if root.is_file() else root / "train.csv")
        elif not names_file:
            names = sorted({name for name, _ in known})
            _check_are_names(root, rows, names)
        index = {name: number for number, name in enumerate(names)}
        by_number = numbered or names_file is not None
        is_annotated = split != "test" or any(row.labels for row in mine)
        folders = lookup.Listings()

        def records() -> Rows:
            for row in mine:
                path = _on_disk(folder, row.path, folders)
                clip = Path(path).relative_to(folder) if folder in Path(path).parents else path
                id = Path(clip).with_suffix("") if lookup.is_video(path) else Path(clip)
                classes = [_class(name, row, index, by_number) for name in row.labels]
                label = _label(row, classes, is_annotated)
                record = VideoRecord(id.as_posix(), path, label, row.columns)
                yield record, folders.hold(path)

        return names, records()


def _label(row: _Row, classes: Sequence[int], is_annotated: bool) -> Label:
    """The label of a clip; a test split without any is not annotated."""
    if row.several:
        return tuple(sorted({*classes})) if is_annotated else None
    if not classes and row.split != "test":
        raise InputError(f"{row.where} has no label, which {row.split} clips need.")
    return classes[0] if classes else None


def _class(name: str, row: _Row, index: Mapping[str, int], by_number: bool) -> int:
    """A class by its name, or by its number where that is allowed."""
    if name in index:
        return index[name]
    if by_number and _NUMBER.fullmatch(name):
        number = lookup.whole_number(name, row.where)
        if number < len(index):
            return number
        raise InputError(
            f"{row.where} has label {number}, but there are {len(index)} classes, counted from 0."
        )
    raise InputError(f"{row.where} has an unknown label: {name!r:.80}.")


def _check_are_names(root: Path, rows: Sequence[_Row], names: Sequence[str]) -> None:
    """Raise InputError for a column label that holds lists of classes, as "jump;clap".

    Some names have such signs in them. A list it is if a part of it is in another label, too.
    """
    parts = Counter(part for name in names for part in {*_split_labels(name)})
    for row in rows:
        for name in () if row.several else row.labels:
            if (own := _split_labels(name)) != (name,) and any(parts[part] > 1 for part in own):
                raise InputError(
                    f"{row.where} has the label {name!r:.80}, whose parts are labels of other "
                    f"clips: call the column labels if a clip can have several classes, or list "
                    f"the names in {(root.parent if root.is_file() else root) / 'classes.txt'} if "
                    f"they are what they seem."
                )


def _split_labels(text: str) -> tuple[str, ...]:
    """The classes in a cell, each once: "jump; clap" and "jump|clap" are two."""
    parts = (in_nfc(part.strip()) for part in _BETWEEN.split(text))
    return tuple(dict.fromkeys(part for part in parts if part))


def _on_disk(folder: Path, name: str, folders: lookup.Listings) -> str:
    """The path of a clip; a table from Windows has backslashes in it."""
    path = str(folder / name)
    if "\\" in name and os.sep == "/" and not folders.hold(path):
        return str(folder / name.replace("\\", "/"))
    return path


# Tables


def _tables(root: Path) -> dict[str, Path]:
    """The tables of a folder, or those beside a table that is given, by what split they are of."""
    suffixes = (root.suffix,) if root.is_file() else _SUFFIXES
    found = {s: [lookup.list_of(root, s, suffix) for suffix in suffixes] for s in SPLITS}
    return {split: table for split, tables in found.items() for table in tables[::-1] if table}


def _is_table(path: Path) -> bool:
    columns = _columns(lookup.read_first_line(path))[1]
    return {"path", "label"} <= columns.keys()


def _first_line(text: str) -> str:
    return re.split(r"[\r\n]", text, maxsplit=1)[0]


def _columns(first_line: str) -> tuple[str, dict[str, int], list[str]]:
    """What parts the cells, the places of the columns that mean something, and all names."""
    best: tuple[str, dict[str, int], list[str]] = (",", {}, [])
    for delimiter in ",;\t":
        names = [name.strip() for name in next(csv.reader([first_line], delimiter=delimiter), [])]
        lower = [name.lower() for name in names]
        places = {
            role: lower.index(next(name for name in called if name in lower))
            for role, called in _ROLES.items()
            if not set(called).isdisjoint(lower)
        }
        if (len(places), len(names)) > (len(best[1]), len(best[2])):
            best = delimiter, places, names
    return best


def _rows(root: Path) -> list[_Row]:
    """All clips, each with its split."""
    if root.is_file() and "split" in _columns(_first_line(lookup.read_text(root)))[1]:
        return list(_read(root, None))
    rows = [row for split, table in _tables(root).items() for row in _read(table, split)]
    if len({row.several for row in rows}) > 1:
        raise InputError(
            f"The tables of {root} differ: some have a column label, with one class a clip, others "
            f"labels, with any number; give all of them the same."
        )
    return rows


def _read(table: Path, split: str | None) -> Iterator[_Row]:
    """The rows of a table, of one split or, if None, each of what its own column says."""
    text = lookup.read_text(table)
    delimiter, places, names = _columns(_first_line(text))
    if lacking := [role for role in ("path", "label") if role not in places]:
        raise InputError(
            f"{table} has no column {' and no column '.join(lacking)}: its first line, which must "
            f"name the columns, as path,label, is {_first_line(text)!r:.80}."
        )
    several = names[places["label"]].lower() in _SEVERAL
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        next(lines)
        for cells in lines:
            where = f"{table}, line {lines.line_num},"
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if len(cells) != len(names):
                raise InputError(
                    f"{where} has {len(cells)} cells, but the first line has {len(names)}; put a "
                    f"cell that holds {delimiter!r} in double quotes"
                    f"{', or part its classes by |' if several and delimiter == ';' else ''}."
                )
            if not cells[places["path"]]:
                raise InputError(f"{where} has no path.")
            said = cells[places["split"]] if "split" in places else ""
            mine = {places["path"], places["label"]}
            columns = {name: cells[i] for i, name in enumerate(names) if i not in mine}
            path, label = (cells[places[role]] for role in ("path", "label"))
            labels = _split_labels(label) if several else (in_nfc(label),) if label else ()
            yield _Row(path, labels, several, _split(said, split, where), columns, where)
    except csv.Error as error:
        raise InputError(
            f"{table}, line {lines.line_num}, is no row of a table: {error}."
        ) from None


def _split(said: str, split: str | None, where: str) -> str:
    """The split that a row says; where it says none, that of its table."""
    if split is not None and not said:
        return split
    own = _SPLIT_OF.get(said.lower())
    if own is None:
        raise InputError(
            f"{where} has the split {said!r:.40}; write train, val or test, or give the column "
            f"another name if it means something else."
        )
    if split not in (None, own):
        raise InputError(
            f"{where} is of the split {said!r}, but its table of {split}; keep each in its own, or "
            f"give the one table that has all."
        )
    return own
