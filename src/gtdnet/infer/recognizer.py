"""A model file ready to answer: a video in, class probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtdnet import moved
from gtdnet.data.dataset import read_views
from gtdnet.data.decode import ArrayReader, Clip
from gtdnet.engines import ExportedFile, choose_for, open_engine, open_model
from gtdnet.errors import (
    DecodeError,
    InputError,
    check_at_least,
    check_not_negative,
    check_positive,
)
from gtdnet.infer.ahead import Scored, score_ahead
from gtdnet.infer.answers import ClassScore, Window, above, best_of, check_threshold
from gtdnet.infer.features import Features, features_of
from gtdnet.infer.timeline import read_one, read_windows
from gtdnet.models.classifier import VideoClassifier, probabilities
from gtdnet.models.model_file import ModelFile
from gtdnet.text import counted
from gtdnet.threads import say_threads

AVERAGES = ("probabilities", "logits")
"""What the mean over a clip's views is taken of; of logits, softmax (or sigmoid) comes after it."""

Video = str | Path | NDArray[np.uint8] | Tensor
"""A path, or all frames in order: uint8 RGB [F, H, W, 3] or [F, 3, H, W]."""


class Recognizer:
    """A model on its device together with the spec that says how its input is made.

    Args:
        model_file: its model is moved to the device and set to eval mode. Or an exported file.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps", or a torch.device.
        engine: what computes: one of :data:`gtdnet.engines.ENGINES`, or "auto" (OpenVINO on a CPU
            where it is installed, else torch); default: torch, and of an exported file its own.
        precision: "fp32", "bf16", "fp16", or "auto" (what is fast on the device); default: fp32,
            and of an exported file its own.
        average: the mean over several views is of their "probabilities" or of their "logits" (as
            in the test scripts of TSM and its descendants), of which the softmax is then taken;
            of a multi-label model the sigmoid.

    Attributes:
        average: as given.
        path: of the file.
        spec, metrics, provenance: the model file's.
        engine: maps frames to logits (:class:`gtdnet.engines.Engine`).
        device, precision: the engine's.

    Raises:
        ValueError: an engine, device or precision that this machine does not have.
    """

    def __init__(
        self,
        model_file: ModelFile | ExportedFile,
        device: str | torch.device = "auto",
        *,
        engine: str | None = None,
        precision: str | None = None,
        average: str = "probabilities",
    ) -> None:
        check_average(average)
        self.average = average
        choice = choose_for(model_file, engine, str(device), precision)
        self._model = None
        if isinstance(model_file, ModelFile):
            self._model = model_file.model.eval().to(choice.device)
        self.engine = open_engine(model_file, choice)
        self.device = self.engine.device
        self.precision = self.engine.precision
        self.spec = model_file.spec
        self.metrics = model_file.metrics
        self.provenance = model_file.provenance
        self.path = model_file.path
        self._name = "" if self._model is None else getattr(self._model, "name", "")

    def __repr__(self) -> str:
        name = self._name or Path(self.path).name or "a network of one's own"
        classes = counted(self.spec.num_classes, "class", "classes")
        how = f"engine {self.engine.name}, {self.precision}, on {self.device}"
        classes += " (multi-label)" if self.spec.multi_label else ""
        return f"<Recognizer: {name}, {classes}, {self.spec.describe()}; {how}>"

    @property
    def model(self) -> VideoClassifier:
        """The model file's network: normalised clips [N, T*f, 3, H, W] -> logits [N, K].

        InputError for an exported file, which has none.
        """
        if self._model is None:
            raise InputError(
                f"{self.path}: an exported model holds no PyTorch network; give the model file "
                f"(.safetensors) that it was made from"
            )
        return self._model

    @overload
    def __call__(
        self,
        videos: Video,
        topk: int = 5,
        *,
        clips: int = 1,
        crops: int = 1,
        threshold: float = 0.0,
        batch_size: int = 8,
        num_threads: int = 1,
        fps: float | None = None,
    ) -> list[ClassScore]: ...

    @overload
    def __call__(
        self,
        videos: Sequence[Video],
        topk: int = 5,
        *,
        clips: int = 1,
        crops: int = 1,
        threshold: float = 0.0,
        batch_size: int = 8,
        num_threads: int = 1,
        fps: float | None = None,
    ) -> list[list[ClassScore]]: ...

    def __call__(
        self,
        videos: Video | Sequence[Video],
        topk: int = 5,
        *,
        clips: int = 1,
        crops: int = 1,
        threshold: float = 0.0,
        batch_size: int = 8,
        num_threads: int = 1,
        fps: float | None = None,
    ) -> list[ClassScore] | list[list[ClassScore]]:
        """The answer of :meth:`predict` for one video, or of each in a list, in its order.

        Args:
            videos: one video, or a list or tuple of them, paths and arrays as they come.
            topk, clips, crops, threshold, fps: as for :meth:`predict`.
            batch_size: views that go through the model at a time.
            num_threads: videos that are decoded at a time, ahead of the model; 0: none ahead.

        Raises:
            DecodeError: a video cannot be read; of a list the others then have no answers either,
                unlike with :func:`gtdnet.infer.predict.predict`, which tells of each.
            ValueError: another argument is not as it should be.
        """
        if isinstance(videos, (str, Path, np.ndarray, Tensor)):
            return self.predict(
                videos, topk, clips=clips, crops=crops, threshold=threshold, fps=fps
            )
        check_threshold(threshold)
        check_at_least(1, topk=topk, batch_size=batch_size)
        check_not_negative(num_threads=num_threads)
        check_positive(fps=fps)
        answers: list[list[ClassScore]] = [[] for _ in videos]
        for index, found in self._scored(
            videos,
            partial(read_one, spec=self.spec, clips=clips, crops=crops, fps=fps),
            clips,
            crops,
            batch_size=batch_size,
            num_threads=num_threads,
        ):
            if found is not None:
                answers[index] = self.top(found.scores, topk, threshold)
        return answers

    def predict(
        self,
        video: Video,
        topk: int = 5,
        *,
        clips: int = 1,
        crops: int = 1,
        threshold: float = 0.0,
        fps: float | None = None,
    ) -> list[ClassScore]:
        """The topk most probable classes, best first (all K if there are no more).

        Of a multi-label model each probability is of its class alone; they do not sum to 1.

        Args:
            video: path of a video file or of a folder of numbered pictures, or all frames in order
                as uint8 RGB [F, H, W, 3] or [F, 3, H, W].
            topk: number of classes to give.
            clips, crops: test views, which are averaged.
            threshold: classes of a lower probability are left out.
            fps: frames per second of what states no rate, such as frames in memory; needed where
                the model's frames are chosen by time.

        Raises:
            DecodeError: the video cannot be read.
            ValueError: topk, clips, crops, threshold or the frames are not as they should be.
        """
        check_at_least(1, topk=topk)
        check_views(clips, crops)
        check_threshold(threshold)
        check_positive(fps=fps)
        views = read_views(_readable(video), self.spec, clips, crops, fps=fps)
        return self.top(self.scores(views[None])[0], topk, threshold)

    def timeline(
        self,
        video: Video,
        window: float = 2.0,
        stride: float | None = None,
        *,
        topk: int = 5,
        clips: int = 1,
        crops: int = 1,
        fps: float | None = None,
        batch_size: int = 8,
    ) -> list[Window]:
        """The topk classes of every window of a video, as ``gtdnet predict --window`` has them.

        Args:
            video, topk, clips, crops: as for :meth:`predict`.
            window: its length in seconds.
            stride: seconds from the start of one window to the next; default: as long as a window.
            fps: frames per second of frames in memory, and of what states no rate.
            batch_size: views that go through the model at a time.

        Raises:
            DecodeError: the video cannot be read to its end, or its frame rate is unknown.
            ValueError: another argument is not as it should be.
        """
        stride = window if stride is None else stride
        check_positive(window=window, stride=stride, fps=fps)
        check_at_least(1, topk=topk, batch_size=batch_size)
        read = partial(
            read_windows,
            spec=self.spec,
            window=window,
            stride=stride,
            clips=clips,
            crops=crops,
            fps=fps,
        )
        windows = []
        for _, found in self._scored([video], read, clips, crops, batch_size=batch_size):
            if found is not None:
                windows.append(self.window(found, topk))
        return windows

    def features(
        self, video: Video, *, clips: int = 1, crops: int = 1, fps: float | None = None
    ) -> Features:
        """What the classifier sees of a video: pooled features of its sampled frames, their mean.

        Args:
            video, clips, crops: as for :meth:`predict`; crops are averaged.
            fps: as for :meth:`timeline`; times are NaN without it where nothing is known of them.

        Raises:
            DecodeError: the video cannot be read.
            ValueError: another argument is not as it should be, or the engine computes no features.
        """
        check_positive(fps=fps)
        read = partial(read_one, spec=self.spec, clips=clips, crops=crops, fps=fps)
        for _, found in self._scored([video], read, clips, crops, features=True):
            if found is not None:
                return features_of(found, crops)
        raise AssertionError("a video is one window")

    def _scored(
        self,
        videos: Sequence[Video],
        read: Callable[..., Any],
        clips: int,
        crops: int,
        **options: Any,
    ) -> Iterator[tuple[int, Scored | None]]:
        check_views(clips, crops)
        readable = [_readable(video) for video in videos]
        options = {"num_threads": 0, **options}
        for i, found in score_ahead(self, readable, read, num_views=clips * crops, **options):
            if isinstance(found, DecodeError):
                raise found
            yield i, found

    def window(self, scored: Scored, topk: int) -> Window:
        """The topk best classes of a window."""
        start, end = (round(seconds, 3) for seconds in scored.clips[:2])
        return Window(start, end, tuple(self.top(scored.scores, topk)))

    def views(
        self,
        frames: NDArray[np.uint8] | Tensor,
        clips: int = 1,
        crops: int = 1,
        *,
        fps: float | None = None,
    ) -> Tensor:
        """Test views of the frames of a video, as of its file: uint8 [V, T*f, 3, crop, crop].

        ``fps`` is needed where the model's frames are chosen by time.

        Raises:
            ValueError: frames of another kind than [F, H, W, 3] or [F, 3, H, W] uint8, or none.
        """
        return read_views(ArrayReader(frames), self.spec, clips, crops, fps=fps)

    def scores(self, views: Tensor, batch_size: int = 8) -> Tensor:
        """Probabilities [N, K], float32 on the CPU, of clips given as views [N, V, T*f, 3, h, w].

        Softmax of every view's logits (of a multi-label model the sigmoid of each class's), then
        the mean over the V views; the mean first where ``average`` is "logits". ``views`` is
        uint8, on any device; ``batch_size`` of the N * V
        views go through the model at a time.

        Raises:
            ValueError: the device's memory does not hold that many, or the model gives no numbers.
        """
        return self._to_scores(self._run(self.engine, views, batch_size))

    def scores_and_features(self, views: Tensor, batch_size: int = 8) -> tuple[Tensor, Tensor]:
        """:meth:`scores`, and what the classifier sees of every view: float32 [N, V, T, C], CPU.

        Raises:
            ValueError: as :meth:`scores`, or the engine computes no features.
        """
        found: list[Tensor] = []

        def logits(part: Tensor) -> Tensor:
            logits, features = self.engine.logits_and_features(part)
            found.append(features.cpu())
            return logits

        scores = self._to_scores(self._run(logits, views, batch_size))
        return scores, torch.cat(found).unflatten(0, views.shape[:2])

    @torch.inference_mode()
    def _run(self, logits: Callable[[Tensor], Tensor], views: Tensor, batch_size: int) -> Tensor:
        """Logits [N, V, K] of views [N, V, T*f, 3, h, w], part by part."""
        parts = views.flatten(0, 1).split(batch_size)
        try:
            if self.device.type == "cpu":
                say_threads()
            return torch.cat([logits(part) for part in parts]).unflatten(0, views.shape[:2])
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the memory of {self.device} does not hold batch_size={batch_size} views at once; "
                f"lower batch_size"
            ) from error

    @torch.inference_mode()
    def _to_scores(self, logits: Tensor) -> Tensor:
        """Probabilities [N, K] on the CPU from logits [N, V, K]."""
        if self.average == "logits":
            scores = probabilities(logits.mean(dim=1), self.spec).cpu()
        else:
            scores = probabilities(logits, self.spec).mean(dim=1).cpu()
        if not scores.isfinite().all():
            raise InputError(
                f"the model's scores are not finite in {self.precision}: it has diverged in "
                f"training, or its numbers overflow; try precision fp32"
            )
        return scores

    def top(self, scores: Tensor, topk: int = 5, threshold: float = 0.0) -> list[ClassScore]:
        """The topk best classes of one clip's probabilities [K]; of equal ones the lower label.

        Those below the threshold are left out.
        """
        return above(best_of(scores, self.spec, topk), threshold)


