"""Any model on live streams: which frames it is shown, and its probabilities after each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from gtdnet.data.sampling import ROUNDING
from gtdnet.data.spec import ClipSpec, describe_sampling
from gtdnet.engines import ExportedFile, open_model
from gtdnet.errors import InputError, check_at_least, check_positive
from gtdnet.infer.recognizer import Recognizer
from gtdnet.infer.ring import Ring, clip_span
from gtdnet.infer.streaming import Frame, StreamingRecognizer, prepare
from gtdnet.models.model_file import ModelFile
from gtdnet.models.stream import why_no_stream

WINDOW = 2.0
"""Seconds: the length of a window, where nothing says otherwise."""
ANSWERS = 4
"""Answers while a window passes, where nothing says otherwise."""


def open_live(
    model: str | Path | ModelFile | ExportedFile,
    streams: int = 1,
    device: str | torch.device = "auto",
    *,
    precision: str | None = None,
    window: float | None = None,
    every: float | None = None,
) -> LiveModel:
    """A model that follows streams, causal or not.

    A causal model is run frame by frame, every other one on a window that slides.

    Args:
        model: a model file, an exported one (of ``--stream`` too), or what was read of one.
        streams: S.
        device, precision: as of :class:`gtdnet.Recognizer`; by default fp32, and of an exported
            file its own.
        window: seconds that the model looks back. Default: as long as its clips; where that
            depends on the video (sampling "segment"), :data:`WINDOW`. Of a causal model: in which
            it is shown T frames.
        every: seconds from one answer to the next; not of a causal model, which answers at every
            frame. Default: a quarter of the window.

    Raises:
        ValueError: no model file, or an argument out of range.
    """
    check_at_least(1, streams=streams)
    check_positive(window=window, every=every)
    file = open_model(model) if isinstance(model, (str, Path)) else model
    if file.stream if isinstance(file, ExportedFile) else not why_no_stream(file.model):
        if every is not None:
            raise InputError(
                f"every={every:g}: this model is causal and answers at every frame that it is "
                f"shown; leave it out"
            )
        return _Steps(StreamingRecognizer(file, streams, device, precision=precision), window)
    return _Windows(Recognizer(file, device, precision=precision), streams, window, every)


class LiveModel(ABC):
    """A model that follows S streams; :func:`open_live` makes one.

    Of each stream every frame is asked about (:meth:`due`), and those that are due are shown
    (:meth:`scores`), in order. Times are seconds of the stream, from whatever start. A stream whose
    time runs back begins anew. Several threads may call it.

    Attributes:
        spec: the model file's.
        streams: S.
    """

    def __init__(self, spec: ClipSpec, streams: int) -> None:
        self.spec, self.streams = spec, streams
        self._lock = Lock()

    def due(self, stream: int, time: float) -> bool:
        """Whether the stream's frame at this time is to be shown; if not, it is counted alone.

        To ask twice about one time changes nothing, nor does it if a frame that was due never
        comes: the next one is due then.

        Raises:
            ValueError: there is no such stream, or the time is no number.
        """
        self._check([stream], [time])
        with self._lock:
            return self._due(stream, time)

    def scores(
        self, frames: Sequence[Frame], *, streams: Sequence[int], times: Sequence[float]
    ) -> Tensor:
        """Probabilities after these frames, float32 [n, K] on the CPU.

        Before a window is full the first frame stands for those missing.

        Args:
            frames: n of them, uint8 RGB [H, W, 3], of any sizes.
            streams: that they are of, each once at most.
            times: of each.

        Raises:
            ValueError: the arguments do not fit each other, or the model gives no numbers.
        """
        if not len(frames) == len(streams) == len(times):
            raise InputError(
                f"there are {len(frames)} frames of {len(streams)} streams at {len(times)} times; "
                f"give one stream and one time for each frame"
            )
        self._check(streams, times)
        pictures = prepare(frames, self.spec)
        with self._lock:
            return self._scores(pictures, list(streams), list(times))

    def reset(self, streams: int | Iterable[int] | None = None) -> None:
        """Forget what some streams (None: all) have shown: their next frame is a first one.

        Raises:
            ValueError: there is no such stream.
        """
        chosen = [streams] if isinstance(streams, int) else streams
        chosen = list(range(self.streams) if chosen is None else chosen)
        self._check(chosen, [])
        with self._lock:
            for stream in chosen:
                self._reset(stream)

    @abstractmethod
    def describe(self) -> str:
        """One line: which frames it is shown, and what that costs."""

    @abstractmethod
    def _due(self, stream: int, time: float) -> bool: ...

    @abstractmethod
    def _scores(self, pictures: Tensor, streams: list[int], times: list[float]) -> Tensor: ...

    @abstractmethod
    def _reset(self, stream: int) -> None: ...

    def _check(self, streams: Sequence[int], times: Sequence[float]) -> None:
        for stream in streams:
            if not 0 <= stream < self.streams:
                raise InputError(
                    f"there is no stream {stream}; they are numbered from 0 to {self.streams - 1}"
                )
        if len(set(streams)) != len(streams):
            raise InputError(
                f"streams {list(streams)} name one twice; each has one frame at a time"
            )
        for time in times:
            if not math.isfinite(time):
                raise InputError(f"the time of a frame must be a number of seconds, got {time}")


class _Steps(LiveModel):
    """A causal model: one step for each frame shown."""

    def __init__(self, recognizer: StreamingRecognizer, window: float | None) -> None:
        super().__init__(recognizer.spec, recognizer.streams)
        self._recognizer = recognizer
        spec = self.spec
        window = window or _length_of(spec)
        self._gap = window / spec.num_segments if window else None
        self._paces = [Pace(spec.frame_interval, self._gap) for _ in range(recognizer.streams)]

    def describe(self) -> str:
        gap, step = self._gap, self.spec.frame_interval
        which = "every frame is" if step == 1 else f"one frame of {step} is"
        if gap is not None:
            which = f"{1 / gap:.4g} frames a second are"
        return (
            f"causal: {which} shown to the model; each costs one frame of the 2D network and has "
            f"an answer"
        )

    def _due(self, stream: int, time: float) -> bool:
        return self._paces[stream].due(time)

    def _scores(self, pictures: Tensor, streams: list[int], times: list[float]) -> Tensor:
        for stream, time in zip(streams, times, strict=True):
            if self._paces[stream].runs_back(time):
                self._reset(stream)
        scores = self._recognizer.scores_of(pictures, streams=streams)
        for stream, time in zip(streams, times, strict=True):
            self._paces[stream].shown(time)
        return scores

    def _reset(self, stream: int) -> None:
        self._paces[stream].clear()
        self._recognizer.reset(stream)


class _Windows(LiveModel):
    """Any other model: a clip of the last seconds, now and then."""

    def __init__(
        self, recognizer: Recognizer, streams: int, window: float | None, every: float | None
    ) -> None:
        super().__init__(recognizer.spec, streams)
        self._recognizer = recognizer
        self._window = window = window or _length_of(self.spec)
        self._every = every or (window or WINDOW) / ANSWERS
        self._rings = [Ring(self.spec, window) for _ in range(streams)]
        self._paces = [Pace(1, self._every) for _ in range(streams)]
        self._last = torch.zeros(streams, self.spec.num_classes)

    def describe(self) -> str:
        spec = self.spec
        window = f"{self._window:.3g} s" if self._window else f"{clip_span(spec)} frames"
        cost = spec.frames_per_clip / self._every
        how = describe_sampling(spec.sampling, spec.frame_interval, spec.rate)
        return (
            f"a window of the last {window}, of which {spec.frames_per_clip} frames "
            f"({how}) have an answer every {self._every:.4g} s; that costs {cost:.4g} "
            f"frames of the 2D network a second"
        )

    def _due(self, stream: int, time: float) -> bool:
        return self._rings[stream].wants(time)

    def _scores(self, pictures: Tensor, streams: list[int], times: list[float]) -> Tensor:
        asked = []
        for picture, stream, time in zip(pictures, streams, times, strict=True):
            if self._paces[stream].runs_back(time):
                self._reset(stream)
            self._rings[stream].add(picture, time)
            if self._paces[stream].due(time):
                asked.append(stream)
                self._paces[stream].shown(time)
        if asked:
            clips = torch.stack([self._rings[stream].clip() for stream in asked])
            self._last[asked] = self._recognizer.scores(clips[:, None], batch_size=len(asked))
        return self._last[streams]

    def _reset(self, stream: int) -> None:
        self._paces[stream].clear()
        self._rings[stream].clear()


def _length_of(spec: ClipSpec) -> float | None:
    """Seconds of a clip; None where it is counted in frames."""
    if spec.rate is not None:
        return spec.num_segments / spec.rate
    return WINDOW if spec.sampling == "segment" else None


class Pace:
    """Which frames of one stream it is the turn of.

    Every ``step``-th that comes, or with ``gap`` the first at or after 0, gap, 2 gap ... seconds
    from the first frame; where those turns were missed, the next frame that comes.
    """

    def __init__(self, step: int, gap: float | None = None) -> None:
        self._step, self._gap = step, gap
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._start = self._newest = -math.inf
        self._count = 0  # frames that came
        self._turn = -1  # the last one shown: the number of its turn, or of the frame

    def runs_back(self, time: float) -> bool:
        """Whether frames of later times have come."""
        return time < self._newest

    def due(self, time: float) -> bool:
        """Whether it is this frame's turn; it is counted, once."""
        if self.runs_back(time):
            return True
        self._see(time)
        turn = self._turn_of(time)
        return self._turn < 0 or turn - self._turn >= (self._step if self._gap is None else 1)

    def shown(self, time: float) -> None:
        """This frame has had its turn."""
        self._see(time)
        self._turn = self._turn_of(time)

    def _see(self, time: float) -> None:
        if not self._count:
            self._start = time
        self._count += time > self._newest
        self._newest = time

    def _turn_of(self, time: float) -> int:
        if self._gap is None:
            return self._count - 1
        return math.floor((time - self._start + ROUNDING) / self._gap)
