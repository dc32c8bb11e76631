"""What the operations of a call took: the record, and PyTorch's profiler to make it with."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch


class Node(NamedTuple):
    """One operation of a call, as what runs it timed it."""

    name: str
    kind: str  # what it does, in the runtime's words
    calls: float  # how often it ran in the call
    seconds: float  # of all these together


class OperatorLog:
    """Of calls that compute in PyTorch, what their operators took; on a GPU, of its time."""

    def __init__(self, device: torch.device) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it tells stderr when it starts
        self.device = device
        self.calls: list[list[Node]] = []  # the nodes of each so far

    @contextmanager
    def call(self) -> Iterator[None]:
        """Within it, one call is made."""
        from torch.profiler import ProfilerActivity, profile

        on_gpu = self.device.type == "cuda"
        activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
        spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        with profile(activities=[activity]) as found:
            yield
            if on_gpu:
                torch.cuda.synchronize(self.device)
        events = [event for event in found.key_averages() if getattr(event, spent) > 0]
        self.calls.append(
            [Node(e.key, kind_of(e.key), e.count, getattr(e, spent) / 1e6) for e in events]
        )


def kind_of(operator: str) -> str:
    """PyTorch's name of it without the numbers that torch.compile gives to what it generates."""
    return re.sub(r"^graph_\d+_|_\d+$|: \d+/\d+$| \w{52} ##$", "", operator)
