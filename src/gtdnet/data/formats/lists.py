"""Lists of clips: train.txt, val.txt, ... with "path label" or "path num_frames label" on a line.

Paths are relative to the list. classes.txt has the class names in index order; without it the
classes are called "class 0", "class 1", ... The root may also be a list itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from gtdnet.data.formats import lookup
from gtdnet.data.formats.base import (
    ALIASES,
    MAYBE,
    SPLITS,
    NewClip,
    Rows,
    VideoRecord,
    WritableFormat,
    register_format,
)
from gtdnet.errors import InputError
from gtdnet.text import in_nfc


class _Line(NamedTuple):
    path: str
    label: int | None
    where: str


@register_format
class Lists(WritableFormat):
    name = "list"
    signs = "train.txt"

    def recognises(self, root: Path) -> float:
        if root.is_file():
            return MAYBE * (root.suffix == ".txt")
        return bool(lookup.split_files(root, ".txt", lookup.HERE))

    def splits(self, root: Path) -> Iterable[str]:
        return [split for split in SPLITS if lookup.list_of(root, split, ".txt")]

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        folder, table = root.parent if root.is_file() else root, lookup.list_of(root, split, ".txt")
        if table is None:
            found = lookup.split_files(folder, ".txt", lookup.HERE).values()
            there = ", ".join(path.name for paths in found for path in paths) or "no list"
            raise InputError(
                f"There is no list for the {split} split of {root} (there is {there}); "
                f"write {folder / ALIASES[split][0]}.txt."
            )
        names_file, names = lookup.listed_classes(folder)
        lines = _lines(table, names, split)
        if not names_file:
            train = lookup.list_of(root, "train", ".txt") or table
            labels = [line.label for line in _lines(train, (), "train")]
            names = lookup.numbered_classes(labels, train)
        folders = lookup.Listings()

        def rows() -> Rows:
            for name, label, where in lines:
                if label is not None and not 0 <= label < len(names):
                    from_1 = "" if any(line.label == 0 for line in lines) else ", counted from 0"
                    raise InputError(
                        f"{where} has label {label}, but {names_file or 'the training list'} knows "
                        f"{len(names)} classes{from_1}."
                    )
                path = folder / name
                clip = Path(name).with_suffix("") if lookup.is_video(name) else Path(name)
                yield VideoRecord(clip.as_posix(), str(path), label), folders.hold(str(path))

        return names, rows()

    def clip_path(self, clip: NewClip) -> Path:
        return Path("videos", f"{clip.number}.mp4")

    def write(self, root: Path, names: Sequence[str], clips: Sequence[NewClip], seed: int) -> None:
        lookup.write_lines(root / "classes.txt", names)
        for split, mine in lookup.by_split(clips).items():
            lines = [f"{self.clip_path(clip).as_posix()} {clip.label}" for clip in mine]
            lookup.write_lines(root / f"{ALIASES[split][0]}.txt", lines)


def _lines(table: Path, names: Sequence[str], split: str) -> list[_Line]:
    """The lines of a list, taken from the right as paths may hold spaces.

    Whether the number before the label counts frames or ends the path is decided once a file, by
    which reading finds more of the first 100 paths on disk; if neither does, it counts frames.
    """
    number_of = {name: number for number, name in enumerate(names)}
    parsed: list[_Line] = []
    for number, line in enumerate(lookup.read_lines(table, keep_blank=True), 1):
        if not line:
            continue
        where = f"{table}, line {number},"
        path, _, last = line.rpartition(" ") if " " in line else line.rpartition("\t")
        if path and last.removeprefix("-").isdecimal():
            parsed.append(_Line(path.strip(), lookup.whole_number(last, where), where))
        elif ends := [i for i, c in enumerate(line) if c in " \t" and _name(line, i) in number_of]:
            label = number_of[_name(line, ends[0])]  # of names that end alike the longest
            parsed.append(_Line(line[: ends[0]].strip(), label, where))
        elif split == "test":
            parsed.append(_Line(line, None, where))
        else:
            raise InputError(
                f'{where} is neither "path label" nor "path num_frames label": {line!r:.80}; '
                f"end each line with the number of its class, or a name that classes.txt lists."
            )
    counted = [line.path.rpartition(" ") for line in parsed]
    if parsed and all(path and count.isdecimal() for path, _, count in counted):
        folders = lookup.Listings()
        plain = sum(folders.hold(str(table.parent / line.path)) for line in parsed[:100])
        short = sum(folders.hold(str(table.parent / path)) for path, _, _ in counted[:100])
        if short >= plain:
            pairs = zip(parsed, counted, strict=True)
            parsed = [line._replace(path=path.strip()) for line, (path, _, _) in pairs]
    return parsed


def _name(line: str, space: int) -> str:
    return in_nfc(line[space + 1 :])
