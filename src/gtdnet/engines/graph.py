"""A network as one graph of tensor operations, for the runtimes that take graphs."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError

INPUT, OUTPUT = "clips", "logits"
"""What a graph's input and output are called."""

TRACED = 2
"""Clips of the batch that a graph is made with: not 1, which tracing takes for a constant."""


class Node(NamedTuple):
    """One operation of a call, as what runs it timed it.

    Attributes:
        name: its own.
        kind: what it does, in the runtime's words.
        calls: how often it ran in the call.
        seconds: of all these together.
    """

    name: str
    kind: str
    calls: float
    seconds: float


def example_clips(spec: ClipSpec, n: int = TRACED) -> Tensor:
    """Clips as the graphs take them: uint8 [N, T*f, 3, crop, crop]."""
    generator = torch.Generator().manual_seed(0)
    shape = (n, spec.frames_per_clip, 3, spec.crop_size, spec.crop_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def to_program(network: nn.Module, spec: ClipSpec) -> ExportedProgram:
    """A torch.export program of a network on uint8 frames; any number of clips."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        return torch.export.export(
            network, (example_clips(spec),), dynamic_shapes={INPUT: {0: Dim("batch")}}, strict=False
        )


def missing(*packages: str) -> str | None:
    """The first of them that is not there, with the remedy; None: all are."""
    for package in packages:
        if find_spec(package) is None:
            return f'{package} is not installed; get it with: pip install "gtdnet[export]"'
    return None


def check_installed(*packages: str) -> None:
    """Raise InputError for a package that is not there, with the remedy."""
    if reason := missing(*packages):
        raise InputError(reason)
