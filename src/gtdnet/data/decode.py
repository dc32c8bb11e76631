"""Exact frames of a clip: a video file, a folder of numbered pictures, a packed clip, an array.

A clip is sampled by index, so an index must mean the same frame on every machine and every run.
Headers lie about the number of frames, and seeking lands on other frames than asked for in some
files (MPEG-4 in AVI), therefore: count the packets (cheap), choose indices, decode from the start
with one thread, convert only the chosen frames, stop after the last one. A frame that can't be
decoded is a `DecodeError`; it is never replaced by another one.

Frames come as a player would show them: rotation metadata and non-square pixels are applied, and
colours follow the colour space and range that the file states.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gtdnet.data.pack.index import find_clips
from gtdnet.data.pack.remote import is_remote
from gtdnet.data.pack.shards import packed_clip
from gtdnet.data.readers import FewerFrames, Reader, VideoInfo
from gtdnet.data.readers.arrays import ArrayReader
from gtdnet.data.readers.packed import PackedReader
from gtdnet.data.readers.pictures import NUMBERED_IMAGE, PictureReader
from gtdnet.data.readers.video import VIDEO_SUFFIXES, VideoReader
from gtdnet.errors import DecodeError, InputError
from gtdnet.files import dead_link
from gtdnet.places import shown

if TYPE_CHECKING:
    import torch

__all__ = [
    "NUMBERED_IMAGE",
    "VIDEO_SUFFIXES",
    "ArrayReader",
    "Chooser",
    "Clip",
    "ClipReader",
    "FewerFrames",
    "Reduce",
    "VideoInfo",
    "count_frames",
    "frame_times",
    "iter_frames",
    "open_clip",
    "probe",
    "read_frames",
    "scan_frames",
    "seconds_of",
    "times_of",
]

Clip = str | Path | ArrayReader
"""What is read: a path, or frames that are in memory."""

Chooser = Callable[..., np.ndarray]
"""Number of frames -> int64 indices [T], in any order, repeats allowed; of those that choose by
time: number of frames, their times -> indices.

