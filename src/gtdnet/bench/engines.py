"""A case as a call: a model in an engine, or as the module that it is, on frames made at random."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gtdnet.bench.profile import Profiler, by_pytorch
from gtdnet.data.spec import ClipSpec
from gtdnet.device import autocast, resolve_precision, to_channels_last
from gtdnet.errors import InputError
from gtdnet.infer.engine import Choice, Engine, build_engine, open_engine, unavailable
from gtdnet.infer.exported import ExportedFile, ExportedModel
from gtdnet.infer.graph import example_clips
from gtdnet.nn import fast_path

LAYOUTS = ("nchw", "channels_last")
MODULES = ("eager", "plain", "eager-graph", "compile-graph")
"""Ways to run the module itself, without an engine that prepares it for inference."""

GRAPHS = ("eager-graph", "compile-graph")

FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
"""What engines that run files call them; the others run modules."""

Call = Callable[[], Tensor]


def why_not(engine: str, device: torch.device) -> str | None:
    """Why an engine, or a way to run the module, cannot be used here; None: it can."""
    if engine in GRAPHS and device.type != "cuda":
        return f"{engine} needs a CUDA device, for it replays CUDA graphs"
    if engine in MODULES or engine == "auto":
        return None
    return unavailable(engine, device)


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
) -> tuple[Call, str, str]:
    """A call of the model on clips that stay where it computes; engine and precision as resolved.

    Raises:
        ValueError: no such engine, precision or layout here.
    """
    clips = example_clips(spec, batch_size).to(device)
    if engine not in MODULES:
        built = _build(model, spec, engine, precision, clips, threads)
        clips = clips.to(built.device)
        return lambda: built(clips), built.name, built.precision
    if precision == "int8":
        raise InputError(f"engine {engine} has no int8; use engine openvino")
    precision = resolve_precision(precision, device)
    module = _Frames(model, spec, precision, fast=engine != "plain").eval().to(device)
    if layout == "channels_last":
        to_channels_last(module)
    if engine == "eager-graph":
        return _replayed(module, clips), engine, precision
    if engine == "compile-graph":
        module.compile(mode="reduce-overhead")

    def call() -> Tensor:
        # torch.compile keeps away from inference_mode's tensors.
        with torch.no_grad() if engine == "compile-graph" else torch.inference_mode():
            return module(clips)

    return call, engine, precision


def make_profiler(
    call: Call,
    model: nn.Module,
    spec: ClipSpec,
    *,
    engine: str,
    precision: str,
    batch_size: int,
    threads: int,
    device: torch.device,
) -> Profiler:
    """The profiler of what :func:`make_call` made: of an engine a build of its own, where its time
    can only be counted in one that is made for it; otherwise PyTorch's, of the same call."""
    clips = example_clips(spec, batch_size).to(device)
    if engine in FILES and device.type == "cpu":
        built: Any = _build(model, spec, engine, precision, clips, threads, profiled=True)
        return Profiler(lambda: built(clips), built.nodes)
    if engine == "compile" and device.type == "cpu":
        import torch._inductor.config as inductor

        with inductor.patch({"cpp.enable_kernel_profile": True}):
            built = _build(model, spec, engine, precision, clips, threads)
            built(clips)  # compiles
        return by_pytorch(lambda: built(clips), device)
    return by_pytorch(call, device)


def _build(
    model: nn.Module,
    spec: ClipSpec,
    engine: str,
    precision: str,
    clips: Tensor,
    threads: int,
    **options: bool,
) -> Engine:
    return build_engine(
        model,
        spec,
        engine,
        device=str(clips.device),
        precision=precision,
        threads=threads,
        calibration=_calibration(clips, precision),
        **options,
    )


def _calibration(clips: Tensor, precision: str) -> Tensor | None:
    return clips if precision == "int8" else None  # ranges of values change answers, not times


def save_file(model: nn.Module, spec: ClipSpec, path: Path, precision: str, clips: int) -> None:
    """Write a model as the file that an engine of :data:`FILES` runs, without gtdnet's header."""
    if path.suffix == ".onnx":
        from gtdnet.infer.onnx_engine import to_onnx

        path.write_bytes(to_onnx(model, spec))
        return
    from gtdnet.infer.openvino_engine import quantise, save_openvino, to_openvino

    graph = to_openvino(model, spec)
    if (ranges := _calibration(example_clips(spec, clips), precision)) is not None:
        graph = quantise(graph, ranges)
    save_openvino(graph, path, "")


def open_file(
    path: Path, spec: ClipSpec, engine: str, precision: str, batch_size: int, threads: int
) -> Call:
    """The call of a file that :func:`save_file` wrote, on the CPU."""
    file = ExportedFile(str(path), engine, precision, ExportedModel("", {}), spec)
    opened = open_engine(file, Choice(engine, torch.device("cpu"), precision), threads=threads)
    clips = example_clips(spec, batch_size)
    return lambda: opened(clips)


def load_runtime(engine: str) -> None:
    """Import what runs an engine's files."""
    if engine == "onnx":
        import onnxruntime  # noqa: F401
    else:
        from gtdnet.infer.openvino_engine import _openvino

        _openvino().Core().get_property("CPU", "FULL_DEVICE_NAME")  # loads its part for CPUs


class _Frames(nn.Module):
    """uint8 clips [N, T*f, 3, H, W] -> logits float32 [N, K], by the module as it is."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, spec: ClipSpec, precision: str, fast: bool) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self.fast = fast
        # As buffers: CUDA graphs cannot hold gtdnet.data.transforms.normalise's copies to the GPU.
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        context = contextlib.nullcontext() if self.fast else fast_path(False)
        with context, autocast(clips.device, self.precision):
            return self.model((clips / 255 - self.mean) / self.std).float()


def _replayed(module: nn.Module, clips: Tensor) -> Call:
    """The module's kernels recorded once as a CUDA graph; a call replays it."""
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode():
        stream = torch.cuda.Stream(clips.device)
        stream.wait_stream(torch.cuda.current_stream(clips.device))
        with torch.cuda.stream(stream):  # libraries prepare themselves, which a graph cannot hold
            for _ in range(3):
                module(clips)
        torch.cuda.current_stream(clips.device).wait_stream(stream)
        with torch.cuda.graph(graph):
            logits = module(clips)

    def call() -> Tensor:
        graph.replay()
        return logits

    return call
