"""What a model says of videos as streams, moment by moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.decode import Clip, ClipReader
from gtdnet.errors import DecodeError
from gtdnet.infer.timeline import seconds_of
from gtdnet.text import progress_bar

if TYPE_CHECKING:
    from gtdnet.infer.live import LiveModel


class Moments(NamedTuple):
    """The answers to one stream: ``times`` [M] in seconds, probabilities [M, K], its length."""

    times: NDArray[np.float64]
    scores: NDArray[np.float64]
    seconds: float


def follow(live: LiveModel, video: Clip, fps: float | None = None, *, hold: float = 0.0) -> Moments:
    """A whole video through a model that follows streams, as one stream from its start.

    Args:
        fps: frames per second of what states no rate.
        hold: seconds for which its last frame stands still: a clip that is cut where its action
            ends would be over before a model that looks back has seen it.

    Raises:
        DecodeError: it cannot be read to its end, or its frame rate is unknown.
    """
    reader = ClipReader(video)
    times = seconds_of(reader, fps)
    if np.isnan(times[-1]):
        raise DecodeError(reader.path, "its frame rate is unknown; give it with --fps")
    shown: list[float] = []
    scores: list[NDArray[np.float32]] = []
    live.reset()

    def show(rgb: NDArray[np.uint8], time: float) -> None:
        if live.due(0, time) and not (shown and time <= shown[-1]):
            scores.append(live.scores([rgb], streams=[0], times=[time])[0].numpy())
            shown.append(time)

    last, end, step = None, float(times[-1]), float(times[-1]) / (len(times) - 1)
    for index, rgb in reader.frames():
        show(rgb, float(times[min(index, len(times) - 1)]))
        last = rgb
    if last is not None and step > 0:
        for k in range(int(hold / step)):
            show(last, end + k * step)
    found = np.array(scores, np.float64).reshape(-1, live.spec.num_classes)
    return Moments(np.array(shown), found, end + hold)


def follow_all(
    live: LiveModel, videos: Sequence[str], fps: float | None, what: str, hold: float = 0.0
) -> Iterator[tuple[int, Moments | DecodeError]]:
    """Each of the videos in turn; one that cannot be read costs itself alone."""
    with progress_bar(what, len(videos)) as advance:
        for number, video in enumerate(videos):
            try:
                yield number, follow(live, video, fps, hold=hold)
            except DecodeError as error:
                yield number, error
            advance(1)
