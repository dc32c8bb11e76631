"""Answers as files: a Parquet shard for each block, and what run they are of.

    OUT/_run.json               what the answers depend on, and how many rows there are to be
    OUT/part-00000000.parquet   block 0: a row for each clip, in the order of the listing

A shard appears whole or not at all, under a name that its block determines. So a shard that is
there is a block that is done, and a block that is done twice is one shard. Parquet readers pass
over names that begin with "_" or ".": OUT as a whole is one table.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtdnet.errors import InputError
from gtdnet.files import alone_in, atomic_path, is_empty
from gtdnet.infer.answers import ClassScore
from gtdnet.infer.features import printable_path
from gtdnet.places import OBJECT_STORES, file_system, local, shown

RUN = "_run.json"
_SHARD = re.compile(r"part-(\d{8,})\.parquet")
_KEY = b"gtdnet.run"


class Answer(NamedTuple):
    """One clip: its best classes and features [C], or the reason why there are none."""

    id: str
    path: str
    reason: str | None
    scores: Sequence[ClassScore] = ()
    features: NDArray[np.float32] | None = None


class Counts(NamedTuple):
    """Rows of a shard, and those of them without an answer."""

    rows: int
    failed: int


@dataclass(frozen=True)
class Shards:
    """The folder or object store of a run's answers; it crosses process borders."""

    place: str

    def read_run(self) -> dict[str, Any] | None:
        """What run is in there; None: none.

        Raises:
            InputError: it is not ours, or cannot be read.
        """
        text = self._read(RUN)
        if text is None:
            return None
        try:
            run = json.loads(text)
            if isinstance(run, dict) and isinstance(run.get("bulk"), int):
                return run
        except ValueError:
            pass
        raise InputError(f"{shown(self.place)}: {RUN} is not ours; give another folder with --to")

    def begin(self, run: dict[str, Any]) -> None:
        """Write what run this is, into a place that must be free.

        Raises:
            InputError: files are there already, or nothing can be written.
        """
        there = self._names()
        here = local(self.place)
        if there if here is None else here.is_dir() and not is_empty(here):
            raise InputError(
                f"{shown(self.place)}: holds files, but no run of gtdnet bulk; give another folder "
                f"with --to"
            )
        self._write(RUN, (json.dumps(run, indent=2) + "\n").encode())

    def done(self, run: str) -> dict[int, Counts]:
        """The blocks of a run that are done. Shards that cannot be read are not."""
        found = {}
        for name in self._names():
            if (match := _SHARD.fullmatch(name)) and (counts := self._counts(name, run)):
                found[int(match[1])] = counts
        return found

    def write(
        self, block: int, answers: Sequence[Answer], run: str, num_features: int | None
    ) -> Counts:
        """Write a block's answers, atomically; ``num_features`` is C, None: they have none."""
        import pyarrow  # pyright: ignore[reportMissingImports]
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]

        scores = [None if a.reason is not None else a.scores for a in answers]

        def each(what: int) -> list[list[Any] | None]:
            return [None if s is None else [score[what] for score in s] for s in scores]

        text, real = pyarrow.string(), pyarrow.float32()
        columns: dict[str, tuple[Any, list[Any]]] = {
            "id": (text, [printable_path(a.id) for a in answers]),
            "path": (text, [printable_path(shown(a.path)) for a in answers]),
            "reason": (text, [a.reason and printable_path(a.reason) for a in answers]),
            "labels": (pyarrow.list_(pyarrow.int32()), each(0)),
            "names": (pyarrow.list_(text), each(1)),
            "probabilities": (pyarrow.list_(real), each(2)),
        }
        if num_features is not None:
            rows = [a.features for a in answers]
            columns["features"] = (pyarrow.list_(real, num_features), rows)
        table = pyarrow.table({k: pyarrow.array(v, kind) for k, (kind, v) in columns.items()})
        buffer = io.BytesIO()
        parquet.write_table(table.replace_schema_metadata({_KEY: run.encode()}), buffer)
        self._write(f"part-{block:08}.parquet", buffer.getvalue())
        return Counts(len(answers), sum(a.reason is not None for a in answers))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have a folder for this process alone; of object stores nobody is kept out.

        At the end what killed processes left half-written is removed.
        """
        here = local(self.place)
        if here is None:
            yield
            return
        with alone_in(here, "give another folder with --to"):
            try:
                yield
            finally:
                for left in here.glob(".*.tmp.*"):
                    with suppress(OSError):
                        left.unlink()

    def _counts(self, name: str, run: str) -> Counts | None:
        """Of a shard of this run, from its last bytes."""
        from pyarrow import ArrowException, parquet  # pyright: ignore[reportMissingImports]

        try:
            with self._open(name) as file:
                footer = parquet.read_metadata(file)
            if (footer.metadata or {}).get(_KEY) != run.encode():
                return None
            groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
            places = [g.column(i) for g in groups for i in range(g.num_columns)]
            reasons = [c for c in places if c.path_in_schema == "reason"]
            nulls = sum(c.statistics.null_count for c in reasons)
        except (ArrowException, OSError, AttributeError):
            return None
        return Counts(footer.num_rows, footer.num_rows - nulls)

    # Here, or in an object store.

    def _open(self, name: str) -> Any:
        here = local(self.place)
        if here is not None:
            return (here / name).open("rb")
        system, root = file_system(self.place)
        return system.open(f"{root.rstrip('/')}/{name}", "rb")

    def _read(self, name: str) -> bytes | None:
        try:
            with self._open(name) as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(
                f"{shown(self.place)}: {name} cannot be read ({error.strerror or error})"
            ) from error

    def _names(self) -> list[str]:
        here = local(self.place)
        if here is not None:
            return sorted(os.listdir(here)) if here.is_dir() else []  # noqa: PTH208  (10^6 names)
        system, root = file_system(self.place)
        try:
            return sorted(name.rpartition("/")[2] for name in system.ls(root, detail=False))
        except FileNotFoundError:
            return []

    def _write(self, name: str, content: bytes) -> None:
        here = local(self.place)
        if here is None:
            system, root = file_system(self.place)
            system.pipe_file(f"{root.rstrip('/')}/{name}", content)
            return
        with atomic_path(here / name) as temporary, temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # the name must not be there before the content is


def open_shards(place: str) -> Shards:
    """Where answers go.

    Raises:
        InputError: neither a folder nor an object store, or a file.
    """
    here = local(place)
    if here is None:
        protocol = place.partition("://")[0].lower()
        if protocol not in OBJECT_STORES:
            raise InputError(
                f"--to {shown(place)}: give a folder of this machine, or a URL of an object store "
                f"({', '.join(OBJECT_STORES)}), which shows files whole or not at all"
            )
        file_system(place)
        return Shards(place)
    if here.exists() and not here.is_dir():
        raise InputError(f"--to {here}: is a file; give a folder")
    return Shards(str(here))
