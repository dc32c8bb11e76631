"""A clip list, or manifest: a JSON file with class names and the clips of each split.

`gtdnet check --manifest` writes it, with the clips that decode. Paths are relative to it if they
lie below its folder, so that both can move together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gtdnet.data.formats import lookup
from gtdnet.data.formats.base import (
    Annotations,
    Format,
    Rows,
    VideoRecord,
    register_format,
)
from gtdnet.data.labels import columns_of_json, label_of_json
from gtdnet.data.pack.remote import is_remote
from gtdnet.errors import InputError
from gtdnet.files import write_text

MANIFEST_VERSION = 1


@register_format
class ClipList(Format):
    name = "manifest"
    signs = "a .json file"
    is_derived = True

    def recognises(self, root: Path) -> bool:
        return root.suffix == ".json" and root.is_file()

    def splits(self, root: Path) -> Iterable[str]:
        manifest = lookup.read_json(root)
        splits = manifest.get("splits") if isinstance(manifest, dict) else None
        return splits if isinstance(splits, dict) else ()

    def read(self, root: Path, split: str) -> tuple[Sequence[str], Rows]:
        manifest = lookup.read_json(root)
        if not isinstance(manifest, dict) or "gtdnet_manifest" not in manifest:
            raise InputError(f"{root} is not a manifest; write one with gtdnet check --manifest.")
        if manifest["gtdnet_manifest"] != MANIFEST_VERSION:
            raise InputError(
                f"{root} is a manifest of version {manifest['gtdnet_manifest']!r}, not "
                f"{MANIFEST_VERSION}; write it again with gtdnet check --manifest."
            )
        damaged = InputError(f"The manifest {root} is damaged; write it again.")
        names, splits = manifest.get("class_names"), manifest.get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise damaged
        if not isinstance(splits, dict):
            raise damaged
        if split not in splits:
            there = ", ".join(splits) or "none"
            raise InputError(f"The manifest {root} has no {split} split (it has {there}).")
        if not isinstance(splits[split], list):
            raise damaged
        folders = lookup.Listings()
        rows = []
        for item in splits[split]:
            match item:
                case {"id": str(id), "path": str(path), "label": label}:
                    path = path if is_remote(path) else str(root.parent / path)
                case _:
                    raise damaged
            try:
                label = label_of_json(label, len(names))
            except ValueError as error:
                raise InputError(f"The clip {id} in {root} has no valid label: {error}.") from None
            try:
                columns = columns_of_json(item.get("columns", {}))
            except ValueError:
                raise damaged from None
            rows.append((VideoRecord(id, path, label, columns), folders.hold(path)))
        return names, rows


def write_clip_list(
    path: Path,
    source: str | Path,
    read: Mapping[str, Annotations],
    facts: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the clips of these splits that have facts: by path, what else to say of a clip."""
    folder = path.parent.resolve()
    first = next(iter(read.values()))
    content = {
        "gtdnet_manifest": MANIFEST_VERSION,
        "source": str(source),
        "format": first.format,
        "class_names": first.class_names,
        "splits": {
            split: [
                {
                    "id": r.id,
                    "path": _relative(r.path, folder),
                    "label": r.label,
                    **r.further,
                    **facts[r.path],
                }
                for r in found.records
                if r.path in facts
            ]
            for split, found in read.items()
        },
    }
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False))


def _relative(path: str, folder: Path) -> str:
    if is_remote(path):
        return path
    absolute = Path(path).absolute()
    for candidate in (absolute, absolute.resolve()):
        if candidate.is_relative_to(folder):
            return candidate.relative_to(folder).as_posix()
    return str(absolute)
