"""UCF101: UCF-101/{class}/{clip}.avi, and ucfTrainTestlist/ with classInd.txt and the lists.

classInd.txt has the class order, "1 ApplyEyeMakeup": it counts from 1, our labels from 0. The lines
of trainlist01.txt are "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1", of testlist01.txt the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gtdnet.data.formats.base import register_format
from gtdnet.data.formats.folds import Folds
from gtdnet.data.formats.lookup import read_lines, whole_number
from gtdnet.errors import InputError

_NAMES = "classInd.txt"
_LISTS = {"train": "trainlist", "validation": "testlist"}


@register_format
class Ucf101(Folds):
    name = "ucf101"
    signs = "trainlist01.txt"
    videos, lists = "UCF-101", "ucfTrainTestlist"
    pattern = re.compile(r"(?:train|test)list(?P<fold>\d\d)\.txt")

    def recognises(self, root: Path) -> bool:
        # Without the names beside it, a file of that name is a list of one's own.
        is_own = root.is_file() and not (root.parent / _NAMES).is_file()
        return super().recognises(root) and not is_own

    def splits(self, root: Path) -> Iterable[str]:
        lists, fold = self.find_fold(root) or (root, "")
        return [split for split, name in _LISTS.items() if (lists / f"{name}{fold}.txt").is_file()]

    def read_fold(
        self, lists: Path, fold: str, split: str
    ) -> tuple[Sequence[str], Iterator[tuple[str, int]]]:
        names_file, table = lists / _NAMES, lists / f"{_LISTS[split]}{fold}.txt"
        numbered = [line.partition(" ")[::2] for line in read_lines(names_file)]
        names = [name.strip() for _, name in numbered]
        if [number for number, _ in numbered] != [str(i + 1) for i in range(len(names))]:
            raise InputError(f'{names_file} does not count its classes "1 name", "2 name", ...')
        index = {name: label for label, name in enumerate(names)}

        def clips() -> Iterator[tuple[str, int]]:
            for line in read_lines(table):
                start, _, end = line.rpartition(" ")
                is_numbered = start and end.isdecimal()
                path = start if is_numbered else line
                number = whole_number(end, table) if is_numbered else None
                name = path.partition("/")[0]
                if name not in index:
                    raise InputError(f"The clip {path} in {table} is of no class in {names_file}.")
                if number not in (None, index[name] + 1):
                    raise InputError(
                        f"The clip {path} in {table} has number {number}, but the class is number "
                        f"{index[name] + 1} in {names_file}."
                    )
                yield path, index[name]

        return names, clips()
