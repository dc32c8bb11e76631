"""Engines: what computes a model's logits from frames. Which, where, and in which numbers.

"torch" is PyTorch as it comes, and what every other one is compared with. "compile" is
torch.compile, "onnx" ONNX Runtime, "openvino" OpenVINO on CPUs.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import normalise
from gtdnet.device import autocast, resolve_device, resolve_precision
from gtdnet.engines.deploy import FromFrames, deployable
from gtdnet.engines.exported import ExportedFile
from gtdnet.engines.graph import missing
from gtdnet.errors import InputError
from gtdnet.models.model_file import ModelFile

ENGINES = ("torch", "compile", "onnx", "openvino")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Engine(Protocol):
    """Computes a model's logits.

    Several threads may call it at once: each gets the answers to its own clips, if need be after
    those of another.

    Attributes:
        name: one of :data:`ENGINES`.
        precision: one of :data:`PRECISIONS`.
        device: where it computes and where its answers are.
    """

    name: str
    precision: str
    device: torch.device

    def __call__(self, clips: Tensor) -> Tensor:
        """uint8 RGB [N, T*f, 3, H, W] on any device -> logits float32 [N, K] on ``device``.

        The shape of a clip is that of the spec; N is free.
        """
        ...


@dataclass(frozen=True)
class Choice:
    """An engine with its device and precision, all resolved but not made yet."""

    name: str
    device: torch.device
    precision: str


def build_engine(
    model: nn.Module,
    spec: ClipSpec,
    engine: str = "auto",
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    calibration: Tensor | None = None,
    profiled: bool = False,
) -> Engine:
    """Make an engine of a model.

    Args:
        model: normalised clips [N, T*f, 3, H, W] -> logits [N, K]. "torch" moves it to the device
            and runs it itself, the others run a copy.
        spec: says how frames are normalised and how large they are.
        engine: one of :data:`ENGINES`; "auto": OpenVINO on a CPU if it is installed, else torch.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: one of :data:`PRECISIONS`; "auto": what is fast with this engine and device.
        threads: that compute; default: as many as PyTorch uses. For torch and compile this sets
            the number of the whole process.
        calibration: for int8 (OpenVINO alone), clips uint8 [M, T*f, 3, H, W] from which the ranges
            of all values are taken. :func:`gtdnet.export.export` also checks the accuracy.
        profiled: of onnx and openvino, which are a little slower then: their ``nodes`` tells what
            each call took, node by node.

    Raises:
        ValueError: an unknown engine, or one that cannot be used here; a device or precision that
            it does not have; int8 without ``calibration``.
    """
    choice = choose(engine, device, precision)
    if choice.precision == "int8" and calibration is None:
        raise InputError(
            "int8 needs clips to take the ranges of values from; make an int8 model with gtdnet "
            "export --precision int8 --data DATASET and use its model.xml"
        )
    if choice.name == "openvino":
        from gtdnet.engines.openvino import OpenVinoEngine, quantise, to_openvino

        graph = to_openvino(model, spec)
        if choice.precision == "int8" and calibration is not None:
            graph = quantise(graph, calibration)
        threads = threads or torch.get_num_threads()
        return OpenVinoEngine(graph, choice.precision, threads, profiled=profiled)
    if choice.name == "onnx":
        from gtdnet.engines.onnx import OnnxEngine, to_onnx

        content = to_onnx(model, spec)
        threads = threads or torch.get_num_threads()
        return OnnxEngine(content, choice.device, threads, profiled=profiled)
    if threads is not None:
        torch.set_num_threads(threads)
    make = CompiledEngine if choice.name == "compile" else TorchEngine
    return make(model, spec, choice.device, choice.precision)


def open_engine(file: ExportedFile, choice: Choice, *, threads: int | None = None) -> Engine:
    """Make an engine of an exported file, as :func:`choose_for` chose it.

    Raises:
        ValueError: the file cannot be run, or its graph does not fit its spec.
    """
    threads = threads or torch.get_num_threads()
    if choice.name == "onnx":
        from gtdnet.engines.onnx import OnnxEngine

        return OnnxEngine.open(file, choice.device, threads)
    from gtdnet.engines.openvino import OpenVinoEngine

    return OpenVinoEngine.open(file, choice.precision, threads)


def choose_for(
    file: ModelFile | ExportedFile,
    engine: str | None = None,
    device: str = "auto",
    precision: str | None = None,
) -> Choice:
    """The engine for a file: of a model file any, of an exported one its own.

    None stands for an exported file's own engine and precision; for a model file's torch and fp32.

    Raises:
        ValueError: an engine, device or precision that the file, or this machine, does not have.
    """
    if isinstance(file, ModelFile):
        return choose(engine or "torch", device, precision or "fp32")
    if engine not in (None, "auto", file.engine):
        raise InputError(
            f"{file.path} runs with --engine {file.engine} alone, not {engine}; give the model "
            f"file (.safetensors) that it was exported from"
        )
    if precision == "int8" and file.precision != "int8":
        raise InputError(
            f"{file.path}: is no int8 model; make one with gtdnet export --precision int8"
        )
    if precision in (None, "auto") or file.precision == "int8":
        precision = file.precision
    return choose(file.engine, device, precision)


def choose(engine: str, device: str, precision: str) -> Choice:
    """Resolve "auto" and see that the engine can be used; see :func:`build_engine`."""
    if engine not in ("auto", *ENGINES):
        raise InputError(f"unknown engine {engine!r}: choose one of auto, {', '.join(ENGINES)}")
    if precision not in ("auto", *PRECISIONS):
        raise InputError(
            f"unknown precision {precision!r}: choose one of auto, {', '.join(PRECISIONS)}"
        )
    where, note = resolve_device(device), None
    runs_beside_gpus = device == "auto" and engine in ("onnx", "openvino")
    if runs_beside_gpus and (reason := unavailable(engine, where)):
        where = torch.device("cpu")
        if engine == "onnx":
            note = f"engine onnx computes on the CPU: {reason}"
    if engine == "auto":
        is_fast = where.type == "cpu" and unavailable("openvino", where) is None
        engine = "openvino" if is_fast else "torch"
    if reason := unavailable(engine, where):
        if engine != "compile":
            raise InputError(reason)
        note = f"{reason}; engine torch is used in its place"
        engine = "torch"
    known = _PRECISIONS_OF.get(engine, ("fp32", "bf16", "fp16"))
    if precision != "auto" and precision not in known:
        raise InputError(
            f"engine {engine} computes in {' or '.join(known)}, not in {precision}; choose one of "
            f"these, or another engine"
        )
    if precision != "int8":
        found = resolve_precision(precision, where)
        precision = found if found in known else "fp32"
    if note:
        from gtdnet.text import say  # rich is slow to import

        say(note)
    return Choice(engine, where, precision)


_PRECISIONS_OF = {"onnx": ("fp32",), "openvino": ("fp32", "bf16", "int8")}


def unavailable(engine: str, device: torch.device) -> str | None:
    """Why an engine cannot be used on a device, with the remedy; None: it can."""
    if engine == "torch":
        return None
    if engine == "compile":
        return _no_compiler(device)
    if engine == "openvino":
        packages: tuple[str, ...] = ("openvino",)
        if device.type != "cpu":
            return f"engine openvino computes on the CPU, not on {device}; add --device cpu"
    else:
        packages = ("onnx", "onnxruntime", "onnxscript")
        if device.type not in ("cpu", "cuda"):
            return f"engine onnx does not compute on {device}; add --device cpu"
    if reason := missing(*packages):
        return f"engine {engine}: {reason}"
    if engine == "onnx" and device.type == "cuda":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            return (
                "this ONNX Runtime has no CUDA; add --device cpu, or put onnxruntime-gpu in the "
                "place of onnxruntime"
            )
    return None


class TorchEngine:
    """PyTorch as it comes, in automatic mixed precision unless fp32: see :class:`Engine`."""

    name = "torch"

    def __init__(
        self, model: nn.Module, spec: ClipSpec, device: torch.device, precision: str
    ) -> None:
        self.device = device
        self.precision = precision
        self._model = model.eval().to(device)
        self._spec = spec

    @torch.inference_mode()
    def __call__(self, clips: Tensor) -> Tensor:
        clips = normalise(clips.to(self.device, non_blocking=True), self._spec)
        with autocast(self.device, self.precision):
            logits = self._model(clips)
        return logits.float()


class CompiledEngine:
    """torch.compile, in one graph, weights in the precision: see :class:`Engine`.

    Compiles at the first call, and once more if that had one clip and a later one has several or
    the other way round.
    """

    name = "compile"

    def __init__(
        self, model: nn.Module, spec: ClipSpec, device: torch.device, precision: str
    ) -> None:
        self.device = device
        self.precision = precision
        network = FromFrames(deployable(model, "compile"), spec, _DTYPES[precision])
        from torch._inductor import config

        self._network = torch.compile(network.eval().to(device), fullgraph=True)
        self._config, self._lock = config, Lock()

    @torch.no_grad()  # torch.compile keeps away from inference_mode's tensors
    def __call__(self, clips: Tensor) -> Tensor:
        clips = clips.to(self.device, non_blocking=True).contiguous()
        if len(clips) > 1:
            torch._dynamo.mark_dynamic(clips, 0)
        # One at a time: threads that come first together would each compile. Frozen, weights are
        # constants: convolutions find them in oneDNN's order, and take the sums and activations
        # behind them along. (As an option of torch.compile, "freezing" comes too late to be seen.)
        with self._lock, self._config.patch(freezing=self.device.type == "cpu"):
            return self._network(clips)


def _no_compiler(device: torch.device) -> str | None:
    if device.type == "cuda":
        if find_spec("triton") is None:
            return "engine compile needs Triton on a GPU; install a CUDA build of PyTorch for Linux"
        return None
    names = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    if not any(shutil.which(name) for name in names if name):
        return "engine compile needs a C++ compiler, and there is none; install g++ (apt: g++)"
    return None