A pure function: it is called a second time when a file turns out to hold fewer frames than packets.
"""

Reduce = Callable[["torch.Tensor"], "torch.Tensor"]
"""Some frames, uint8 [k, 3, H, W], to smaller ones; all frames of a clip alike."""

_TOGETHER = 1 << 22  # bytes of small frames that are reduced in one call


def open_clip(path: str | Path) -> Reader:
    """The reader of the clip that a path names; raises `DecodeError` if there is none.

    Of URLs it is a clip of a packed dataset, with its shard: URL/clips-00000.zip/NAME.
    """
    if packed := packed_clip(path):
        return PackedReader(packed)
    if is_remote(path):
        raise DecodeError(shown(str(path)), "it is no clip of a packed dataset; check the URL")
    path = Path(path)
    try:
        status = path.stat()
    except FileNotFoundError:  # unless it is a clip of a packed dataset, its shard left out
        for clip in find_clips(path) or ():
            if clip.name == path.name and (packed := packed_clip(clip)):
                return PackedReader(packed)
        if link := dead_link(path):
            reason = f"{link}; put there what it leads to, or mend the link"
            raise DecodeError(path, reason) from None
        raise DecodeError(path, "there is no such file or folder; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DecodeError(path, f"it can't be opened ({reason}); check the path") from None
    return PictureReader(path) if stat.S_ISDIR(status.st_mode) else VideoReader(path, status)


class ClipReader:
    """Reads a clip as :class:`gtdnet.data.readers.Reader` says.

    Nothing is raised of it but `DecodeError` and `FewerFrames`. Asking for the times, or counting,
    comes first.
    """

    def __init__(self, clip: Clip) -> None:
        self.path = clip.path if isinstance(clip, ArrayReader) else clip
        with _blaming(self.path):
            self._reader = clip if isinstance(clip, ArrayReader) else open_clip(clip)

    def count(self) -> int:
        with _blaming(self.path):
            return self._reader.count()

    def times(self) -> np.ndarray | None:
        with _blaming(self.path):
            return self._reader.times()

    def info(self) -> VideoInfo:
        with _blaming(self.path):
            return self._reader.info()

    def frames(
        self, wanted: np.ndarray | None = None, broken: dict[int, str] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        with _blaming(self.path):
            yield from self._reader.frames(wanted, broken)


@contextmanager
def _blaming(path: str | Path) -> Iterator[None]:
    """Whatever a decoder raises costs the clip and nothing else: it becomes a `DecodeError`."""
    try:
        yield
    except (DecodeError, FewerFrames):
        raise
    except InputError as error:
        raise DecodeError(path, str(error)) from error
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        reason = f"it can't be decoded ({what}); re-encode or replace it"
        raise DecodeError(path, reason) from error


def probe(path: Clip) -> VideoInfo:
    """Count the frames of a clip and decode its first one; raises `DecodeError`.

    ``num_frames`` is the number of packets: the few files with packets that give no picture hold
    less, which `read_frames` finds out.
    """
    return ClipReader(path).info()


def read_frames(
    path: Clip,
    choose: Chooser,
    reduce: Reduce | None = None,
    *,
    by_time: bool = False,
    fps: float | None = None,
) -> tuple[torch.Tensor, int]:
    """Decode the frames that ``choose(number of frames)`` asks for, in its order.

    With ``by_time`` it is ``choose(number of frames, times)``, the times of :func:`seconds_of`.
    ``reduce`` makes frames smaller as they come, so that memory holds a large one, or a few.

    Returns uint8 [T, 3, H, W] (channels last in memory) and the number of frames that ``choose``
    was given. Raises `DecodeError`; IndexError for indices outside the clip.
    """
    clip = ClipReader(path)
    num_frames = clip.count()
    times = seconds_of(clip, fps) if by_time else None
    if times is not None and np.isnan(times[-1]):
        reason = "its frame rate is unknown, and frames are chosen by time"
        remedy = "make a video of it, or give gtdnet predict its --fps (in Python fps=)"
        raise DecodeError(clip.path, f"{reason}; {remedy}")
    while True:
        indices = _chosen(choose, max(1, num_frames), times)
        try:
            return _gather(clip.frames(np.unique(indices)), indices, reduce), num_frames
        except FewerFrames as fewer:
            num_frames = fewer.num_frames


def iter_frames(path: Clip) -> Iterator[np.ndarray]:
    """All frames in order, each uint8 [H, W, 3].

    A file that breaks off gives the frames before the break, then `DecodeError`.
    """
    for _, rgb in ClipReader(path).frames():
        yield rgb


def count_frames(path: Clip) -> int:
    """The number of frames that indices are first chosen from, not decoded; raises `DecodeError`.

    For a video file this is the number of packets.
    """
    return ClipReader(path).count()


def frame_times(path: Clip) -> np.ndarray | None:
    """Seconds from the first frame at which each is shown, and the end: float64 [frames + 1].

    None where the clip does not say; raises `DecodeError`. Nothing is decoded.
    """
    return ClipReader(path).times()


def seconds_of(reader: ClipReader, fps: float | None = None) -> np.ndarray:
    """Seconds at which frames are shown, and the end: [frames + 1]; NaN if nothing is known.

    Without timestamps frames are evenly spaced, at the rate that the clip states, else ``fps``.
    """
    times = reader.times()
    if times is not None:
        return times
    info = reader.info()
    rate = info.fps or (info.num_frames / info.duration if info.duration else fps)
    return np.arange(info.num_frames + 1) / (rate or np.nan)


def times_of(times: np.ndarray, num_frames: int) -> np.ndarray:
    """The times of so many frames, if a clip holds more or fewer than it has timestamps."""
    if num_frames < len(times):
        return times[: num_frames + 1]
    return np.linspace(0.0, times[-1], num_frames + 1)


def scan_frames(path: Clip, broken: dict[int, str]) -> Iterator[tuple[int, np.ndarray]]:
    """(index, [H, W, 3]) of every frame that `read_frames` could give, in order.

    Single frames that it could not are left out, and ``broken`` gets the reason of each. Raises
    `DecodeError` where decoding breaks off, after the frames before the break.
    """
    clip = ClipReader(path)
    clip.count()
    return clip.frames(None, broken)


def _chosen(choose: Chooser, num_frames: int, times: np.ndarray | None = None) -> np.ndarray:
    given = (num_frames,) if times is None else (num_frames, times_of(times, num_frames))
    indices = np.asarray(choose(*given), dtype=np.int64)
    if indices.ndim != 1 or indices.size == 0:
        raise ValueError(f"the chosen indices must have shape [T], T >= 1, not {indices.shape}")
    if indices.min() < 0 or indices.max() >= num_frames:
        raise IndexError(f"frame indices {indices.tolist()} of a clip of {num_frames} frames")
    return indices


def _gather(
    frames: Iterator[tuple[int, np.ndarray]], indices: np.ndarray, reduce: Reduce | None
) -> torch.Tensor:
    import torch

    clip: np.ndarray | None = None
    for group in _groups(frames, _TOGETHER if reduce else 0):
        pictures = group[0][1][None] if len(group) == 1 else np.stack([rgb for _, rgb in group])
        if reduce is not None:
            # The axis of frames is outermost, so that they are taken for channels last.
            reduced = reduce(torch.from_numpy(pictures).permute(0, 3, 1, 2))
            pictures = reduced.permute(0, 2, 3, 1).numpy()
        if clip is None:
            clip = np.empty((len(indices), *pictures.shape[1:]), np.uint8)
        for (index, _), picture in zip(group, pictures, strict=True):
            clip[indices == index] = picture
    if clip is None:
        raise ValueError("no frame was chosen")
    return torch.from_numpy(clip).permute(0, 3, 1, 2)


def _groups(
    frames: Iterator[tuple[int, np.ndarray]], num_bytes: int
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """The frames in groups of one, or as many as have so many bytes."""
    group: list[tuple[int, np.ndarray]] = []
    for index, rgb in frames:
        group.append((index, rgb))
        if (len(group) + 1) * rgb.nbytes > num_bytes:
            yield group
            group = []
    if group:
        yield group
