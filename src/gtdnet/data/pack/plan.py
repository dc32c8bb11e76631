"""What is to be packed, and what must be the same for an interrupted run to be taken up again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtdnet.data.formats import SPLITS, Annotations, detect_format, list_splits, read_annotations
from gtdnet.data.pack.remote import RemoteShard
from gtdnet.data.pack.shards import VERSION, packed_clip
from gtdnet.errors import InputError, check_at_least, check_between


@dataclass
class PackOptions:
    """Turn a dataset into a store of JPEG frames, where 8 frames cost the decoding of 8

    Args:
        data: dataset folder, list file or manifest of gtdnet check.
        output: folder to write; new, empty or an interrupted run's.
        format: how the dataset is laid out; default: recognised.
        splits: splits to pack, as train,validation; default: all there are.
        short_side: pixels to which the shorter side is reduced; smaller clips stay as they are.
        quality: of the JPEG pictures, 1 to 100.
        shard_size: megabytes at which a shard is closed, at most 2000.
        workers: processes, or actors of Ray; default: one per core.
        runner: what spreads the clips: processes of this machine, or a Ray cluster.
        ray_address: of the cluster, auto for the one of this machine; default: RAY_ADDRESS, else
            one is started here for this run.
    """

    data: str
    output: str
    format: str | None = None
    splits: str | None = None
    short_side: int = 256
    quality: int = 90
    shard_size: int = 1000
    workers: int | None = None
    runner: str = "processes"
    ray_address: str | None = None


@dataclass(frozen=True)
class Job:
    """A clip to pack: where it is, what it is called in its shard, and how it is encoded."""

    path: str
    name: str
    short_side: int
    quality: int


@dataclass(frozen=True)
class Plan:
    """The annotations by split, a job for each file or folder, and what must stay the same."""

    splits: dict[str, Annotations]
    jobs: list[Job]
    arguments: dict[str, Any]


def make_plan(options: PackOptions) -> Plan:
    """List the clips of the dataset; InputError for bad options, or if it cannot be read."""
    check_between(16, 4096, short_side=options.short_side)
    check_between(1, 100, quality=options.quality)
    check_between(1, 2000, shard_size=options.shard_size)
    check_at_least(1, workers=options.workers)
    root = Path(options.data)
    splits = _read(options)
    jobs = _jobs(splits, root, options)
    return Plan(splits, jobs, _arguments(options, splits, jobs))


def _read(options: PackOptions) -> dict[str, Annotations]:
    """The annotations of each split, in the order of :data:`SPLITS`."""
    data = options.data
    format = options.format or detect_format(data)
    given = [word.strip() for word in options.splits.split(",")] if options.splits else None
    splits = given or list_splits(data, format)
    splits = sorted(splits, key=lambda split: SPLITS.index(split) if split in SPLITS else -1)
    read = {split: read_annotations(data, split, format, allow_missing=True) for split in splits}
    if not any(found.records for found in read.values()):
        raise InputError(f"{data} has no clips to pack; check that the clips lie there")
    first = next(iter(read.values()))
    for split, found in read.items():
        if found.class_names != first.class_names:
            raise InputError(
                f"the splits {first.split} and {split} of {data} have other classes; pack each "
                f"for itself with --splits"
            )
    return read


def _jobs(splits: dict[str, Annotations], root: Path, options: PackOptions) -> list[Job]:
    """One for each file or folder, in the order of the annotations, each with a name of its own."""
    base = root if root.is_dir() else root.parent
    paths = dict.fromkeys(record.path for found in splits.values() for record in found.records)
    jobs: dict[str, Job] = {}
    for path in paths:
        plain = name = _name(path, base)
        repeats = itertools.count(2)
        while name in jobs:
            name = f"{plain}~{next(repeats)}"
        jobs[name] = Job(path, name, options.short_side, options.quality)
    return list(jobs.values())


def _name(path: str, base: Path) -> str:
    """The path below the dataset, such that it can be unpacked anywhere and leads nowhere else."""
    if packed := packed_clip(path):
        return packed.name
    clip = Path(path)
    inside = clip.relative_to(base) if clip.is_relative_to(base) else Path(clip.name)
    text = inside.as_posix().encode("utf-8", "replace").decode()
    parts = (re.sub(r'[\x00-\x1f\x7f\\:*?"<>|]', "_", part) for part in text.split("/"))
    return "/".join(re.sub(r"^\.+$|[. ]$", "_", part) for part in parts)


def _arguments(
    options: PackOptions, splits: dict[str, Annotations], jobs: Sequence[Job]
) -> dict[str, Any]:
    """Of the files it is names and sizes. Not times: copying a dataset changes them."""
    name_of = {job.path: job.name for job in jobs}
    files = hashlib.sha256()
    for job in jobs:
        files.update(json.dumps([job.name, _size(job.path)]).encode())
    annotations = hashlib.sha256()
    for split, found in splits.items():
        records = [(r.id, r.label, name_of[r.path]) for r in found.records]
        missing = [(r.id, r.label) for r in found.missing]
        annotations.update(json.dumps([split, found.class_names, records, missing]).encode())
    return {
        "version": VERSION,
        "splits": list(splits),
        "short_side": options.short_side,
        "quality": options.quality,
        "shard_size": options.shard_size,
        "annotations": annotations.hexdigest(),
        "files": files.hexdigest(),
    }


def _size(path: str) -> int | list[tuple[str, int]]:
    """Bytes of a file, of each picture in a folder, or of the shard in which a packed clip lies."""
    packed = packed_clip(path)
    clip = packed.shard if packed else Path(path)
    if isinstance(clip, RemoteShard):
        return clip.size
    try:
        if clip.is_dir():
            return sorted((entry.name, entry.stat().st_size) for entry in os.scandir(clip))
        return clip.stat().st_size
    except OSError:  # decoding it will say why
        return 0
