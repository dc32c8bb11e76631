"""A packed dataset, which `gtdnet pack` writes (:mod:`gtdnet.data.pack`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gtdnet.data.formats.base import Format, Rows, VideoRecord, register_format
from gtdnet.data.pack.index import is_packed, list_clips, read_index


@register_format
class Packed(Format):
    name = "packed"
    signs = "pack.json"
    is_derived = True

    def recognises(self, root: Path) -> bool:
        return is_packed(root)

    def splits(self, root: Path) -> Iterable[str]:
        return read_index(root)["splits"]

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        class_names, rows = list_clips(root, read_index(root), split)
        return class_names, [
            (VideoRecord(id, path, label), there) for id, path, label, there in rows
        ]
