"""Tables of clips: .csv or .tsv with the columns path and label, and split where they have one.

    path,label,split,person
    clips/a.mp4,run,train,P01

Paths are relative to the table. Commas, semicolons or tabs part the cells, whichever the first line
has. Without the column split, train.csv, val.csv, ... are the splits, or the root is itself a table
and those beside it that differ in this word are the others. Further columns go with the records.
The classes are sorted by name, over the training and validation clips; classes.txt beside the table
gives them another order, or names to numbers.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gtdnet.data.formats import lookup
from gtdnet.data.formats.base import ALIASES, SPLITS, Format, Rows, VideoRecord, register_format
from gtdnet.errors import InputError
from gtdnet.text import first_of, in_nfc

_SUFFIXES = (".csv", ".tsv")
_ROLES = {  # what columns are called, in any case
    "path": ("path", "file", "filename", "file_name", "video", "video_path"),
    "label": ("label", "class", "class_name"),
    "split": ("split",),
}
_SPLIT_OF = {alias: split for split, aliases in ALIASES.items() for alias in aliases}
_NUMBER = re.compile(r"0|[1-9]\d*", re.ASCII)


class _Row(NamedTuple):
    path: str
    label: str
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
        known = [row for row in rows if row.label and row.split != "test"]
        numbered = all(_NUMBER.fullmatch(row.label) for row in known)
        if not names_file and numbered:
            numbers = [lookup.whole_number(row.label, row.where) for row in known]
            names = lookup.numbered_classes(numbers, root if root.is_file() else root / "train.csv")
        elif not names_file:
            names = sorted({in_nfc(row.label) for row in known})
        index = {name: number for number, name in enumerate(names)}
        folders = lookup.Listings()

        def records() -> Rows:
            for row in mine:
                path = _on_disk(folder, row.path, folders)
                clip = Path(path).relative_to(folder) if folder in Path(path).parents else path
                id = Path(clip).with_suffix("") if lookup.is_video(path) else Path(clip)
                label = _label(row, index, numbered or names_file is not None)
                record = VideoRecord(id.as_posix(), path, label, row.columns)
                yield record, folders.hold(path)

        return names, records()


def _label(row: _Row, index: Mapping[str, int], by_number: bool) -> int | None:
    """The class of a row, by its name, or by its number where that is allowed."""
    name = in_nfc(row.label)
    if name in index:
        return index[name]
    if not name and row.split == "test":
        return None
    if not name:
        raise InputError(f"{row.where} has no label, which {row.split} clips need.")
    if by_number and _NUMBER.fullmatch(name):
        number = lookup.whole_number(name, row.where)
        if number < len(index):
            return number
        raise InputError(
            f"{row.where} has label {number}, but there are {len(index)} classes, counted from 0."
        )
    raise InputError(f"{row.where} has an unknown label: {name!r:.80}.")


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
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        columns = _columns(_first_line(file.readline(1 << 16)))[1]
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
    return [row for split, table in _tables(root).items() for row in _read(table, split)]


def _read(table: Path, split: str | None) -> Iterator[_Row]:
    """The rows of a table, of one split or, if None, each of what its own column says."""
    text = lookup.read_text(table)
    delimiter, places, names = _columns(_first_line(text))
    if lacking := [role for role in ("path", "label") if role not in places]:
        raise InputError(
            f"{table} has no column {' and no column '.join(lacking)}: its first line, which must "
            f"name the columns, as path,label, is {_first_line(text)!r:.80}."
        )
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
                    f"cell that holds {delimiter!r} in double quotes."
                )
            if not cells[places["path"]]:
                raise InputError(f"{where} has no path.")
            said = cells[places["split"]] if "split" in places else ""
            mine = {places["path"], places["label"]}
            columns = {name: cells[i] for i, name in enumerate(names) if i not in mine}
            path, label = (cells[places[role]] for role in ("path", "label"))
            yield _Row(path, label, _split(said, split, where), columns, where)
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
