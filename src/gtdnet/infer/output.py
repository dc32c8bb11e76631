"""``predict --output``: answers are added to a file as they come; opened again, it goes on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gtdnet.errors import InputError
from gtdnet.files import appended
from gtdnet.infer.answers import VideoPrediction
from gtdnet.infer.render import columns_of, csv_rows
from gtdnet.text import counted

SUFFIXES = (".jsonl", ".csv")


class Results:
    """The answers in a file so far, each written whole.

    Attributes:
        done: of each video that is answered whether it failed.
        num_before: how many there were when the file was opened.
    """

    def __init__(
        self, path: Path, whole: bool, write: Callable[[bytes], None], decides: bool = False
    ) -> None:
        self.path, self.done, self.num_before = path, dict[str, bool](), 0
        self._run, self._whole, self._write = "", whole, write
        self._columns = [*columns_of(decides), "run"]

    def add(self, video: VideoPrediction) -> None:
        """Write one video's answer, in one piece."""
        if self.path.suffix.lower() == ".csv":
            text = io.StringIO()
            rows = [(*row, self._run) for row in csv_rows(video)]
            csv.writer(text, lineterminator="\n").writerows(rows)
            line = text.getvalue()
        else:
            line = json.dumps({**video.to_json(self._whole), "run": self._run}) + "\n"
        self._write(line.encode("utf-8", "surrogateescape"))
        self.done[video.path] = video.reason is not None

    def read(self, lines: bytes, unfinished: bytes, run: dict[str, Any]) -> None:
        """What a file holds already; its answers must be those of the same run.

        Raises:
            ValueError: they are of another model or other options, or no answers at all.
        """
        self._run = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:12]
        text = lines.decode("utf-8", "surrogateescape")
        is_csv = self.path.suffix.lower() == ".csv"
        head = ",".join(self._columns).encode() + b"\n"
        try:
            begin = head if is_csv else b'{"path": '
            if unfinished and not lines and unfinished[: len(begin)] != begin[: len(unfinished)]:
                raise ValueError("it does not begin as our files do")
            rows = list(self._rows(text))
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise InputError(
                f"{self.path}: holds something else than answers of gtdnet predict; give another "
                f"--output, or --overwrite"
            ) from error
        if any(of != self._run for _, _, of in rows):
            raise InputError(
                f"{self.path}: holds answers of another model, or with other options; give another "
                f"--output, or --overwrite"
            )
        for path, has_failed, _ in rows:
            self.done[path] = self.done.get(path, False) or has_failed
        self.num_before = len(self.done)
        if is_csv and not lines:
            self._write(head)

    def _rows(self, text: str) -> Iterator[tuple[str, bool, str]]:
        """(path, whether it failed, run) of each line."""
        if self.path.suffix.lower() == ".csv":
            reader = csv.DictReader(io.StringIO(text))
            for row in reader:
                yield row["video"], bool(row["reason"]), row["run"]
            if text and reader.fieldnames != self._columns:
                raise ValueError(f"columns {reader.fieldnames}")
        else:
            for line in text.splitlines():
                row = json.loads(line)
                yield str(row["path"]), row["reason"] is not None, row["run"]


@contextmanager
def open_results(
    path: str | None,
    run: dict[str, Any],
    *,
    whole: bool,
    overwrite: bool,
    decides: bool = False,
) -> Iterator[Results | None]:
    """The results in a file, to which more are added; None where there is no path.

    ``decides`` says that answers have a decision; ``run`` what they depend on, JSON-ready: each of
    them carries a digest of it.

    Raises:
        ValueError: another suffix, what is in the file is of another run, or another process is
            writing it.
        KeyboardInterrupt: with a sentence that says what is kept.
    """
    if path is None:
        yield None
        return
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"--output {path}: give a file in {' or '.join(SUFFIXES)}")
    with appended(path, overwrite) as (lines, unfinished, write):
        results = Results(Path(path), whole, write, decides)
        results.read(lines, unfinished, run)
        try:
            yield results
        except KeyboardInterrupt as stop:
            kept = counted(len(results.done), "answer")
            raise type(stop)(
                f"{str(stop) or 'interrupted'}; {path} keeps {kept}, and the same command goes on"
            ) from None
