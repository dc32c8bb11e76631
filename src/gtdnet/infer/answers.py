"""What is answered about videos: classes of a whole one, of its windows, or why there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gtdnet.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from gtdnet.data.spec import ClipSpec

SHOWN = 3
"""Classes that are drawn on a video."""

THRESHOLD = 0.5
"""Probability from which on a clip has a class, of a multi-label model, unless another is given."""


class ClassScore(NamedTuple):
    """One answer: the class's number, its name and its probability."""

    label: int
    name: str
    probability: float


def best_of(scores: Tensor, spec: ClipSpec, topk: int) -> list[ClassScore]:
    """The topk best classes of one clip's probabilities [K]; of equal ones the lower label."""
    best = scores.sort(descending=True, stable=True).indices[:topk].tolist()
    return [ClassScore(k, spec.class_names[k], scores[k].item()) for k in best]


@dataclass(frozen=True)
class Decider:
    """When a class is named, by a model that was calibrated: most of what a camera sees is nothing.

    Attributes:
        thresholds: of each class, the probability from which on it is named; above 1: never.
        background: the probability below which all is nothing; 0: none was measured.
        multi_label: any number of classes are named, not the best one alone.
    """

    thresholds: tuple[float, ...]
    background: float = 0.0
    multi_label: bool = False

    @classmethod
    def of(cls, spec: ClipSpec) -> Decider | None:
        """By the model's calibration; None where it has none that decides."""
        calibration = spec.calibration
        if calibration is None or not calibration.decides:
            return None
        least = THRESHOLD if spec.multi_label and not calibration.thresholds else 0.0
        thresholds = (max(least, calibration.threshold(k)) for k in range(spec.num_classes))
        return cls(tuple(thresholds), calibration.background, spec.multi_label)

    def named(self, scores: Sequence[ClassScore]) -> tuple[ClassScore, ...]:
        """Those of some answers, best first, that are named."""
        asked = scores if self.multi_label else scores[:1]
        return tuple(s for s in asked if s.probability >= self.thresholds[s.label])

    def why_none(self, scores: Sequence[ClassScore]) -> str:
        """What to say where none is."""
        best = scores[0].probability if scores else 0.0
        return "nothing" if best < self.background else "no class reaches its threshold"


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

    A video that breaks off has the windows before the break and the reason as well. Of a
    ``multi_label`` model those are all its classes; there may be none, without a reason. Where the
    model was calibrated, the ``decider`` tells which of them are named.
    """

    path: str
    scores: tuple[ClassScore, ...] = ()
    windows: tuple[Window, ...] = ()
    reason: str | None = None
    multi_label: bool = False
    decider: Decider | None = None

    @property
    def segments(self) -> list[Segment]:
        """The windows, merged where neighbours have the same best class, or share a class.

        Windows in which no class is named are gaps.
        """
        return (merge_classes if self.multi_label else merge_windows)(self.named.windows)

    @property
    def named(self) -> VideoPrediction:
        """The same with the classes alone that are named."""
        return self if self.decider is None else self._with(self.decider.named)

    def best(self, topk: int, threshold: float = 0.0) -> VideoPrediction:
        """The same with the first ``topk`` classes of each, those below the threshold left out."""

        return self._with(lambda scores: tuple(above(scores[:topk], threshold)))

    def _with(
        self, some: Callable[[Sequence[ClassScore]], tuple[ClassScore, ...]]
    ) -> VideoPrediction:
        windows = tuple(w._replace(scores=some(w.scores)) for w in self.windows)
        return replace(self, scores=some(self.scores), windows=windows)

    def to_json(self, whole: bool) -> dict[str, Any]:
        """JSON-ready; the windows unless it was classified as a whole."""
        found: dict[str, Any] = {"path": self.path, "reason": self.reason}
        if whole:
            return {**found, **self._answers(self.scores)}
        windows = [{**w._asdict(), **self._answers(w.scores)} for w in self.windows]
        return {**found, "windows": windows, "segments": [s._asdict() for s in self.segments]}

    def _answers(self, scores: Sequence[ClassScore]) -> dict[str, Any]:
        """Scores, and of a calibrated model the names of the classes that are named."""
        answers: dict[str, Any] = {"scores": [score._asdict() for score in scores]}
        if self.decider is not None:
            answers["decision"] = [score.name for score in self.decider.named(scores)]
        return answers


@dataclass(frozen=True)
class Report:
    """What :func:`gtdnet.infer.predict.predict` gives: one prediction per video, in order.

    Attributes:
        model: path of the model file.
        views: frames x crops x clips, of each video or window.
        window, stride: seconds, or None where whole videos were classified.
        videos: the predictions, but for those that were in the output file before.
        average: what is averaged over the views, "probabilities" or "logits".
        threshold: probability below which classes are left out; None: none are.
        decides: the model was calibrated, and some of the classes are named.
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
    threshold: float | None = None
    decides: bool = False

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
            **({} if self.threshold is None else {"threshold": self.threshold}),
            "window": self.window,
            "stride": self.stride,
            "num_videos": self.num_before + len(self.videos),
            "num_failed": self.num_failed,
            "num_before": self.num_before,
            "files": list(self.files),
            "videos": [video.to_json(whole) for video in self.videos],
        }


def merge_classes(windows: Sequence[Window]) -> list[Segment]:
    """Of every class the stretches of consecutive windows that have it, by their start.

    Of overlapping windows the later begins, as in :func:`merge_windows`.
    """
    segments: list[Segment] = []
    for label in {score.label for window in windows for score in window.scores}:
        run: list[tuple[Window, ClassScore]] = []
        for i, window in enumerate(windows):
            following = windows[i + 1] if i + 1 < len(windows) else None
            if own := [score for score in window.scores if score.label == label]:
                run.append((window, own[0]))
            if not own or (following and any(s.label == label for s in following.scores)):
                continue
            end = min(window.end, following.start) if following else window.end
            mean = sum(score.probability for _, score in run) / len(run)
            segments.append(Segment(run[0][0].start, end, label, own[0].name, mean))
            run = []
    return sorted(segments, key=lambda segment: (segment.start, -segment.probability))


def above(scores: Sequence[ClassScore], threshold: float) -> list[ClassScore]:
    """Those of at least the threshold."""
    return [score for score in scores if score.probability >= threshold]


def check_threshold(threshold: float | None) -> None:
    """Raise InputError for what is no probability."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold must be a probability from 0 to 1, got {threshold:g}")


def merge_windows(windows: Sequence[Window]) -> list[Segment]:
    """Merge consecutive windows with the same best class; of overlapping ones the later begins.

    Windows without a class, none having reached a threshold, are gaps.
    """
    segments: list[Segment] = []
    run: list[Window] = []
    for i, window in enumerate(windows):
        if not window.scores:
            continue
        run.append(window)
        following = windows[i + 1] if i + 1 < len(windows) else None
        best = window.scores[0]
        if following and following.scores and following.scores[0].label == best.label:
            continue
        end = min(window.end, following.start) if following else window.end
        probability = sum(w.scores[0].probability for w in run) / len(run)
        segments.append(Segment(run[0].start, end, best.label, best.name, probability))
        run = []
    return segments
