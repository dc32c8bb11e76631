"""Which clips there are: a table (Parquet, CSV) or a folder, read row by row, never as a whole."""

from __future__ import annotations

import csv
import io
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import PurePosixPath
from typing import NamedTuple

from gtdnet.bulk.ids import digest, unique_ids
from gtdnet.data.decode import VIDEO_SUFFIXES
from gtdnet.engines.base import missing
from gtdnet.errors import InputError
from gtdnet.infer.find import find_videos
from gtdnet.places import beside, file_system, local, open_binary, shown
from gtdnet.text import first_line, first_of

_ROWS_AT_ONCE = 4096
_BUFFER = 1 << 16  # bytes of a Parquet column; else a whole row group's are read at once


class Row(NamedTuple):
    """A clip: what it is called, and a path or URL to read it from."""

    id: str
    path: str


class Block(NamedTuple):
    """Some neighbouring rows of a listing, by the block's number."""

    number: int
    rows: tuple[Row, ...]


class Survey(NamedTuple):
    """How many rows a listing has, and SHA-256 of its content."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class Listing(ABC):
    """Clips in an order that never changes while the content does not."""

    place: str

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """All rows, a few in memory at a time.

        Raises:
            InputError: it cannot be read, or a row has no path or no id.
        """

    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal digits."""
        found = sha256()
        with open_binary(self.place) as file:
            while part := file.read(1 << 20):
                found.update(part)
        return found.hexdigest()

    def survey(self) -> Survey:
        """Count the rows, and see that no id comes twice.

        Raises:
            InputError: an id that comes twice, or no rows.
        """
        number = 0
        with unique_ids() as ids:
            for row in self.rows():
                ids.add(row.id)
                number += 1
            twice = ids.repeated()
        if twice is not None:
            same = ((n, row.id) for n, row in enumerate(self.rows(), 1) if digest(row.id) == twice)
            (first, id), (second, _) = islice(same, 2)
            raise InputError(
                f"{shown(self.place)}: rows {first} and {second} have the same id {id!r:.100}; ids "
                f"must be unique: remove one, or give a column id that tells them apart"
            )
        if not number:
            raise InputError(f"{shown(self.place)}: lists no clips; check it")
        return Survey(number, self.digest())

    def blocks(self, size: int, done: Collection[int] = ()) -> Iterator[Block]:
        """The rows in blocks of ``size``, but for those that are done; one in memory at a time."""
        rows, number = self.rows(), 0
        while block := tuple(islice(rows, size)):
            if number not in done:
                yield Block(number, block)
            number += 1

    def _row(self, number: int, path: object, id: object) -> tuple[str, str]:
        """The cells of a row of a table as text, which must not be empty."""
        cells = [
            ("" if cell is None else cell if isinstance(cell, str) else str(cell)).strip()
            for cell in (path, id)
        ]
        if not (cells[0] and cells[1]):
            what = "id" if cells[0] else "path"
            raise InputError(f"{shown(self.place)}: row {number} has no {what}; give it one")
        return cells[0], cells[1]


class CsvListing(Listing):
    """Cells parted by commas, semicolons or tabs, as the first line has it."""

    def rows(self) -> Iterator[Row]:
        with open_binary(self.place) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
            try:
                head = text.readline()
                separators = re.findall(r"[,;\t]", head)
                separator = max(separators, key=separators.count) if separators else ","
                names = next(csv.reader([head], delimiter=separator), [])
                path, id = _columns(self.place, names)
                where = beside(self.place)
                lines = csv.reader(text, delimiter=separator)
                number = 0
                for cells in lines:
                    if not any(cells):
                        continue
                    number += 1
                    if len(cells) != len(names):
                        raise InputError(
                            f"{shown(self.place)}: row {number} has {len(cells)} cells, but the "
                            f"first line {len(names)}; quote cells that hold {separator!r}"
                        )
                    name, own = self._row(number, cells[path], cells[path if id is None else id])
                    yield Row(shown(name) if id is None else own, where(name))
            except (csv.Error, UnicodeDecodeError) as error:
                raise InputError(
                    f"{shown(self.place)}: is no UTF-8 table ({first_line(error)}); write it anew"
                ) from error


