"""The step of a stream as one graph, its state among the inputs and outputs, for other runtimes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.engines.deploy import Form, FromFrames, deployable
from gtdnet.engines.graph import OUTPUT, TRACED
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.stream import FrameStep, State

if TYPE_CHECKING:
    from torch.export import ExportedProgram

FRAMES, NEXT = "frames", "next."
"""The input of pictures; before the name of a state's tensor, that of what it is afterwards."""

Step = Callable[[Tensor, State], tuple[Tensor, State]]
"""frames uint8 [S, 3, crop, crop], state -> logits [S, K], the next state."""


class Shown:
    """Inputs of a graph as streams of clips give them: every second frame, with its state.

    They are computed as they are asked for: the states of many clips are more than memory holds.

    Args:
        graph: whose own states they are, in fp32.
        clips: uint8 [M, T, 3, crop, crop].
    """

    def __init__(self, graph: StreamGraph, clips: Tensor) -> None:
        self._graph, self._clips = graph, clips
        self._first = (clips.shape[1] - 1) % 2  # so that the last one is among them

    def __len__(self) -> int:
        return len(self._clips) * len(range(self._first, self._clips.shape[1], 2))

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        for clip in self._clips:
            state: State = self._graph.step.start()
            for number, frame in enumerate(clip):
                given = (frame[None].contiguous(), *state)
                if number % 2 == self._first:
                    pairs = zip(self._graph.inputs, given, strict=True)
                    yield {name: tensor.numpy() for name, tensor in pairs}
                with torch.no_grad():
                    _, *state_after = self._graph(*given)
                state = tuple(state_after)


class StreamGraph(nn.Module):
    """A causal model's step on frames as they come from a decoder, norms folded, on the CPU.

    (frames uint8 [S, 3, crop, crop], started, *remembered) -> (logits float32 [S, K], started,
    *remembered), any number of streams S; the state is :data:`gtdnet.models.stream.State`.

    Args:
        model, spec: of a model file.
        form: of causal convolutions, that an engine runs faster one frame at a time.

    Raises:
        ValueError: a model that cannot be run frame by frame.
    """

    def __init__(self, model: VideoClassifier, spec: ClipSpec, form: Form | None = None) -> None:
        super().__init__()
        self.step = FrameStep(deployable(model, form), spec.crop_size)
        self.normalised = FromFrames(nn.Identity(), spec)
        self.size = spec.crop_size
        self.inputs = (FRAMES, *self.step.names)
        self.outputs = (OUTPUT, *(NEXT + name for name in self.step.names))

    def forward(self, frames: Tensor, started: Tensor, *remembered: Tensor) -> tuple[Tensor, ...]:
        return self.step(self.normalised(frames), started, *remembered)

    def example(self, streams: int = TRACED) -> tuple[Tensor, ...]:
        """Inputs: a first frame of each stream."""
        frames = torch.zeros(streams, 3, self.size, self.size, dtype=torch.uint8)
        return (frames, *self.step.start(streams))

    def program(self) -> ExportedProgram:
        """As a torch.export program."""
        from torch.export import Dim, export

        inputs, axis = self.example(), {0: Dim("streams")}
        shapes = (axis, axis, *([(axis,) * len(inputs[2:])] if inputs[2:] else []))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch about itself
            return export(self.eval(), inputs, dynamic_shapes=shapes, strict=False)
