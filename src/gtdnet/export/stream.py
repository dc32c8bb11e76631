"""The step of a stream in the formats of other runtimes, compared with the model on whole clips."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor

from gtdnet.data.transforms import normalise
from gtdnet.engines import ENGINES
from gtdnet.engines.stream import Step, StreamGraph
from gtdnet.export.agreement import BATCHES, Agreement, ExportFailed, compare
from gtdnet.models.model_file import ModelFile
from gtdnet.models.stream import State, restarted
from gtdnet.nn import set_num_segments
from gtdnet.text import first_line


def write_stream(
    engine: str, path: Path, model_file: ModelFile, clips: Tensor, header: str
) -> Agreement:
    """Write a causal model's step, and run it on clips as it is run on streams.

    Each clip, uint8 [M, T, 3, crop, crop], is shown twice, in batches of :data:`BATCHES` streams in
    turn, of which the first starts again between the two; each frame's logits must be those of the
    model on the clip, or on the clip twice, as a whole.

    Raises:
        ValueError: a model that cannot be run frame by frame.
        ExportFailed: logits that do not agree, or a file that does not run.
    """
    wanted = torch.cat([_wanted(model_file, streams) for streams in _batches(clips)])
    graph = ENGINES[engine].stream_graph(model_file.model, model_file.spec).eval()
    try:
        step = ENGINES[engine].save_stream(graph, path, header)
        found = torch.cat([_run(step, graph, streams) for streams in _batches(clips)])
    except Exception as error:  # of whichever runtime
        raise ExportFailed(
            f"the exported {path.name} does not run: {first_line(error)}; nothing was written"
        ) from error
    agreement = compare(wanted, found)
    if reason := agreement.disagrees("fp32"):
        raise ExportFailed(
            f"the exported {path.name} is not the model: {reason}; nothing was written"
        )
    return agreement


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
