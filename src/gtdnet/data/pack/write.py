"""`gtdnet pack`: a dataset decoded once and stored so that single frames can be read.

Every frame of every clip becomes a JPEG picture, reduced to a given short side, in shards
(:mod:`gtdnet.data.pack.shards`). Frame i of a packed clip is frame i of the original, so sampling
chooses the same frames. Processes decode and encode; this one writes shard after shard, each whole
or not at all, in the order of the annotations: any number of workers gives the same bytes, and what
was stopped or killed, at any point, goes on after its last shard.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import torch

from gtdnet.data.decode import count_frames, probe, scan_frames
from gtdnet.data.formats import (
    FORMATS,
    SPLITS,
    Annotations,
    detect_format,
    list_splits,
    read_annotations,
)
from gtdnet.data.pack.index import (
    INDEX,
    SUMS,
    UNFINISHED,
    read_index,
    read_sums,
    shard_name,
    write_sums,
)
from gtdnet.data.pack.shards import (
    MAX_BYTES,
    VERSION,
    ClipEntry,
    NewClip,
    packed_clip,
    read_shard,
    write_shard,
)
from gtdnet.data.transforms import resize_frames
from gtdnet.errors import DecodeError, InputError
from gtdnet.files import sha256, write_text
from gtdnet.text import say
from gtdnet.workers import num_cores

T = TypeVar("T")

_PARTS, _LOCK = ".parts", "lock"
_BEFORE_PLAN = (_PARTS, ".pack-unfinished-")  # what a run may leave that is killed at once
_TEMPORARY = (".pack-*.json", ".SHA256SUMS-*")  # names that gtdnet.files gives to half a file
_PER_PROCESS = 8  # clips that take about as long as starting a process does
_MEMBER = 200  # bytes that a picture takes of a shard, at most, beside itself and its clip's name
_SHOWN_FAILURES = 20


@dataclass
class PackOptions:
    """Turn a dataset into a store of JPEG frames, where 8 frames cost the decoding of 8

    Args:
        data: dataset folder, list file or manifest of gtdnet check.
        output: folder to write; new, empty or an interrupted run's.
        format: something-v1, something-v2, kinetics, folder or list; default: recognised.
        splits: splits to pack, as train,validation; default: all there are.
        short_side: pixels to which the shorter side is reduced; smaller clips stay as they are.
        quality: of the JPEG pictures, 1 to 100.
        shard_size: megabytes at which a shard is closed, at most 2000.
        workers: processes; default: one per core.
    """

    data: str
    output: str
    format: str | None = None
    splits: str | None = None
    short_side: int = 256
    quality: int = 90
    shard_size: int = 1000
    workers: int | None = None


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
    _check(options)
    root, output = Path(options.data), Path(options.output)
    read = _read(options, root)
    jobs = _jobs(read, root, options)
    arguments = _arguments(options, read, jobs)
    if root.is_dir() and output.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"the output {output} lies in the dataset {root}, where it would be taken for a part "
            f"of it; choose a folder beside it"
        )
    written = 0
    if not _is_done(output, arguments):
        with _alone(output) as parts:
            if not _is_done(output, arguments):  # another run may just have ended
                write_text(output / UNFINISHED, json.dumps(arguments, indent=1) + "\n")
                written = _write_shards(
                    output, parts, jobs, options, progress or (lambda done, total: None)
                )
                _write_index(output, options, arguments, read, jobs)
    if (output / UNFINISHED).is_file():
        _tidy(output)
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
    shards = f"{result['shards']} shard{'' if result['shards'] == 1 else 's'}"
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


def _check(options: PackOptions) -> None:
    limits = {"short_side": (16, 4096), "quality": (1, 100), "shard_size": (1, 2000)}
    for name, (low, high) in limits.items():
        value = getattr(options, name)
        if not low <= value <= high:
            raise InputError(f"{name} must be between {low} and {high}, got {value}")
    if options.workers is not None and options.workers < 1:
        raise InputError(f"workers must be at least 1, got {options.workers}")


# What is to be packed


@dataclass(frozen=True)
class _Job:
    """A clip to pack: where it is, what it is called in its shard, and how it is encoded."""

    path: str
    name: str
    short_side: int
    quality: int


def _read(options: PackOptions, root: Path) -> dict[str, Annotations]:
    """The annotations of each split, in the order of :data:`SPLITS`."""
    format = options.format or detect_format(root)
    known = format if format in FORMATS or options.format else None
    given = [word.strip() for word in options.splits.split(",")] if options.splits else None
    splits = given or list_splits(root, known)
    splits = sorted(splits, key=lambda split: SPLITS.index(split) if split in SPLITS else -1)
    read = {split: read_annotations(root, split, known, allow_missing=True) for split in splits}
    if not any(found.records for found in read.values()):
        raise InputError(
            f"{root} has no clips to pack; check the path, and that the clips lie there"
        )
    first = next(iter(read.values()))
    for split, found in read.items():
        if found.class_names != first.class_names:
            raise InputError(
                f"the splits {first.split} and {split} of {root} have other classes; pack each "
                f"for itself with --splits"
            )
    return read


def _jobs(read: dict[str, Annotations], root: Path, options: PackOptions) -> list[_Job]:
    """One for each file or folder, in the order of the annotations, each with a name of its own."""
    base = root if root.is_dir() else root.parent
    paths = dict.fromkeys(record.path for found in read.values() for record in found.records)
    jobs: dict[str, _Job] = {}
    for path in paths:
        plain = name = _name(path, base)
        repeats = itertools.count(2)
        while name in jobs:
            name = f"{plain}~{next(repeats)}"
        jobs[name] = _Job(path, name, options.short_side, options.quality)
    return list(jobs.values())


def _name(path: str, base: Path) -> str:
    """The path below the dataset, such that it can be unpacked anywhere and leads nowhere else."""
    clip = Path(path)
    if packed := packed_clip(clip):
        return packed.name
    inside = clip.relative_to(base) if clip.is_relative_to(base) else Path(clip.name)
    text = inside.as_posix().encode("utf-8", "replace").decode()
    parts = (re.sub(r'[\x00-\x1f\x7f\\:*?"<>|]', "_", part) for part in text.split("/"))
    return "/".join(re.sub(r"^\.+$|[. ]$", "_", part) for part in parts)


def _arguments(
    options: PackOptions, read: dict[str, Annotations], jobs: Sequence[_Job]
) -> dict[str, Any]:
    """What must be the same for a run to be taken up again.

    Of the files it is names and sizes. Not times: copying a dataset changes them.
    """
    name_of = {job.path: job.name for job in jobs}
    files = hashlib.sha256()
    for job in jobs:
        files.update(json.dumps([job.name, _size(job.path)]).encode())
    digest = hashlib.sha256()
    for split, found in read.items():
        records = [(r.id, r.label, name_of[r.path]) for r in found.records]
        missing = [(r.id, r.label) for r in found.missing]
        digest.update(json.dumps([split, found.class_names, records, missing]).encode())
    return {
        "version": VERSION,
        "splits": list(read),
        "short_side": options.short_side,
        "quality": options.quality,
        "shard_size": options.shard_size,
        "annotations": digest.hexdigest(),
        "files": files.hexdigest(),
    }


def _size(path: str) -> int | list[tuple[str, int]]:
    """Bytes of a file, of each picture in a folder, or of the shard in which a packed clip lies."""
    packed = packed_clip(Path(path))
    clip = packed.shard if packed else Path(path)
    try:
        if clip.is_dir():
            return sorted((entry.name, entry.stat().st_size) for entry in os.scandir(clip))
        return clip.stat().st_size
    except OSError:  # decoding it will say why
        return 0


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


def _tidy(output: Path) -> None:
    """Leave nothing but the dataset, whose index is there."""
    shutil.rmtree(output / _PARTS, ignore_errors=True)
    for path in itertools.chain(*map(output.glob, _TEMPORARY), [output / UNFINISHED]):
        path.unlink(missing_ok=True)


# Decoding and encoding, in the workers


def _encode(job: _Job, part: Path) -> NewClip:
    """Decode every frame of a clip and write it as JPEG to the file ``part``."""
    packets, end, reason = 0, 0, None
    broken: dict[int, str] = {}
    sizes: list[int] = []
    shape: tuple[int, ...] = ()
    room = MAX_BYTES
    with part.open("wb") as file:
        try:
            packets = count_frames(job.path)
            for index, frame in scan_frames(job.path, broken):
                picture = _reduced(frame, job.short_side)
                shape = shape or picture.shape
                data = _jpeg(picture, job)
                room -= len(data) + 2 * len(job.name.encode()) + _MEMBER
                if room < 0:
                    raise DecodeError(job.path, "its pictures take over 2 GB; cut it into clips")
                file.write(data)
                sizes.append(len(data))
                end = index + 1
        except DecodeError as error:
            is_own = error.path == job.path  # a broken picture names itself, not its folder
            reason = error.reason if is_own else f"{Path(error.path).name}: {error.reason}"
    end = max([end, *(index + 1 for index in broken)])
    frames = max(packets, end) if reason else end
    entry = ClipEntry(0, frames, end=end if reason else None, reason=reason)
    if not end:
        return NewClip(job.name, entry, part, ())
    try:
        info = probe(job.path)
        entry = replace(entry, fps=info.fps, seconds=info.duration)
    except DecodeError:  # its first frame is damaged
        pass
    if shape:
        entry = replace(entry, height=shape[0], width=shape[1])
    if entry.frames != packets:
        entry = replace(entry, packets=packets)
    return NewClip(job.name, replace(entry, broken=broken or None), part, tuple(sizes))


def _reduced(frame: np.ndarray, short_side: int) -> np.ndarray:
    """The frame [H, W, 3] with its shorter side reduced as :func:`resize_short_side` does it."""
    height, width = frame.shape[:2]
    short = min(height, width)
    if short <= short_side:
        return frame
    size = (round(height * short_side / short), round(width * short_side / short))
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None]
    return resize_frames(picture, size)[0].permute(1, 2, 0).contiguous().numpy()


def _jpeg(picture: np.ndarray, job: _Job) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    try:
        Image.fromarray(picture).save(buffer, "JPEG", quality=job.quality, subsampling="4:2:0")
    except OSError as error:
        reason = f"its frames can't be written as JPEG ({error}); leave it out"
        raise DecodeError(job.path, reason) from None
    return buffer.getvalue()


def _encoded(jobs: Sequence[_Job], parts: Path, workers: int) -> Generator[NewClip, None, None]:
    """The clips in order, encoded a little ahead of where they are taken."""
    tasks = ((job, parts / str(number)) for number, job in enumerate(jobs))
    if workers == 1:
        yield from itertools.starmap(_encode, tasks)
        return
    # Forking is unsafe once torch has started threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker)
    waiting: deque[Future[NewClip]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(_encode, *task))
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent; end when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent:
            multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


# Writing


def _write_shards(
    output: Path,
    parts: Path,
    jobs: Sequence[_Job],
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
    workers = max(1, min(workers, len(rest) if options.workers else len(rest) // _PER_PROCESS))
    limit = min(options.shard_size * 1_000_000, MAX_BYTES)
    progress(done, len(jobs))

    def counted(clips: Iterable[tuple[int, NewClip]]) -> Iterator[NewClip]:
        nonlocal done
        for _, clip in clips:
            yield clip
            done += 1
            progress(done, len(jobs))

    try:
        with closing(_encoded(rest, parts, workers)) as encoded:
            numbered = in_shards(encoded, NewClip.num_bytes, limit, number)
            for number, clips in itertools.groupby(numbered, key=itemgetter(0)):
                name = shard_name(number)
                write_shard(parts / name, counted(clips))
                sums[name] = sha256(parts / name)
                (parts / name).replace(output / name)
                write_sums(output, sums)
    except BaseException:  # Ctrl-C above all
        say(f"stopped after {done} of {len(jobs)} clips; the same command goes on")
        raise
    return len(rest)


def _whole_shards(output: Path, jobs: Sequence[_Job]) -> tuple[int, int, dict[str, str]]:
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


def _write_index(
    output: Path,
    options: PackOptions,
    arguments: dict[str, Any],
    read: dict[str, Annotations],
    jobs: Sequence[_Job],
) -> None:
    """Write pack.json, which makes the dataset whole; InputError if no clip could be decoded."""
    path_of = {job.name: job.path for job in jobs}
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
            f"none of the {len(jobs)} clips of {options.data} can be decoded, the first being "
            f"{failed[0]['path']}: {failed[0]['reason']}"
        )
    first = next(iter(read.values()))
    index = {
        "gtdnet_pack": VERSION,
        "source": options.data,
        "format": first.format,
        "arguments": arguments,
        "class_names": first.class_names,
        "shards": shards,
        "failed": failed,
        "splits": {
            split: {
                "clips": [
                    {"id": r.id, "label": r.label, "clip": place[r.path]} for r in found.records
                ],
                "missing": [asdict(record) for record in found.missing],
            }
            for split, found in read.items()
        },
    }
    text = json.dumps(index, indent=1) + "\n"
    write_sums(output, {**sums, INDEX: hashlib.sha256(text.encode()).hexdigest()})
    write_text(output / INDEX, text)
