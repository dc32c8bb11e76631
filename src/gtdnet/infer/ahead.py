"""Several videos at a time: threads decode ahead of the model, whose batches mix their windows.

Threads, for FFmpeg and the resizing do their work without Python's lock, and a window then crosses
no process border.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gtdnet.data.decode import Clip
from gtdnet.errors import DecodeError
from gtdnet.infer.timeline import WindowClips

if TYPE_CHECKING:
    from gtdnet.infer.recognizer import Recognizer

Read = Callable[[Clip], Iterable[WindowClips]]
"""The windows of a video, in order."""
_WAIT = 0.2  # seconds between two looks whether to stop


class Scored(NamedTuple):
    """One window: its probabilities [K], and where they were asked for its features [V, T, C]."""

    clips: WindowClips
    scores: Tensor
    features: Tensor | None


def score_ahead(
    recognizer: Recognizer,
    videos: Sequence[Clip],
    read: Read,
    *,
    num_views: int,
    batch_size: int = 8,
    num_threads: int = 1,
    features: bool = False,
) -> Iterator[tuple[int, Scored | DecodeError | None]]:
    """(number of the video, one of its windows); None at its end, the reason where it breaks off.

    The windows of a video come in their order, those of several videos mixed. ``batch_size`` views
    go through the model at a time, of ``num_views`` for each window; ``num_threads`` videos are
    decoded at a time, none of them in a thread of its own if it is 0.
    """
    size = max(1, batch_size // num_views)
    waiting: list[tuple[int, WindowClips | DecodeError | None]] = []

    def scored() -> Iterator[tuple[int, Scored | DecodeError | None]]:
        clips = [item for _, item in waiting if isinstance(item, WindowClips)]
        rows: Iterator[Scored] = iter(())
        if clips:
            views = torch.stack([clip.views for clip in clips])
            if features:
                scores, found = recognizer.scores_and_features(views, batch_size)
                rows = map(Scored, clips, scores, found)
            else:
                scores = recognizer.scores(views, batch_size)
                rows = map(Scored, clips, scores, [None] * len(clips))
        for index, item in waiting:
            yield index, next(rows) if isinstance(item, WindowClips) else item
        waiting.clear()

    read_all = _in_threads if num_threads else _one_by_one
    for index, item in read_all(videos, read, num_threads, 2 * size):
        waiting.append((index, item))
        if sum(isinstance(item, WindowClips) for _, item in waiting) == size:
            yield from scored()
    yield from scored()


Item = tuple[int, WindowClips | DecodeError | None]


def _read_one(index: int, video: Clip, read: Read) -> Iterator[Item]:
    try:
        for window in read(video):
            yield index, window
    except DecodeError as error:
        yield index, error
    else:
        yield index, None


def _one_by_one(videos: Sequence[Clip], read: Read, _: int, __: int) -> Iterator[Item]:
    for index, video in enumerate(videos):
        yield from _read_one(index, video, read)


def _in_threads(videos: Sequence[Clip], read: Read, number: int, most: int) -> Iterator[Item]:
    """The same from some threads, which are at most ``most`` windows ahead."""
    read_ahead: Queue[Item | BaseException | None] = Queue(most)  # None: a thread is done
    todo = iter(enumerate(videos))
    taking, stop = threading.Lock(), threading.Event()

    def put(item: Item | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return read_ahead.put(item, timeout=_WAIT)
            except Full:
                continue
        raise _Stopped

    def work() -> None:
        try:
            while True:
                with taking:
                    index, video = next(todo, (-1, ""))
                if index < 0:
                    return put(None)
                for item in _read_one(index, video, read):
                    put(item)
        except _Stopped:
            pass
        except BaseException as error:  # raised where the windows are taken
            put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(number, len(videos)))]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            try:  # a wait without end would not hear of Ctrl-C on Windows
                item = read_ahead.get(timeout=_WAIT)
            except Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=5)


class _Stopped(Exception):
    """Nobody takes any more windows."""
