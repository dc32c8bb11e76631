"""What runs the step of streams: a causal model itself, or the graph of an exported file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import normalise
from gtdnet.device import Precision, autocast
from gtdnet.engines.graph import OUTPUT
from gtdnet.engines.header import ExportedFile
from gtdnet.engines.stream import FRAMES, NEXT
from gtdnet.errors import InputError
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.stream import FrameStep, State
from gtdnet.text import first_line


class Steps(ABC):
    """The step of S streams as a function of tensors alone. Not to be called by two threads.

    Attributes:
        device, precision: in which it computes.
    """

    device: torch.device
    precision: Precision

    @abstractmethod
    def start(self, streams: int = 1) -> State:
        """The state before the first frame."""

    @abstractmethod
    def __call__(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """(uint8 [S, 3, crop, crop], state) -> (logits float32 [S, K], the next state)."""


class ModelSteps(Steps):
    """Of a model in PyTorch.

    Raises:
        ValueError: a model that cannot be run frame by frame.
    """

    def __init__(
        self, model: VideoClassifier, spec: ClipSpec, device: torch.device, precision: Precision
    ) -> None:
        self.device, self.precision, self._spec = device, precision, spec
        with autocast(device, precision):
            self._step = FrameStep(model.to(device), spec.crop_size)

    def start(self, streams: int = 1) -> State:
        return self._step.start(streams)

    @torch.inference_mode()
    def __call__(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        with autocast(self.device, self.precision):
            logits, *after = self._step(normalise(frames.to(self.device), self._spec), *state)
        return logits.float(), tuple(after)


class Port(NamedTuple):
    """An input or output of a graph: its name, its kind, its axes (None: any length)."""

    name: str
    kind: str
    shape: list[int | None]


Run = Callable[[Mapping[str, NDArray[Any]]], Sequence[Any]]
"""Inputs by name -> the outputs in their order, arrays in memory that no later call uses."""


class GraphSteps(Steps):
    """Of an exported file, by a runtime of its own; the state is on the CPU.

    Args:
        file: what its header says.
        inputs, outputs: of the graph, in its order.
        run: the runtime.

    Raises:
        ValueError: the graph is not that of a stream, or not the spec's.
    """

    def __init__(
        self,
        file: ExportedFile,
        device: torch.device,
        precision: Precision,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        run: Run,
    ) -> None:
        self.device, self.precision = device, precision
        self._file, self._run = file, run
        _check(file, inputs, outputs)
        self._names = [port.name for port in inputs]
        self._remembered = [(port.kind, port.shape[1:]) for port in inputs[1:]]

    def start(self, streams: int = 1) -> State:
        return tuple(
            torch.zeros(streams, *shape, dtype=_KINDS[kind])  # type: ignore[arg-type]
            for kind, shape in self._remembered
        )

    def __call__(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        given = {
            name: np.ascontiguousarray(tensor.cpu().numpy())
            for name, tensor in zip(self._names, (frames, *state), strict=True)
        }
        try:
            logits, *after = (torch.from_numpy(out) for out in self._run(given))
        except Exception as error:  # of whichever runtime
            raise InputError(
                f"{self._file.path}: it cannot be run ({first_line(error)})"
            ) from error
        return logits, tuple(after)


_KINDS = {"uint8": torch.uint8, "bool": torch.bool, "float32": torch.float32}


def _check(file: ExportedFile, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """InputError unless these are the inputs and outputs of the spec's stream."""
    size, (frames, *state) = file.spec.crop_size, inputs or [Port("", "", [])]
    wanted = [
        Port(FRAMES, "uint8", [None, 3, size, size]),
        Port("started", "bool", [None]),
        *(Port(port.name, "float32", [None, *port.shape[1:]]) for port in state[1:]),
    ]
    given = [Port(OUTPUT, "float32", [None, file.spec.num_classes])]
    given += [Port(NEXT + port.name, port.kind, port.shape) for port in wanted[1:]]
    # What comes out need not say how long its axes are, but for their number.
    found = [(port.name, port.kind, len(port.shape)) for port in outputs]
    is_known = all(None not in port.shape[1:] for port in inputs)
    if (
        [frames, *state] != wanted
        or not is_known
        or found != [(port.name, port.kind, len(port.shape)) for port in given]
        or (outputs[0].shape[1] not in (None, file.spec.num_classes))
    ):
        raise InputError(
            f"{file.path}: its graph is not the step of a stream with the classes and pictures of "
            f"its header; give a file of gtdnet export --stream"
        )
