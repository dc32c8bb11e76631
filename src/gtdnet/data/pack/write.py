"""`gtdnet pack`: a dataset decoded once and stored so that single frames can be read.

Every frame of every clip becomes a JPEG picture, reduced to a given short side, in shards
(:mod:`gtdnet.data.pack.shards`). Frame i of a packed clip is frame i of the original, so sampling
chooses the same frames. Processes decode and encode; this one writes shard after shard, each whole
or not at all, in the order of the annotations: any number of workers gives the same bytes, and what
was stopped or killed, at any point, goes on after its last shard.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TypeVar

from gtdnet.data.pack.encode import encode, encode_apart, fatal
from gtdnet.data.pack.index import (
    INDEX,
    SUMS,
    UNFINISHED,
    read_index,
    read_sums,
    shard_name,
    write_sums,
)
from gtdnet.data.pack.plan import Job, PackOptions, Plan, make_plan
from gtdnet.data.pack.shards import MAX_BYTES, VERSION, NewClip, read_shard, write_shard
from gtdnet.errors import InputError
from gtdnet.files import sha256, write_text
from gtdnet.spread.each import Spread, map_spread
from gtdnet.text import counted, say
from gtdnet.workers import num_cores

T = TypeVar("T")

_PARTS, _LOCK = ".parts", "lock"
_BEFORE_PLAN = (_PARTS, ".pack-unfinished-")  # what a run may leave that is killed at once
_TEMPORARY = (".pack-*.json", ".SHA256SUMS-*")  # names that gtdnet.files gives to half a file
_PER_PROCESS = 8  # clips that take about as long as starting a process does
_SHOWN_FAILURES = 20


def pack(
    options: PackOptions, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Pack a dataset; what an interrupted run has finished is kept.

    ``progress`` is called with (clips done, clips in all). Returns, JSON-ready: output, source,
    format, classes, splits (clips of each), missing, clips (files packed), frames, failed (path,
    clip and reason of each that is broken, or has broken frames), shards, bytes, written (clips
    that this call packed), seconds.

    Raises:
        InputError: bad options, a dataset that cannot be read, an output folder that holds anything
            else or that another run is writing to, or no clip that can be decoded.
    """
    began = time.perf_counter()
    Spread(options.runner, options.ray_address).chosen()
    plan = make_plan(options)
    root, output = Path(options.data), Path(options.output)
    if root.is_dir() and output.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"the output {output} lies in the dataset {root}, where it would be taken for a part "
            f"of it; choose a folder beside it"
        )
    written = 0
    if not _is_done(output, plan.arguments):
        with _alone(output) as parts:
            if not _is_done(output, plan.arguments):  # another run may just have ended
                write_text(output / UNFINISHED, json.dumps(plan.arguments, indent=1) + "\n")
                written = _write_shards(
                    output, parts, plan.jobs, options, progress or (lambda done, total: None)
                )
                _write_index(output, options.data, plan)
    if (output / UNFINISHED).is_file():  # nothing is left but the dataset
        shutil.rmtree(output / _PARTS, ignore_errors=True)
        for path in itertools.chain(*map(output.glob, _TEMPORARY), [output / UNFINISHED]):
            path.unlink(missing_ok=True)
    index = read_index(output)
    shards = index["shards"]
    return {
        "output": str(output),
        "source": index["source"],
        "format": index["format"],
        "classes": len(index["class_names"]),
        "splits": {split: len(part["clips"]) for split, part in index["splits"].items()},
        "missing": sum(len(part["missing"]) for part in index["splits"].values()),
        "clips": sum(shard["clips"] for shard in shards),
        "frames": sum(shard["frames"] for shard in shards),
        "failed": index["failed"],
        "shards": len(shards),
        "bytes": sum(shard["bytes"] for shard in shards),
        "written": written,
        "seconds": round(time.perf_counter() - began, 3),
    }


