"""Recognising actions while they happen: one frame in, its class probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import resize_short_side, spatial_crops
from gtdnet.engines import ExportedFile, choose_for, open_model, open_steps
from gtdnet.errors import InputError, check_at_least
from gtdnet.infer.answers import ClassScore, best_of
from gtdnet.models.classifier import probabilities
from gtdnet.models.model_file import ModelFile
from gtdnet.models.stream import State, restarted

Frame = NDArray[np.uint8] | Tensor
"""RGB, uint8 [H, W, 3]."""


class StreamingRecognizer:
    """A causal model that follows videos frame by frame, several at a time.

    What it says of a frame is what the model says of the last frame of everything that the stream
    has shown since its start; it costs one frame of the 2D network, and memory that does not grow.
    Frames should come at the distance at which the model saw them in training: of sampling
    "rate" ``spec.rate`` a second, of "dense" every ``spec.frame_interval``-th frame of a video.
    :func:`gtdnet.open_live` chooses them.

    Args:
        model: a model file, or what :func:`gtdnet.load_model` read; a network in which no frame
            sees a later one (``causal`` TSM and GTDNet, and TSN). Or what ``gtdnet export
            --stream`` wrote of one: a file, or the folder.
        streams: S.
        device, precision: as of :class:`gtdnet.Recognizer`.

    Attributes:
        spec: the model file's.
        streams, device, precision: as given, resolved.
        state: what it remembers of each stream, :data:`gtdnet.models.stream.State`.

    Raises:
        ValueError: a model that cannot be run frame by frame, no model file, or an argument out of
            range.
    """

    def __init__(
        self,
        model: str | Path | ModelFile | ExportedFile,
        streams: int = 1,
        device: str | torch.device = "auto",
        *,
        precision: str | None = None,
    ) -> None:
        check_at_least(1, streams=streams)
        file = open_model(model) if isinstance(model, (str, Path)) else model
        if isinstance(file, ExportedFile) and not file.stream:
            raise InputError(
                f"{file.path}: is a network for whole clips; export it with --stream, or use "
                f"gtdnet.open_live, which shows it a sliding window"
            )
        self.spec: ClipSpec = file.spec
        self.streams = streams
        choice = choose_for(file, None, str(device), precision)
        self._step = open_steps(file, choice, streams)
        self.device, self.precision = self._step.device, self._step.precision
        self._lock = Lock()
        self.state = self.start(streams)

    @overload
    def __call__(
        self, frames: Frame, topk: int = 5, *, streams: Sequence[int] | None = None
    ) -> list[ClassScore]: ...

    @overload
    def __call__(
        self, frames: Sequence[Frame], topk: int = 5, *, streams: Sequence[int] | None = None
    ) -> list[list[ClassScore]]: ...

    def __call__(
        self,
        frames: Frame | Sequence[Frame],
        topk: int = 5,
        *,
        streams: Sequence[int] | None = None,
    ) -> list[ClassScore] | list[list[ClassScore]]:
        """The topk most probable classes at this frame, best first.

        Args:
            frames: the next frame, uint8 RGB [H, W, 3]; or one of each stream, [S, H, W, 3] or a
                sequence of such of any sizes, for which there is a list of each.
            topk: number of classes to give.
            streams: those that ``frames`` are of, where not all have one; the others wait.

        Raises:
            ValueError: as :meth:`scores`, or topk is less than 1.
        """
        check_at_least(1, topk=topk)
        answers = [best_of(s, self.spec, topk) for s in self.scores(frames, streams=streams)]
        return answers[0] if _is_one(frames) else answers

    def scores(
        self, frames: Frame | Sequence[Frame], *, streams: Sequence[int] | None = None
    ) -> Tensor:
        """Probabilities at this frame, float32 [S, K] on the CPU; arguments as of a call.

        Raises:
            ValueError: frames of another kind or number than there are streams, or the model gives
                no numbers.
        """
        return self.scores_of(self.prepare(frames), streams=streams)

    def scores_of(self, pictures: Tensor, *, streams: Sequence[int] | None = None) -> Tensor:
        """:meth:`scores` of frames that :meth:`prepare` has prepared."""
        with self._lock:
            rows = self._rows(streams, len(pictures))
            state = self.state if rows is None else tuple(t[rows] for t in self.state)
            logits, state = self._step(pictures, state)
            if rows is not None:
                both = zip(self.state, state, strict=True)
                state = tuple(old.index_copy(0, rows, new) for old, new in both)
            self.state = state
        scores = probabilities(logits, self.spec).cpu()
        if not scores.isfinite().all():
            raise InputError(
                f"the model's scores are not finite in {self.precision}: it has diverged in "
                f"training, or its numbers overflow; try precision fp32"
            )
        return scores

    def reset(self, streams: int | Iterable[int] | None = None) -> None:
        """Forget what some streams (None: all) have shown: their next frame is a first one.

        Raises:
            ValueError: there is no such stream.
        """
        chosen = [streams] if isinstance(streams, int) else streams
        with self._lock:
            rows = None if chosen is None else self._checked(list(chosen))
            self.state = restarted(self.state, rows)

    # ----------------------------------------------------------------- without a memory of its own

    def start(self, streams: int = 1) -> State:
        """The state of streams before their first frame, for :meth:`step`."""
        return self._step.start(streams)

    def step(self, frames: Frame | Sequence[Frame], state: State) -> tuple[Tensor, State]:
        """The step as a function: (frames, state) -> (logits float32 [S, K], the next state).

        Args:
            frames: as of a call.
            state: of :meth:`start`, or of the step before. It is not changed.

        Raises:
            ValueError: as :meth:`scores`.
        """
        pictures = self.prepare(frames)
        if len(pictures) != len(state[0]):
            raise InputError(
                f"the state is of {len(state[0])} streams, but there are {len(pictures)} frames; "
                f"give one frame for each stream"
            )
        with self._lock:
            return self._step(pictures, state)

    def prepare(self, frames: Frame | Sequence[Frame]) -> Tensor:
        """Frames as the model sees them, before normalisation: uint8 [S, 3, crop, crop]."""
        return prepare(frames, self.spec)

    def _rows(self, streams: Sequence[int] | None, frames: int) -> Tensor | None:
        wanted = self.streams if streams is None else len(self._checked(list(streams)))
        if frames != wanted:
            raise InputError(
                f"there are {wanted} streams, but {frames} frames; give one frame for each stream, "
                f"or name the streams that have one"
            )
        return None if streams is None else torch.tensor(list(streams), device=self.state[0].device)

    def _checked(self, streams: list[int]) -> list[int]:
        for stream in streams:
            if not 0 <= stream < self.streams:
                raise InputError(
                    f"there is no stream {stream}; they are numbered from 0 to {self.streams - 1}"
                )
        if len(set(streams)) != len(streams):
            raise InputError(f"streams {streams} name one twice; each has one frame at a time")
        return streams


def prepare(frames: Frame | Sequence[Frame], spec: ClipSpec) -> Tensor:
    """One frame or several as a model sees them, before normalisation: uint8 [S, 3, crop, crop].

    Raises:
        ValueError: there are none, or they are no pictures.
    """
    every = cast("Sequence[Frame]", [frames] if _is_one(frames) else frames)
    if not len(every):
        raise InputError("there are no frames; give one frame for each stream")
    return torch.cat([_prepared(frame, spec) for frame in every])


def _prepared(frame: Frame, spec: ClipSpec) -> Tensor:
    picture = torch.as_tensor(frame)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != torch.uint8:
        raise InputError(
            f"a frame must be uint8 RGB of shape [H, W, 3], got {picture.dtype} of shape "
            f"{list(picture.shape)}"
        )
    if not picture.numel():
        raise InputError(f"a frame of shape {list(picture.shape)} has no pixels")
    resized = resize_short_side(picture.permute(2, 0, 1)[None], spec)
    return spatial_crops(resized, spec.crop_size)[0]


def _is_one(frames: Frame | Sequence[Frame]) -> bool:
    return isinstance(frames, (np.ndarray, Tensor)) and frames.ndim == 3
