"""What UCF101 and HMDB51 share: a folder per class, and official lists in three folds.

The fold is that of the list which is given as the root, else the first there is. Results are
published on its test clips: they are the validation split. There is no test split.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from gtdnet.data.formats.base import Format, Rows
from gtdnet.data.formats.lookup import PLACES, ClipFolder
from gtdnet.errors import InputError


class Folds(Format):
    """A dataset in folds."""

    videos: str  # name of the folder that holds the class folders
    lists: str  # name of the folder that holds the lists
    pattern: re.Pattern[str]  # of the name of a list; its group ``fold`` is the fold

    @abstractmethod
    def read_fold(
        self, lists: Path, fold: str, split: str
    ) -> tuple[Sequence[str], Iterable[tuple[str, int]]]:
        """Class names, and (class folder/file name, label) of each clip."""

    def recognises(self, root: Path) -> bool:
        return self.find_fold(root) is not None

    def splits(self, root: Path) -> Iterable[str]:
        return ("train", "validation")

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        if split == "test":
            raise InputError(
                f"The format {self.name} has no test split: its test clips are for validation."
            )
        if not (found := self.find_fold(root)):
            raise InputError(f"{root} has no lists of {self.name}; put {self.lists} into it.")
        lists, fold = found
        names, listed = self.read_fold(lists, fold, split)
        home = lists.parent if lists.name in (self.lists, *PLACES) else lists
        places = [home / self.videos, home / "videos", home]
        there = (place for place in places if any((place / name).is_dir() for name in names))
        videos = next(there, places[0])
        clips = {name: ClipFolder(videos / name) for name in names}

        def rows() -> Rows:
            for path, label in listed:
                name, _, file = path.partition("/")
                stem = Path(file).stem
                yield clips[name].row(f"{name}/{stem}", label, file, stem)

        return names, rows()

    def find_fold(self, root: Path) -> tuple[Path, str] | None:
        """The folder that holds the lists, and the fold as it is written in their names."""
        if root.is_file():
            match = self.pattern.fullmatch(root.name)
            return (root.parent, match["fold"]) if match else None
        places = [root / self.lists, *(root / place for place in PLACES)]
        if root.absolute().name == self.videos:
            places.append(root.absolute().parent / self.lists)
        for place in places:
            if place.is_dir():
                matches = (self.pattern.fullmatch(path.name) for path in place.iterdir())
                if folds := [match["fold"] for match in matches if match]:
                    return place, min(folds)
        return None
