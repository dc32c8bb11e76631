"""Packed datasets as they lie on disk: the index, and what is in them.

PACKED/clips-00000.zip   the shards (:mod:`gtdnet.data.pack.shards`)
PACKED/SHA256SUMS        of shards and index, as sha256sum -c reads it
PACKED/pack.json         the index: class names and, of each split, ids, labels and clips;
                         written last, so where it is, all the rest is
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gtdnet.data.labels import Label, columns_of_json, label_of_json
from gtdnet.data.pack.remote import INDEX, SUMS, check_sizes, remote_pack, sums_of
from gtdnet.data.pack.shards import AGAIN, VERSION, read_shard
from gtdnet.errors import InputError
from gtdnet.files import sha256, write_text

UNFINISHED = "pack-unfinished.json"  # instead of the index as long as packing goes on

_SHARD = re.compile(r"clips-\d{5,}\.zip")


def shard_name(number: int) -> str:
    """ "clips-00000.zip" and so on."""
    return f"clips-{number:05d}.zip"


def is_packed(root: Path | str) -> bool:
    """Whether the folder, or URL, holds a packed dataset.

    InputError if packing it was interrupted, or if it can't be fetched.
    """
    if isinstance(root, str):
        return bool(remote_pack(root).shards)
    if (root / INDEX).is_file():
        return True
    if (root / UNFINISHED).is_file():
        raise InputError(
            f"{root} is not packed to its end; give the same gtdnet pack command again to go on"
        )
    return False


def read_index(root: Path | str) -> dict[str, Any]:
    """What the index of a packed dataset, a folder or URL, holds.

    Raises:
        InputError: it can't be read, is of another version, or a shard is missing or cut off.
    """
    path = f"{root}/{INDEX}" if isinstance(root, str) else root / INDEX
    try:
        text = remote_pack(root).index if isinstance(root, str) else Path(path).read_bytes()
        index = json.loads(text.decode())
        version = index["gtdnet_pack"]
        shards = [(s["name"], s["bytes"], s["first"]) for s in index["shards"]]
        names = index["class_names"]
        is_good = isinstance(names, list) and all(isinstance(name, str) for name in names)
        is_good = is_good and isinstance(index["splits"], dict) and bool(index["splits"])
        is_good = is_good and all(_SHARD.fullmatch(name) for name, _, _ in shards)
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}); {AGAIN}") from None
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _damaged(root) from None
    if version != VERSION:
        raise InputError(f"{path} is of version {version!r}, not {VERSION}; pack the dataset again")
    if not is_good:
        raise _damaged(root)
    if isinstance(root, str):
        check_sizes(remote_pack(root))
        return index
    for name, size, first in shards:
        try:
            found = (root / name).stat().st_size
        except OSError as error:
            what = f"{root / name} can't be opened ({error.strerror})"
        else:
            what = f"{root / name} has {found} bytes instead of {size}"
            if found == size:
                continue
        raise InputError(f"the shard {what}; its clips, from {first} on, can't be read; {AGAIN}")
    return index


def list_clips(
    root: Path | str, index: dict[str, Any], split: str
) -> tuple[list[str], list[tuple[str, str, Label, bool, dict[str, str]]]]:
    """Class names, and of each clip of a split: id, path, label, whether it is there, and what
    further columns of a table said of it.

    InputError if there is no such split, or the index is damaged.
    """
    try:
        if split not in index["splits"]:
            there = ", ".join(index["splits"]) or "none"
            raise InputError(f"The packed dataset {root} has no {split} split (it has {there}).")
        names = index["class_names"]
        rows = []
        for item in index["splits"][split]["clips"]:
            shard, *parts = item["clip"].split("/")
            if not _SHARD.fullmatch(shard) or not parts or not {"", ".", ".."}.isdisjoint(parts):
                raise _damaged(root)
            label = label_of_json(item["label"], len(names))
            if isinstance(root, str):
                path = "/".join((root.rstrip("/"), shard, *parts))
            else:
                path = str(Path(root, shard, *parts))
            rows.append((item["id"], path, label, True, columns_of_json(item.get("columns", {}))))
        for item in index["splits"][split]["missing"]:
            label = label_of_json(item["label"], len(names))
            columns = columns_of_json(item.get("columns", {}))
            rows.append((item["id"], item["path"], label, False, columns))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _damaged(root) from None
    for id, path, *_ in rows:
        if not isinstance(id, str) or not isinstance(path, str):
            raise _damaged(root)
    return names, rows


def find_clips(path: Path) -> list[Path] | None:
    """The packed clips that a path names; None if it leads into no packed dataset or shard.

    The path is that of a packed dataset, of a shard, of a clip in either, or of a folder in which
    clips lie there, or a pattern: ``PACKED/val``, ``PACKED/clips-00000.zip/val/jump/*``.

    Raises:
        InputError: the dataset or the shard is damaged.
    """
    place = next((p for p in (path, *path.parents) if p.exists()), None)
    if place is None:
        return None
    inside = path.relative_to(place).as_posix()
    if place.is_file() and _SHARD.fullmatch(place.name):
        clips = {name: place.joinpath(name) for name in read_shard(place)}
    elif place.is_dir() and is_packed(place):
        index = read_index(place)
        rows = [row for split in index["splits"] for row in list_clips(place, index, split)[1]]
        clips = {
            Path(clip).relative_to(place).as_posix().partition("/")[2]: Path(clip)
            for _, clip, _, is_there, _ in rows
            if is_there
        }
    else:
        return None
    if inside == ".":
        return list(clips.values())
    return [
        clip
        for name, clip in clips.items()
        if f"{name}/".startswith(f"{inside}/") or fnmatchcase(name, inside)
    ]


def read_sums(root: Path) -> dict[str, str]:
    """SHA-256 by name of file; empty if there are none."""
    try:
        # What is not UTF-8 is the sum of no file.
        return sums_of((root / SUMS).read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return {}


def write_sums(root: Path, sums: dict[str, str]) -> None:
    """Write what :func:`read_sums` reads."""
    write_text(root / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def changed_files(root: Path | str) -> Iterator[str]:
    """Of a packed dataset the files that are not as they were written, by SHA-256; slow if large.

    Any other dataset has none. One elsewhere is not fetched for that: its index was compared when
    it came, and each picture has a checksum of its own.
    """
    if isinstance(root, Path) and root.is_dir() and is_packed(root):
        sums = read_sums(root)
        for name in (INDEX, *(shard["name"] for shard in read_index(root)["shards"])):
            if sums.get(name) != sha256(root / name):
                yield str(root / name)


def _damaged(root: Path | str) -> InputError:
    return InputError(f"the index {root}/{INDEX} is damaged; {AGAIN}")
