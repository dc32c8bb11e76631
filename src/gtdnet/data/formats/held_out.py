"""split.json: a dataset without a validation split, and which of its clips a run holds out.

`gtdnet train --val` writes it into the run. As a dataset itself it has the splits of that run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gtdnet.data.formats import lookup
from gtdnet.data.formats.base import (
    Annotations,
    Format,
    Rows,
    VideoRecord,
    list_splits,
    read_annotations,
    register_format,
)
from gtdnet.data.pack.remote import is_remote
from gtdnet.errors import InputError
from gtdnet.files import write_json
from gtdnet.text import in_nfc

SPLIT_FILE = "split.json"
_KEY, _VERSION = "gtdnet_split", 1


@dataclass(frozen=True)
class HeldOut:
    """Ids of the clips of a dataset that are held out for validation.

    ``data`` and ``format`` are the dataset's; ``chosen`` says how they were chosen, JSON-ready.
    """

    data: str
    format: str | None
    validation: tuple[str, ...]
    chosen: Mapping[str, Any] = field(default_factory=dict)

    def parts(self, train: Annotations) -> tuple[Annotations, Annotations]:
        """The training and the validation clips; InputError where a held out one is not there."""
        ids = frozenset(map(_spelled, self.validation))
        there = {_spelled(r.id) for r in (*train.records, *train.missing)}
        if gone := sorted(ids - there):
            raise InputError(
                f"{train.root} does not have {len(gone)} of the {len(ids)} clips that the run held "
                f"out, the first being {gone[0]}; give the dataset that it was trained on."
            )

        def only(rows: Sequence[VideoRecord], held_out: bool) -> tuple[VideoRecord, ...]:
            return tuple(r for r in rows if (_spelled(r.id) in ids) == held_out)

        rest, mine = (
            replace(
                train, records=only(train.records, is_mine), missing=only(train.missing, is_mine)
            )
            for is_mine in (False, True)
        )
        return rest, replace(mine, split="validation")

    def save(self, path: Path) -> None:
        """Write it; a dataset below the current folder is found from there when both move."""
        data = self.data
        if not is_remote(data):
            there = Path(os.path.normpath(Path(data).absolute()))
            if there.is_relative_to(Path.cwd()):
                there = Path(os.path.relpath(there, path.absolute().parent))
            data = there.as_posix()
        content = {
            _KEY: _VERSION,
            "data": data,
            "format": self.format,
            "chosen": dict(self.chosen),
            "validation": self.validation,
        }
        write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> HeldOut:
        """What `save` wrote; InputError if it is something else."""
        match lookup.read_json(path):
            case {
                "gtdnet_split": 1,
                "data": str(data),
                "format": (str() | None) as format,
                "chosen": dict(chosen),
                "validation": list(ids),
            } if all(isinstance(id, str) for id in ids):
                if not is_remote(data):
                    data = os.path.normpath(path.parent / data)
                return cls(data, format, tuple(ids), chosen)
        raise InputError(f"{path} is not the split of a run; start a new run with --val.")


@register_format
class RunSplit(Format):
    name = "split"
    signs = "split.json of a run"
    is_derived = True

    def recognises(self, root: Path) -> bool:
        if root.suffix != ".json" or not root.is_file():
            return False
        with root.open("rb") as file:
            return f'"{_KEY}"'.encode() in file.read(64)

    def splits(self, root: Path) -> Iterable[str]:
        of = HeldOut.read(root)
        return {"train", "validation", *list_splits(of.data, of.format)}

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        of = HeldOut.read(root)
        base = "train" if split == "validation" else split
        found = read_annotations(of.data, base, of.format, allow_missing=True)
        if split != "test":
            found = of.parts(found)[split == "validation"]
        rows = [*((r, True) for r in found.records), *((r, False) for r in found.missing)]
        return found.class_names, rows


def _spelled(id: str) -> str:
    """An id as all systems spell it: names of files are decomposed on some."""
    return in_nfc(id)
