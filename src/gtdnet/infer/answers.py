"""What is answered about videos: classes of a whole one, of its windows, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SHOWN = 3
"""Classes that are drawn on a video."""


class ClassScore(NamedTuple):
    """One answer: the class's number, its name and its probability."""

    label: int
    name: str
    probability: float


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

    def best(self, topk: int) -> VideoPrediction:
        """The same with the first ``topk`` classes of each."""
        windows = tuple(w._replace(scores=w.scores[:topk]) for w in self.windows)
        return VideoPrediction(self.path, self.scores[:topk], windows, self.reason)

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
    """What :func:`gtdnet.infer.predict.predict` gives: one prediction per video, in order.

    Attributes:
        model: path of the model file.
        views: frames x crops x clips, of each video or window.
        window, stride: seconds, or None where whole videos were classified.
        videos: the predictions, but for those that were in the output file before.
        average: what is averaged over the views, "probabilities" or "logits".
        files: that were written.
        num_before, num_failed_before: videos that were in the output file before.
    """

    model: str
    views: str
    window: float | None
    stride: float | None
    videos: tuple[VideoPrediction, ...]
    average: str = "probabilities"
    files: tuple[str, ...] = ()
    num_before: int = 0
    num_failed_before: int = 0

    @property
    def num_failed(self) -> int:
        """Videos that could not be read to their end."""
        return self.num_failed_before + sum(video.reason is not None for video in self.videos)

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        whole = self.window is None
        return {
            "model": self.model,
            "views": self.views,
            "average": self.average,
            "window": self.window,
            "stride": self.stride,
            "num_videos": self.num_before + len(self.videos),
            "num_failed": self.num_failed,
            "num_before": self.num_before,
            "files": list(self.files),
            "videos": [video.to_json(whole) for video in self.videos],
        }


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
