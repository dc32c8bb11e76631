"""Clips of a video by a list of times: start, end and label of each, in seconds or as 1:02:03.5."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from gtdnet.collect.clips import NewClip, check_class_names
from gtdnet.data.decode import ClipReader
from gtdnet.errors import DecodeError, InputError
from gtdnet.infer.timeline import seconds_of

COLUMNS = ("start", "end", "label")
_TIME = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?)")


class Mark(NamedTuple):
    """From ``start`` up to ``end``, in seconds of the video."""

    start: float
    end: float
    label: str


def read_marks(path: str | Path) -> list[Mark]:
    """The marks of a table with the columns start, end and label, in order of time.

    Raises:
        ValueError: it can't be read, has none, or one is none; the line is named.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if lacking := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise InputError(
                    f"{path} has no column {lacking[0]}; its first line must name start, end, label"
                )
            marks = [
                _mark(path, rows.line_num, *(row[name] or "" for name in COLUMNS)) for row in rows
            ]
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}); see --marks") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path} is no table of comma-separated values in UTF-8") from None
    if not marks:
        raise InputError(f"{path} has no marks; give a line for each clip: start,end,label")
    check_class_names(list(dict.fromkeys(mark.label for mark in marks)))
    return sorted(marks)


def _mark(path: str | Path, line: int, start: str, end: str, label: str) -> Mark:
    times = [_seconds(text) for text in (start, end)]
    if times[0] is None or times[1] is None:
        wrong = start if times[0] is None else end
        raise InputError(
            f"{path}, line {line}: {wrong!r} is no time; write seconds, as 83.5, or 1:23.5"
        )
    if times[1] <= times[0]:
        raise InputError(f"{path}, line {line}: the clip ends at {end}, not after {start}")
    return Mark(times[0], times[1], label.strip())


def _seconds(text: str) -> float | None:
    if not (found := _TIME.fullmatch(text.strip())):
        return None
    hours, minutes, seconds = found.groups()
    if minutes and float(seconds) >= 60:
        return None
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)


def cut(
    video: str | Path,
    marks: list[Mark],
    folder: Path,
    *,
    fps: float | None = None,
    done: Callable[[Mark], None] = lambda mark: None,
) -> tuple[list[Path], str | None]:
    """Write the clip of every mark, in one pass; its paths, and why the video breaks off, or None.

    A frame belongs to a clip when it is shown within it: start <= time < end. Clips may overlap.
    Those that a break cuts short are not written.

    Raises:
        ValueError: a mark with no frame, a clip that is there already, or no room.
        DecodeError: the video can't be read at all.
    """
    reader = ClipReader(str(video))
    times = seconds_of(reader, fps)
    name = Path(video).stem
    paths = [
        folder / mark.label / f"{name}_{mark.start:08.2f}-{mark.end:08.2f}.mp4" for mark in marks
    ]
    for path in paths:
        if path.exists() or paths.count(path) > 1:
            what = "exists" if path.exists() else "would be written twice"
            raise InputError(f"{path} {what}; choose another folder, or take the mark out")
    end = float(times[-1])
    for mark in marks:
        if mark.start >= end:
            raise InputError(
                f"{video} lasts {end:.2f} s, so there is nothing at {mark.start:g} s "
                f"({mark.label}); correct the mark"
            )
    waiting, written, reason = list(zip(marks, paths, strict=True)), [], None
    opened: list[tuple[Mark, NewClip]] = []
    with ExitStack() as stack:
        try:
            for index, rgb in reader.frames():
                now = float(times[min(index, len(times) - 1)])
                while waiting and waiting[0][0].start <= now:
                    mark, path = waiting.pop(0)
                    opened.append((mark, clip := NewClip(path)))
                    stack.callback(clip.drop)
                for mark, clip in list(opened):
                    if now < mark.end:
                        clip.write(rgb, now)
                    else:
                        opened.remove((mark, clip))
                        written += _kept(mark, clip, done)
                if not waiting and not opened:
                    break
        except DecodeError as error:
            reason = error.reason
        if reason is None:
            for mark, clip in opened:
                written += _kept(mark, clip, done)
    return written, reason


def _kept(mark: Mark, clip: NewClip, done: Callable[[Mark], None]) -> list[Path]:
    if not clip.keep():
        raise InputError(
            f"no frame is shown from {mark.start:g} to {mark.end:g} s ({mark.label}); make the "
            f"mark longer"
        )
    done(mark)
    return [clip.path]
