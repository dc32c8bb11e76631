"""Something-Something V1: 20bn-something-something-v1/{id}/00001.jpg, and "id;class name" tables.

The classes are sorted by name, as TSM and those after it do; the labels file has another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gtdnet.data.formats import lookup
from gtdnet.data.formats.base import ALIASES, NewClip, Rows, WritableFormat, register_format
from gtdnet.text import in_nfc


class IdTables(WritableFormat):
    """PREFIX-labels.csv, PREFIX-train.csv, ... and 20bn-PREFIX/{id}/ with the pictures of a clip.

    Only the names of the files tell the datasets of this kind apart: ``is_jester``.
    """

    prefix: str
    is_jester = False

    def recognises(self, root: Path) -> bool:
        labels = lookup.find_file(root, ".csv", ("labels",))
        is_own = labels is not None and ("jester" in lookup.words_of(labels)) == self.is_jester
        return is_own and bool(self.splits(root))

    def splits(self, root: Path) -> Iterable[str]:
        return lookup.split_files(root, ".csv")

    def class_names(self, root: Path) -> list[str]:
        """In the order of the labels file."""
        labels = lookup.need_file(root, ".csv", ("labels",), f"{self.prefix}-labels.csv")
        return list(dict.fromkeys(map(in_nfc, lookup.read_lines(labels))))

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        class_names = self.class_names(root)
        index = {name: number for number, name in enumerate(class_names)}
        table = lookup.need_file(root, ".csv", ALIASES[split], f"{self.prefix}-{split}.csv")
        named = root / f"20bn-{self.prefix}"
        clips = lookup.ClipFolder(named if named.is_dir() else root)

        def rows() -> Rows:
            for line in lookup.read_lines(table):
                clip, _, name = (part.strip() for part in line.partition(";"))
                label = lookup.label_of(name or None, index, clip, table, split)
                yield clips.row(clip, label, clip)

        return class_names, rows()

    def clip_path(self, clip: NewClip) -> Path:
        return Path(f"20bn-{self.prefix}", str(clip.number))

    def write(self, root: Path, names: Sequence[str], clips: Sequence[NewClip], seed: int) -> None:
        lookup.write_lines(root / f"{self.prefix}-labels.csv", names)
        for split, mine in lookup.by_split(clips).items():
            lines = [f"{c.number};{c.class_name}" for c in mine]
            if split == "test":  # as in the real datasets, without labels
                lines = [str(c.number) for c in mine]
            lookup.write_lines(root / f"{self.prefix}-{split}.csv", lines)


@register_format
class SomethingV1(IdTables):
    name = "something-v1"
    prefix = "something-something-v1"
    signs = "*-labels.csv"

    def class_names(self, root: Path) -> list[str]:
        return sorted(super().class_names(root))

    def write(self, root: Path, names: Sequence[str], clips: Sequence[NewClip], seed: int) -> None:
        # As in the real dataset, the file's order is not the order of the classes.
        shuffled = np.random.default_rng(seed).permutation(names).tolist()
        super().write(root, shuffled, clips, seed)