def load(
    path: str | Path,
    device: str | torch.device = "auto",
    *,
    engine: str | None = None,
    precision: str | None = None,
    num_segments: int | None = None,
    average: str = "probabilities",
) -> Recognizer:
    """Load a model file (``*.safetensors``) or an exported one (``*.onnx``, ``*.xml``).

    Args:
        path: the file, the folder of a run or an export, or ``hf://user/name[@revision][/file]``.
        device, engine, precision, average: see :class:`Recognizer`.
        num_segments: frames per clip, if others than the model was trained with.

    Raises:
        ValueError: not a model file, or an engine, device or precision that this machine does not
            have.
    """
    file = open_model(path, num_segments=num_segments)
    return Recognizer(file, device, engine=engine, precision=precision, average=average)


def _readable(video: Video) -> Clip:
    return video if isinstance(video, (str, Path)) else ArrayReader(video)


def check_average(average: str) -> None:
    """Raise InputError for what cannot be averaged over views."""
    if average not in AVERAGES:
        raise InputError(f"unknown average {average!r}: choose one of {', '.join(AVERAGES)}")


def check_views(clips: int, crops: int) -> None:
    """Raise InputError unless these are numbers of test clips and crops."""
    check_at_least(1, clips=clips)
    if crops not in (1, 3):
        raise InputError(f"crops must be 1 or 3, got {crops}")


__getattr__ = moved.names(__name__)