def summary(result: dict[str, Any]) -> str:
    """The result of :func:`pack` for people."""
    shards = counted(result["shards"], "shard")
    lines = [
        f"{result['output']}: {result['clips']} clips, {result['frames']} frames, {shards}, "
        f"{result['bytes'] / 1e6:.1f} MB"
    ]
    if not result["written"]:
        lines.append("all of it was there already; nothing was written")
    if result["missing"]:
        lines.append(f"annotated but not there, as before: {result['missing']} clips")
    if failed := result["failed"]:
        lines.append(f"broken, which training and evaluation will say again: {len(failed)} clips")
        lines += [f"  {clip['path']}: {clip['reason']}" for clip in failed[:_SHOWN_FAILURES]]
        if len(failed) > _SHOWN_FAILURES:
            lines.append(f"  ... and {len(failed) - _SHOWN_FAILURES} more, all in {INDEX}")
    return "\n".join([*lines, f"use it with: --data {result['output']}"])


def in_shards(
    clips: Iterable[T], size: Callable[[T], int], limit: int, first: int = 0
) -> Iterator[tuple[int, T]]:
    """Each clip after the number of its shard, which count from ``first``; in order, lazily.

    A shard is closed before the clip that would make it larger than ``limit``. A clip that is
    larger by itself has a shard to itself.
    """
    number, used, is_empty = first, 0, True
    for clip in clips:
        need = size(clip)
        if not is_empty and used + need > limit:
            number, used = number + 1, 0
        used, is_empty = used + need, False
        yield number, clip


