"""A network as one graph of tensor operations, for the runtimes that take graphs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec

if TYPE_CHECKING:
    from torch.export import ExportedProgram

INPUT, OUTPUT = "clips", "logits"
"""What a graph's input and output are called."""

TRACED = 2
"""Clips of the batch that a graph is made with: not 1, which tracing takes for a constant."""


def example_clips(spec: ClipSpec, n: int = TRACED) -> Tensor:
    """Clips as the graphs take them: uint8 [N, T*f, 3, crop, crop]."""
    generator = torch.Generator().manual_seed(0)
    shape = (n, spec.frames_per_clip, 3, spec.crop_size, spec.crop_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def to_program(network: nn.Module, spec: ClipSpec) -> ExportedProgram:
    """A torch.export program of a network on uint8 frames; any number of clips."""
    from torch.export import Dim, export

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        return export(
            network, (example_clips(spec),), dynamic_shapes={INPUT: {0: Dim("batch")}}, strict=False
        )
