"""Classes of many videos, or of every window of long ones; a broken video doesn't stop the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gtdnet.data.formats import VideoRecord
from gtdnet.engines import is_exported
from gtdnet.errors import DecodeError, check_at_least, check_positive
from gtdnet.infer.find import find_videos
from gtdnet.infer.options import PredictOptions
from gtdnet.infer.recognizer import ClassScore, Recognizer, check_average, check_views, load
from gtdnet.infer.scoring import check_loading, score_batches
from gtdnet.infer.timeline import read_windows
from gtdnet.text import progress_bar, say

_WORTHWHILE = 40
"""Views from which OpenVINO's speed makes up for its preparation (a ResNet-50 on one core)."""


class Window(NamedTuple):
    """The best classes from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    scores: tuple[ClassScore, ...]


class Segment(NamedTuple):
    """Consecutive windows with the same best class; the mean of its probabilities."""

    start: float
    end: float
    label: int
    name: str
    probability: float


@dataclass(frozen=True)
class VideoPrediction:
    """The best classes of one video, or of its windows; or in one line why there are none.

    A video that breaks off has the windows before the break and the reason as well.
    """

    path: str
    scores: tuple[ClassScore, ...] = ()
    windows: tuple[Window, ...] = ()
    reason: str | None = None

    @property
    def segments(self) -> list[Segment]:
        """The windows, merged where neighbours have the same best class."""
        return merge_windows(self.windows)

    def to_json(self, whole: bool) -> dict[str, Any]:
        """JSON-ready; the windows unless it was classified as a whole."""
        found: dict[str, Any] = {"path": self.path, "reason": self.reason}
        if whole:
            return {**found, "scores": [score._asdict() for score in self.scores]}
        windows = [
            {**window._asdict(), "scores": [score._asdict() for score in window.scores]}
            for window in self.windows
        ]
        return {**found, "windows": windows, "segments": [s._asdict() for s in self.segments]}


@dataclass(frozen=True)
class Report:
    """What :func:`predict` gives: one prediction per video, in order.

    Attributes:
        model: path of the model file.
        views: frames x crops x clips, of each video or window.
        window, stride: seconds, or None where whole videos were classified.
        videos: the predictions.
        average: what is averaged over the views, "probabilities" or "logits".
    """

    model: str
    views: str
    window: float | None
    stride: float | None
    videos: tuple[VideoPrediction, ...]
    average: str = "probabilities"

    @property
    def num_failed(self) -> int:
        """Videos that could not be read to their end."""
        return sum(video.reason is not None for video in self.videos)

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        whole = self.window is None
        return {
            "model": self.model,
            "views": self.views,
            "average": self.average,
            "window": self.window,
            "stride": self.stride,
            "num_videos": len(self.videos),
            "num_failed": self.num_failed,
            "videos": [video.to_json(whole) for video in self.videos],
        }


def predict(options: PredictOptions) -> Report:
    """Classify videos; the reasons of those that cannot be read stand in the report.

    Raises:
        ValueError: bad options, nothing found for one of the videos, or no model file.
    """
    check_at_least(1, topk=options.topk)
    check_views(options.clips, options.crops)
    check_average(options.average)
    check_loading(options.batch_size, options.num_workers)
    stride = options.window if options.stride is None else options.stride
    check_positive(window=options.window, stride=stride, fps=options.fps)
    paths = find_videos(options.videos)
    few = not options.window and len(paths) * options.clips * options.crops < _WORTHWHILE
    plain = options.engine == "auto" and few and not is_exported(options.model)
    recognizer = load(
        options.model,
        options.device,
        engine="torch" if plain else options.engine,
        precision=options.precision,
        num_segments=options.num_segments,
        average=options.average,
    )
    if options.engine == "auto" and recognizer.engine.name != "torch":
        say(f"engine {recognizer.engine.name}, {recognizer.precision}, on {recognizer.device}")
    if options.window is None or stride is None:
        videos, stride = _whole_videos(recognizer, paths, options), None
    else:
        videos = []
        with progress_bar("videos", len(paths)) as advance:
            for path in paths:
                videos.append(_timeline(recognizer, path, options, options.window, stride))
                advance(1)
    views = recognizer.spec.views(options.crops, options.clips)
    return Report(options.model, views, options.window, stride, tuple(videos), options.average)


def merge_windows(windows: Sequence[Window]) -> list[Segment]:
    """Merge consecutive windows with the same best class; of overlapping ones the later begins."""
    segments: list[Segment] = []
    run: list[Window] = []
    for i, window in enumerate(windows):
        run.append(window)
        following = windows[i + 1] if i + 1 < len(windows) else None
        best = window.scores[0]
        if following and following.scores[0].label == best.label:
            continue
        end = min(window.end, following.start) if following else window.end
        probability = sum(w.scores[0].probability for w in run) / len(run)
        segments.append(Segment(run[0].start, end, best.label, best.name, probability))
        run = []
    return segments


def _whole_videos(
    recognizer: Recognizer, paths: Sequence[Path], options: PredictOptions
) -> list[VideoPrediction]:
    records = [VideoRecord(str(path), str(path), None) for path in paths]
    found: dict[int, VideoPrediction] = {}
    with progress_bar("videos", len(records)) as advance:
        for batch in score_batches(
            recognizer,
            records,
            clips=options.clips,
            crops=options.crops,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
        ):
            for index, scores in zip(batch.indices.tolist(), batch.scores, strict=True):
                best = tuple(recognizer.top(torch.from_numpy(scores), options.topk))
                found[index] = VideoPrediction(records[index].path, best)
            for failure in batch.failures:
                path = records[failure.index].path
                reason = _reason(path, failure.path, failure.reason)
                found[failure.index] = VideoPrediction(path, reason=reason)
            advance(len(batch))
    return [found[index] for index in range(len(records))]


def _timeline(
    recognizer: Recognizer, path: Path, options: PredictOptions, window: float, stride: float
) -> VideoPrediction:
    size = max(1, options.batch_size // (options.clips * options.crops))
    windows: list[Window] = []
    waiting: list[tuple[float, float, Tensor]] = []

    def score_waiting() -> None:
        if not waiting:
            return
        scores = recognizer.scores(torch.stack([w[2] for w in waiting]), options.batch_size)
        for (start, end, _), row in zip(waiting, scores, strict=True):
            best = tuple(recognizer.top(row, options.topk))
            windows.append(Window(round(start, 3), round(end, 3), best))
        waiting.clear()

    reason = None
    try:
        for item in read_windows(
            path,
            recognizer.spec,
            window,
            stride,
            clips=options.clips,
            crops=options.crops,
            fps=options.fps,
        ):
            waiting.append(item)
            if len(waiting) == size:
                score_waiting()
    except DecodeError as error:
        reason = _reason(str(path), error.path, error.reason)
    score_waiting()
    return VideoPrediction(str(path), windows=tuple(windows), reason=reason)


def _reason(video: str, path: str, reason: str) -> str:
    """Names the picture if it is one of a folder that is broken."""
    return reason if path == video else f"{Path(path).name}: {reason}"