def _is_done(output: Path, arguments: dict[str, Any]) -> bool:
    """Whether the folder holds this very dataset; if not, it is new, or an interrupted run's."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; give a folder to write to")
    is_done, plan = (output / INDEX).is_file(), output / UNFINISHED
    if is_done:
        theirs = read_index(output).get("arguments")
    elif plan.is_file():
        try:
            theirs = json.loads(plan.read_text(encoding="utf-8"))
        except ValueError:
            theirs = None
    else:
        there = output.iterdir() if output.is_dir() else ()
        if all(path.name.startswith(_BEFORE_PLAN) for path in there):
            return False
        raise InputError(f"{output} is not empty; give a new or empty folder, or delete that one")
    theirs = theirs if isinstance(theirs, dict) else {}
    if differing := ", ".join(k for k, v in arguments.items() if theirs.get(k) != v):
        raise InputError(
            f"{output} holds a dataset that was packed with other {differing}; give another "
            f"folder, or delete that one"
        )
    return is_done


@contextmanager
def _alone(output: Path) -> Iterator[Path]:
    """Yield the folder for unfinished files, which only one run has at a time.

    The system releases the lock when the process ends, even if it is killed.
    """
    parts = output / _PARTS
    parts.mkdir(parents=True, exist_ok=True)
    with (parts / _LOCK).open("ab") as lock:
        if not _lock(lock):
            raise InputError(
                f"{output} is being written by another gtdnet pack; wait until that has ended, or "
                f"give another folder"
            )
        try:
            yield parts
        finally:
            shutil.rmtree(parts, ignore_errors=True)


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file; False if another process has it. Where there are no locks, always True."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return True
    return os.fstat(file.fileno()).st_nlink > 0  # else its holder has removed it and is ending


@dataclass(frozen=True)
class _Tasks(Sequence[tuple[Job, Path]]):
    """A job, and the file for its pictures; of very many only one is in memory."""

    jobs: Sequence[Job]
    parts: Path

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, number: int) -> tuple[Job, Path]:  # type: ignore[override]
        return self.jobs[number], self.parts / str(number)


def _write_shards(
    output: Path,
    parts: Path,
    jobs: Sequence[Job],
    options: PackOptions,
    progress: Callable[[int, int], None],
) -> int:
    """Write the shards that are not there yet; the number of clips in them.

    In the end SHA256SUMS lists all of them, and nothing else.
    """
    number, kept, sums = _whole_shards(output, jobs)
    write_sums(output, sums)  # a run may have been killed before it did, or after it listed more
    rest, done = jobs[kept:], kept
    workers = options.workers or num_cores()
    workers = min(workers, len(rest) if options.workers else len(rest) // _PER_PROCESS)
    limit = min(options.shard_size * 1_000_000, MAX_BYTES)
    progress(done, len(jobs))

    def told(clips: Iterable[tuple[int, NewClip]]) -> Iterator[NewClip]:
        nonlocal done
        for _, clip in clips:
            yield clip
            done += 1
            progress(done, len(jobs))

    tasks = _Tasks(rest, parts)
    spread = Spread(options.runner, options.ray_address, options.workers)
    function = encode_apart if spread.is_ray else encode
    try:
        with closing(map_spread(function, tasks, workers, spread, fatal)) as encoded:
            numbered = in_shards(encoded, NewClip.num_bytes, limit, number)
            for number, clips in itertools.groupby(numbered, key=itemgetter(0)):
                name = shard_name(number)
                write_shard(parts / name, told(clips))
                sums[name] = sha256(parts / name)
                (parts / name).replace(output / name)
                write_sums(output, sums)
    except BaseException:  # Ctrl-C above all
        say(f"stopped after {done} of {len(jobs)} clips; the same command goes on")
        raise
    return len(rest)


def _whole_shards(output: Path, jobs: Sequence[Job]) -> tuple[int, int, dict[str, str]]:
    """How many shards are there, how many clips they hold, and their SHA-256 by name."""
    listed, sums = read_sums(output), {}
    number = kept = 0
    while (shard := output / shard_name(number)).is_file():
        try:
            names = list(read_shard(shard))
        except InputError:  # a crash of the machine may leave such a file
            break
        if names != [job.name for job in jobs[kept : kept + len(names)]]:
            break
        kept += len(names)
        number += 1
        sums[shard.name] = listed.get(shard.name) or sha256(shard)
    return number, kept, sums


def _write_index(output: Path, source: str, plan: Plan) -> None:
    """Write pack.json, which makes the dataset whole; InputError if no clip could be decoded."""
    path_of = {job.name: job.path for job in plan.jobs}
    place: dict[str, str] = {}
    shards: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    sums = read_sums(output)
    for shard in sums:
        entries = read_shard(output / shard)
        shards.append(
            {
                "name": shard,
                "bytes": (output / shard).stat().st_size,
                "clips": len(entries),
                "frames": sum(entry.stored for entry in entries.values()),
                "first": next(iter(entries)),
            }
        )
        for name, entry in entries.items():
            path = path_of[name]
            place[path] = f"{shard}/{name}"
            if reason := next(iter((entry.broken or {}).values()), entry.reason):
                failed.append({"path": path, "clip": place[path], "reason": reason})
    if not any(shard["frames"] for shard in shards):
        for name in (*sums, SUMS, UNFINISHED):
            (output / name).unlink()
        raise InputError(
            f"none of the {len(plan.jobs)} clips of {source} can be decoded, the first being "
            f"{failed[0]['path']}: {failed[0]['reason']}"
        )
    first = next(iter(plan.splits.values()))
    index = {
        "gtdnet_pack": VERSION,
        "source": source,
        "format": first.format,
        "arguments": plan.arguments,
        "class_names": first.class_names,
        "shards": shards,
        "failed": failed,
        "splits": {
            split: {
                "clips": [
                    {"id": r.id, "label": r.label, "clip": place[r.path], **r.further}
                    for r in found.records
                ],
                "missing": [asdict(record) for record in found.missing],
            }
            for split, found in plan.splits.items()
        },
    }
    text = json.dumps(index, indent=1) + "\n"
    write_sums(output, {**sums, INDEX: hashlib.sha256(text.encode()).hexdigest()})
    write_text(output / INDEX, text)
