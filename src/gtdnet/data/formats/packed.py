"""A packed dataset, which `gtdnet pack` writes (:mod:`gtdnet.data.pack`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gtdnet.data.formats.base import Rows, UrlFormat, VideoRecord, register_format
from gtdnet.data.pack.index import is_packed, list_clips, read_index


@register_format
class Packed(UrlFormat):
    name = "packed"
    signs = "pack.json"
    is_derived = True

    def recognises(self, root: Path | str) -> bool:
        return is_packed(root)

    def splits(self, root: Path | str) -> Iterable[str]:
        return read_index(root)["splits"]

    def read(self, root: Path | str, split: str) -> tuple[Sequence[str], Rows]:
        class_names, rows = list_clips(root, read_index(root), split)
        return class_names, [
            (VideoRecord(id, path, label, columns), there)
            for id, path, label, there, columns in rows
        ]
