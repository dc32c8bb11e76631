"""A case as a call: a model in an engine, or as the module that it is, on frames made at random."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gtdnet import moved
from gtdnet.bench.options import MODULES
from gtdnet.bench.profile import Profiler, by_pytorch
from gtdnet.data.spec import ClipSpec
from gtdnet.device import autocast, resolve_precision, to_channels_last
from gtdnet.engines import build_engine, example_clips, unavailable
from gtdnet.engines.deploy import FromFrames
from gtdnet.errors import InputError
from gtdnet.nn import fast_path

LAYOUTS = ("nchw", "channels_last")
GRAPHS = ("eager-graph", "compile-graph")

Call = Callable[[], Tensor]


class Ready(NamedTuple):
    """A call of a model on clips that stay where it computes; engine and precision as resolved."""

    call: Call
    engine: str
    precision: str
    profiler: Profiler | None = None


def why_not(engine: str, device: torch.device) -> str | None:
    """Why an engine, or a way to run the module, cannot be used here; None: it can."""
    if engine in GRAPHS and device.type != "cuda":
        return f"{engine} needs a CUDA device, for it replays CUDA graphs"
    return None if engine in (*MODULES, "auto") else unavailable(engine, device)


def make_call(
    model: nn.Module,
    spec: ClipSpec,
    *,
    engine: str,
    precision: str,
    layout: str | None,
    batch_size: int,
    threads: int,
    device: torch.device,
    profiled: bool = False,
) -> Ready:
    """Make a model callable; InputError if there is no such engine, precision or layout here."""
    clips = example_clips(spec, batch_size).to(device)
    if engine in MODULES:
        if precision == "int8":
            raise InputError(f"engine {engine} has no int8; use engine openvino")
        precision = resolve_precision(precision, device)
        call = _module_call(model, spec, engine, precision, layout, clips)
        return Ready(call, engine, precision, by_pytorch(call, device) if profiled else None)
    build = partial(
        build_engine,
        model,
        spec,
        engine,
        device=str(device),
        precision=precision,
        threads=threads,
        calibration=clips if precision == "int8" else None,  # which changes no time
    )
    built = build()
    clips = clips.to(built.device)
    ready = Ready(lambda: built(clips), built.name, built.precision)
    if not profiled:
        return ready
    if built.device.type != "cpu":  # its kernels tell of themselves
        return ready._replace(profiler=by_pytorch(ready.call, device))
    counting = build(profiled=True)
    counting(clips)  # may compile
    profiler = Profiler(lambda: counting(clips), lambda: counting.nodes()[1:])
    return ready._replace(profiler=profiler)


def _module_call(
    model: nn.Module, spec: ClipSpec, engine: str, precision: str, layout: str | None, clips: Tensor
) -> Call:
    """The module as it is, with autocast unless fp32."""
    module = FromFrames(model, spec).eval().to(clips.device)
    if layout == "channels_last":
        to_channels_last(module)
    if engine == "compile-graph":
        module.compile(mode="reduce-overhead")

    def call() -> Tensor:
        fast = fast_path(False) if engine == "plain" else contextlib.nullcontext()
        # torch.compile keeps away from inference_mode's tensors.
        without = torch.no_grad() if engine == "compile-graph" else torch.inference_mode()
        with fast, without, autocast(clips.device, precision):
            return module(clips)

    return _replayed(call, clips.device) if engine == "eager-graph" else call


def _replayed(call: Call, device: torch.device) -> Call:
    """The kernels of a call recorded once as a CUDA graph, to be replayed."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):  # libraries prepare themselves, which a graph cannot hold
        for _ in range(3):
            call()
    torch.cuda.current_stream(device).wait_stream(stream)
    with torch.cuda.graph(graph):
        logits = call()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay


__getattr__ = moved.names(__name__)
