"""HMDB51: hmdb51_org/{class}/{clip}.avi, and testTrainMulti_7030_splits/ with a list per class.

A line of {class}_test_split1.txt is "name.avi 1": 1 is trained on, 2 is tested on, 0 is left out.
The classes are sorted by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from gtdnet.data.formats.base import register_format
from gtdnet.data.formats.folds import Folds
from gtdnet.data.formats.lookup import read_lines
from gtdnet.errors import InputError

_USES = {"train": "1", "validation": "2"}


@register_format
class Hmdb51(Folds):
    name = "hmdb51"
    signs = "CLASS_test_split1.txt"
    videos, lists = "hmdb51_org", "testTrainMulti_7030_splits"
    pattern = re.compile(r"(?P<name>[^.].*)_test_split(?P<fold>\d)\.txt")

    def read_fold(
        self, lists: Path, fold: str, split: str
    ) -> tuple[Sequence[str], Iterator[tuple[str, int]]]:
        end = f"_test_split{fold}.txt"
        matches = (self.pattern.fullmatch(path.name) for path in lists.iterdir())
        names = sorted(match["name"] for match in matches if match and match["fold"] == fold)

        def clips() -> Iterator[tuple[str, int]]:
            for label, name in enumerate(names):
                for line in read_lines(lists / f"{name}{end}"):
                    file, _, use = line.rpartition(" ")
                    if use not in ("0", "1", "2"):
                        raise InputError(
                            f"{lists / name}{end} has a line that ends in none of 0, 1 and 2: "
                            f"{line!r:.80}."
                        )
                    if use == _USES[split]:
                        yield f"{name}/{file.strip()}", label

        return names, clips()