class ParquetListing(Listing):
    """A Parquet file, of which one row group's columns path and id are in memory at a time."""

    def rows(self) -> Iterator[Row]:
        check_pyarrow()
        import pyarrow  # pyright: ignore[reportMissingImports]
        from pyarrow.parquet import ParquetFile  # pyright: ignore[reportMissingImports]

        with open_binary(self.place) as binary:
            try:
                file = ParquetFile(binary, buffer_size=_BUFFER)
                names = file.schema_arrow.names
                path, id = _columns(self.place, names)
                chosen = [names[i] for i in (path, id) if i is not None]
                where, number = beside(self.place), 0
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=chosen, use_threads=False):
                    columns = [batch.column(name).to_pylist() for name in chosen]
                    for cells in zip(*columns, strict=True):
                        number += 1
                        name, own = self._row(number, cells[0], cells[-1])
                        yield Row(shown(name) if id is None else own, where(name))
            except (pyarrow.ArrowException, OSError) as error:
                raise InputError(
                    f"{shown(self.place)}: is no Parquet file that can be read "
                    f"({first_line(error)}); write it anew"
                ) from error


class FolderListing(Listing):
    """The videos below a folder, by their suffix; ids are paths within it.

    In the order of ``gtdnet predict``. All names are in memory.
    """

    def rows(self) -> Iterator[Row]:
        if here := local(self.place):
            for video in find_videos([here]):
                yield Row(os.path.relpath(video, here).replace(os.sep, "/"), str(video))
            return
        system, root = file_system(self.place)
        try:
            names = sorted(system.find(root))
        except Exception as error:
            raise InputError(
                f"{shown(self.place)}: cannot be listed ({type(error).__name__})"
            ) from error
        for name in names:
            if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES:
                id = name[len(root) :].lstrip("/") if name.startswith(root) else name
                yield Row(id, system.unstrip_protocol(name))

    def digest(self) -> str:
        found = sha256()
        for row in self.rows():
            found.update(row.id.encode("utf-8", "surrogateescape") + b"\0")
        return found.hexdigest()


_KINDS: dict[str, type[Listing]] = {
    ".parquet": ParquetListing,
    ".csv": CsvListing,
    ".tsv": CsvListing,
}


def open_listing(place: str) -> Listing:
    """The listing of a table, by its suffix, or of a folder.

    Raises:
        InputError: there is nothing, or a file of another kind.
    """
    suffix = PurePosixPath(shown(place)).suffix.lower()
    here = local(place)
    if here is not None:
        place = str(here)
        if not here.exists():
            raise InputError(f"{here}: no such file or folder; check the path")
        if here.is_dir():
            return FolderListing(place)
    elif suffix == "":
        return FolderListing(place)
    if suffix not in _KINDS:
        raise InputError(
            f"{shown(place)}: give a table ({', '.join(_KINDS)}) with a column path, or a folder"
        )
    return _KINDS[suffix](place)


def check_pyarrow() -> None:
    """Raise InputError where pyarrow is not installed."""
    if reason := missing("pyarrow", extra="gtdnet[parquet]"):
        raise InputError(reason)


def _columns(place: str, names: list[str]) -> tuple[int, int | None]:
    """The places of the columns path and id, in any case."""
    lower = [name.strip().lower() for name in names]
    if "path" not in lower:
        there = first_of([repr(name.strip()) for name in names], 8) or "none"
        raise InputError(
            f"{shown(place)}: has no column path; its columns are {there}; give the clips' a head "
            f"path"
        )
    return lower.index("path"), lower.index("id") if "id" in lower else None
