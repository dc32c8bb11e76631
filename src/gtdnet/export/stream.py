"""The step of a stream in the formats of other runtimes, compared with the model on whole clips."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor

from gtdnet.data.transforms import normalise
from gtdnet.engines import ENGINES, Choice, Engine, ExportedFile, Source, choose_for, open_steps
from gtdnet.engines.stream import Shown, Step, StreamGraph
from gtdnet.export.agreement import BATCHES, Agreement, ExportFailed, Reference, compare
from gtdnet.infer.recognizer import Recognizer
from gtdnet.models.model_file import ModelFile
from gtdnet.models.stream import State, restarted
from gtdnet.nn import set_num_segments
from gtdnet.text import first_line


def write_stream(
    engine: str,
    path: Path,
    reference: Reference,
    header: str,
    calibration: Tensor | None = None,
) -> Agreement:
    """Write a causal model's step, and run it on clips as it is run on streams.

    Each clip of the reference, uint8 [M, T, 3, crop, crop], is shown twice, in batches of
    :data:`BATCHES` streams in turn, of which the first starts again between the two; each frame's
    logits must be those of the model on the clip, or on the clip twice, as a whole. With clips for
    the ranges of values, ``calibration``, also uint8 [M, T, 3, crop, crop], it is in int8, and
    agrees in fp32 before.

    Raises:
        ValueError: a model that cannot be run frame by frame.
        ExportFailed: logits that do not agree, or a file that does not run.
    """
    model_file, clips = reference.model_file, reference.clips
    wanted = torch.cat([_wanted(model_file, streams) for streams in _batches(clips)])
    graph = ENGINES[engine].stream_graph(model_file.model, model_file.spec).eval()

    def written(precision: str, remark: str, *shown: Shown) -> Agreement:
        what = f"the exported {path.name}{remark}"
        try:
            step = ENGINES[engine].save_stream(graph, path, header, *shown)
            found = torch.cat([_run(step, graph, streams) for streams in _batches(clips)])
        except Exception as error:  # of whichever runtime
            raise ExportFailed(
                f"{what} does not run: {first_line(error)}; nothing was written"
            ) from error
        agreement = compare(wanted, found)
        if reason := agreement.disagrees(precision):
            raise ExportFailed(
                f"{what} is not the model: {reason}{reference.sensitivity()}; nothing was written"
            )
        return agreement

    if calibration is None:
        return written("fp32", "")
    written("fp32", ", in fp32,")
    return written("int8", "", Shown(graph, calibration))


def streamed(file: ExportedFile, model_file: ModelFile) -> Recognizer:
    """What answers to clips by showing them to an exported step frame by frame, on the CPU.

    A causal model's answer to a clip is the mean over its frames, so it can be evaluated as such.
    """
    recognizer = Recognizer(model_file, "cpu")
    recognizer.engine = FrameByFrame(file)
    return recognizer


class FrameByFrame(Engine):
    """The mean of the logits over the frames of each clip, one clip after another."""

    name = "frame by frame"

    def __init__(self, file: ExportedFile) -> None:
        choice = choose_for(file, None, "cpu")
        super().__init__(choice)
        self._steps = open_steps(file, choice)

    @classmethod
    def build(cls, source: Source, choice: Choice) -> Engine:
        raise NotImplementedError  # it is made of a file

    def logits(self, clips: Tensor) -> Tensor:
        return torch.stack([self._mean(clip) for clip in clips])

    def _mean(self, clip: Tensor) -> Tensor:
        state, logits = self._steps.start(), []
        for frame in clip:
            of_frame, state = self._steps(frame[None], state)
            logits.append(of_frame[0])
        return torch.stack(logits).mean(0)


def _batches(clips: Tensor) -> Iterator[Tensor]:
    sizes, done = cycle(BATCHES), 0
    while done < len(clips):
        yield clips[done : (done := done + next(sizes))]


def _run(step: Step, graph: StreamGraph, clips: Tensor) -> Tensor:
    """Logits [S * 2T, K] of clips shown twice, frame by frame."""
    state: State = graph.step.start(len(clips))
    logits = []
    with torch.no_grad():
        for _ in range(2):
            for frames in clips.unbind(1):
                of_frame, state = step(frames.contiguous(), state)
                logits.append(of_frame.float())
            state = restarted(state, [0])
    return torch.stack(logits, 1).flatten(0, 1)


def _wanted(model_file: ModelFile, clips: Tensor) -> Tensor:
    """The same by the model in one pass."""
    network = copy.deepcopy(model_file.model).eval()
    frames = clips.shape[1]
    set_num_segments(network, 2 * frames)
    with torch.no_grad():
        twice = normalise(torch.cat([clips, clips], dim=1), model_file.spec)
        logits = network.forward_frames(twice)  # [S, 2T, K]
    logits[0, frames:] = logits[0, :frames]
    return logits.flatten(0, 1)
