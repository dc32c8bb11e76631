"""OpenVINO and its files; quantisation to int8."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.device import Precision, resolve_precision
from gtdnet.engines.base import (
    Check,
    Choice,
    Engine,
    Source,
    check_installed,
    missing,
    register_engine,
)
from gtdnet.engines.deploy import FromFrames, deployable
from gtdnet.engines.forms import for_openvino
from gtdnet.engines.frame_form import one_frame
from gtdnet.engines.graph import INPUT, OUTPUT, example_clips
from gtdnet.engines.header import (
    ExportedFile,
    check_graph,
    check_logits,
    check_types,
    one_port,
)
from gtdnet.engines.profile import Node
from gtdnet.engines.steps import GraphSteps, Port, Steps
from gtdnet.engines.stream import FRAMES, Shown, StreamGraph
from gtdnet.errors import InputError
from gtdnet.files import sha256
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.model_file import METADATA_KEY

if TYPE_CHECKING:
    import openvino as ov


def to_openvino(model: nn.Module, spec: ClipSpec) -> ov.Model:
    """A network as an OpenVINO model, clips uint8 [N, T*f, 3, H, W] -> logits [N, K]."""
    ov = _openvino()
    network = FromFrames(deployable(model, for_openvino), spec).eval()
    # Much quicker than by way of torch.export; what tracing could get wrong (a number taken for a
    # constant) is found by comparing logits, of other numbers of clips as well.
    with torch.no_grad(), warnings.catch_warnings(), _no_telemetry():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, example_clips(spec), check_trace=False)
        graph = ov.convert_model(traced)
    graph.reshape([-1, *example_clips(spec, 1).shape[1:]])
    graph.input(0).set_names({INPUT})
    graph.output(0).set_names({OUTPUT})
    return graph


def quantise(graph: ov.Model, clips: Tensor) -> ov.Model:
    """A copy that computes convolutions and linear maps of tokens in int8 (by NNCF, no training).

    The rest stays as it is. What makes and applies gates, and the classifier, are a small part of
    the work, and in int8 they doubled the largest difference of a trained GTDNet's logits. The sums
    at the shortcuts in int8 cost networks with a temporal shift more time than they save.

    Tokens have a few channels of far larger values than the others: where there are linear maps of
    them, NNCF's settings for transformers move part of these values to the weights.

    From the clips, uint8 [M, T*f, 3, H, W], the ranges of all values are taken. InputError if
    packages of the extra "export" are missing.
    """
    return _quantised(graph, [clip[None].numpy() for clip in clips], len(clips))


def _quantised(graph: ov.Model, shown: Iterable[Any], number: int) -> ov.Model:
    """The same of any inputs, as the runtime takes them."""
    check_installed("nncf")
    with _no_telemetry(), redirect_stdout(sys.stderr):  # stdout is for results
        import nncf

        nncf.set_log_level(logging.WARNING)
        operations = graph.get_ordered_ops()
        maps = [o.get_friendly_name() for o in operations if o.get_type_name() == "MatMul"]
        kept = [name for name in maps if not _of_tokens(name)]
        return nncf.quantize(
            graph,
            nncf.Dataset(shown),
            subset_size=number,
            model_type=nncf.ModelType.TRANSFORMER if len(kept) < len(maps) else None,
            ignored_scope=nncf.IgnoredScope(names=kept, types=_NOT_INT8, validate=False),
        )


def _of_tokens(name: str) -> bool:
    """Whether a product is a linear map of the network itself, by the place that the trace names.

    Not those of the modules (as they are, or in the engine's form) nor of the classifier.
    """
    place, _, operation = name.partition("/")
    own = not re.search(r"\.(temporal|gate)\.|\.classifier$", place)
    return own and operation.startswith("aten::linear/")


@register_engine
class OpenVinoEngine(Engine):
    """Runs one clip at a time, so no answer depends on the batch and nothing is compiled again.

    OpenVINO's code for a graph whose shapes are all known is faster than that for a free number of
    clips by more than a batch gains (the frames of a clip are a batch already).

    Args:
        graph: see :func:`to_openvino`; is changed.
        choice: "int8" for a graph made by :func:`quantise`, of which the rest is computed in bf16
            where the processor has it, else in fp32.
        batched: give the graph all clips at once after all, as others than gtdnet may run it.
    """

    name = "openvino"
    title = "OpenVINO, on CPUs"
    packages = ("openvino",)
    devices = ("cpu",)
    precisions = ("fp32", "bf16", "int8")
    auto_on = ("cpu",)
    suffixes = (".xml", ".bin")
    saved_precisions = ("fp32", "bf16", "int8")

    def __init__(self, graph: ov.Model, choice: Choice, *, batched: bool = False) -> None:
        super().__init__(replace(choice, profiled=False))
        self._batched = batched
        if not batched:
            graph.reshape([1, *_shape(graph.input(0))[1:]])
        compiled = _compile(graph, choice)
        self.precision = _used(compiled, choice)
        self._file: ExportedFile | None = None
        self._request, self._lock = compiled.create_infer_request(), Lock()
        self._counters = _Counters() if choice.profiled else None

    @classmethod
    def build(cls, source: Source, choice: Choice) -> OpenVinoEngine:
        if choice.precision != "int8":
            return cls(to_openvino(source.model, source.spec), choice)
        if source.calibration is None:
            raise InputError(
                "int8 needs clips to take the ranges of values from; make an int8 model with "
                "gtdnet export --precision int8 --data DATASET and use its model.xml"
            )
        graph = quantise(to_openvino(source.model, source.spec), source.calibration)
        return cls(graph, choice)

    def logits(self, clips: Tensor) -> Tensor:
        frames = np.ascontiguousarray(clips.cpu().numpy())
        parts = [frames] if self._batched else np.split(frames, len(frames))
        with self._lock:  # a request holds one clip's answer at a time
            logits = [self._infer(part) for part in parts]
            if self._counters:
                self._counters.read(self._request, len(parts))
        return torch.from_numpy(np.concatenate(logits))

    def _infer(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            logits = self._request.infer([frames], share_inputs=True)[0]
        except RuntimeError as error:
            if self._file is None:
                raise
            raise InputError(
                f"{self._file.path}: OpenVINO cannot run it ({_last_line(error)})"
            ) from error
        if self._file is not None:
            check_logits(self._file.path, self._file.spec, len(frames), logits)
        return logits

    def nodes(self) -> list[list[Node]]:
        return self._counters.calls if self._counters else []

    @classmethod
    def cannot_save(cls, precision: Precision) -> str | None:
        return super().cannot_save(precision) or (missing("nncf") if precision == "int8" else None)

    @classmethod
    def save(
        cls, source: Source, path: Path, precision: Precision, header: str = ""
    ) -> list[Check]:
        graph = to_openvino(source.model, source.spec)
        calibration = source.calibration if precision == "int8" else None
        kept = graph if calibration is None else quantise(graph, calibration)
        _save(kept, path, header)

        def opened(batched: bool) -> OpenVinoEngine:
            return cls.open(cls.read(path), choice, batched=batched)

        choice = Choice(cls.name, torch.device("cpu"), precision)
        # One clip at a time, as gtdnet runs it, and several, as others may.
        checks = [Check(partial(opened, batched), precision) for batched in (False, True)]
        if precision == "fp32":
            return checks
        exact = replace(choice, precision="fp32")  # finds what rounding would hide
        make = partial(cls, graph, exact, batched=True)
        return [Check(make, "fp32", ", in fp32,"), *checks]

    @classmethod
    def stream_graph(cls, model: VideoClassifier, spec: ClipSpec) -> StreamGraph:
        return StreamGraph(model, spec, one_frame)

    @classmethod
    def save_stream(
        cls, graph: StreamGraph, path: Path, header: str = "", shown: Shown | None = None
    ) -> Steps:
        ov, inputs = _openvino(), graph.example()
        with torch.no_grad(), warnings.catch_warnings(), _no_telemetry():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(graph.eval(), inputs, check_trace=False)
            model = ov.convert_model(traced, example_input=inputs)
        shapes = {}
        for port, name, example in zip(model.inputs, graph.inputs, inputs, strict=True):
            port.set_names({name})
            port.get_node().set_element_type(ov.Type(example.numpy().dtype))
            shapes[port] = [-1, *example.shape[1:]]
        for port, name in zip(model.outputs, graph.outputs, strict=True):
            port.set_names({name})
        model.reshape(shapes)
        if shown is not None:
            model = _quantised(model, shown, len(shown))
        _save(model, path, header)
        precision: Precision = "fp32" if shown is None else "int8"
        return cls.open_stream(cls.read(path), Choice(cls.name, torch.device("cpu"), precision))

    @classmethod
    def read_header(cls, path: Path) -> str | None:
        return _info(_read(path), METADATA_KEY)

    @classmethod
    def open(cls, file: ExportedFile, choice: Choice, *, batched: bool = False) -> OpenVinoEngine:
        graph = _read(Path(file.path))
        clips = one_port(file.path, "input", graph.inputs)
        logits = one_port(file.path, "output", graph.outputs)
        taken, given = (port.get_element_type().get_type_name() for port in (clips, logits))
        check_types(file.path, taken, given, ("u8", "f32"))
        check_graph(file.path, file.spec, _shape(clips), _shape(logits))
        try:
            engine = cls(graph, choice, batched=batched)
            engine._file = file
            return engine
        except RuntimeError as error:
            raise InputError(
                f"{file.path}: OpenVINO cannot run it ({_last_line(error)})"
            ) from error

    @classmethod
    def open_stream(cls, file: ExportedFile, choice: Choice, streams: int = 1) -> Steps:
        graph = _read(Path(file.path))
        inputs, outputs = (
            [Port(p.get_any_name(), _KINDS.get(p.get_element_type().get_type_name(), "?"),
                  _shape(p)) for p in ports]
            for ports in (graph.inputs, graph.outputs)
        )  # fmt: skip
        compiled: dict[bool, Any] = {}

        def of(is_one: bool) -> Any:
            """The graph for one stream, whose shapes are all known, or for any number."""
            if is_one not in compiled:
                known = graph.clone()
                if is_one:
                    known.reshape({p: [1, *_shape(p)[1:]] for p in known.inputs})
                compiled[is_one] = _compile(known, choice)
            return compiled[is_one]

        try:
            precision = _used(of(streams == 1), choice)
        except RuntimeError as error:
            raise InputError(
                f"{file.path}: OpenVINO cannot run it ({_last_line(error)})"
            ) from error

        def run(given: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
            found = of(len(given[FRAMES]) == 1)(dict(given))
            return [found[i] for i in range(len(outputs))]

        return GraphSteps(file, choice.device, precision, inputs, outputs, run)

    @classmethod
    def load_runtime(cls) -> None:
        openvino_core().get_property("CPU", "FULL_DEVICE_NAME")  # loads its part for CPUs


class _Counters:
    """What each call took, of counters that give each node's mean over all inferences so far."""

    def __init__(self) -> None:
        self.calls: list[list[Node]] = []
        self._inferences = 0
        self._spent: list[float] = []  # seconds so far, by node

    def read(self, request: ov.InferRequest, inferences: int) -> None:
        """Take in one more call, which was this many inferences."""
        self._inferences += inferences
        infos = request.profiling_info
        spent = [info.real_time.total_seconds() * self._inferences for info in infos]
        before = self._spent or [0.0] * len(infos)
        self.calls.append(
            [
                Node(i.node_name, f"{i.node_type} ({i.exec_type})", inferences, now - then)
                for i, now, then in zip(infos, spent, before, strict=True)
            ]
        )
        self._spent = spent


_BIN_KEY = "gtdnet_bin_sha256"
_TYPES: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
_KINDS = {"u8": "uint8", "boolean": "bool", "f32": "float32"}
_OURS: dict[str, Precision] = {name: ours for ours, name in _TYPES.items()}
_NOT_INT8 = ["Add", "AvgPool", "Multiply", "ReduceMean", "Sigmoid"]


@cache
def openvino_core() -> ov.Core:
    """The one of this process.

    Each brings a stack for signal handlers of its own, and puts the one before it back when it
    goes. If that one has gone already, the next signal (as Ctrl-C) ends the process.
    """
    return _openvino().Core()


def _openvino() -> Any:
    """The package. Importing it, too, is reported."""
    check_installed("openvino")
    with _no_telemetry():
        import openvino
    return openvino


def _save(graph: ov.Model, path: Path, header: str) -> None:
    graph.set_rt_info(header, [METADATA_KEY])
    _openvino().save_model(graph, path, compress_to_fp16=False)
    graph.set_rt_info(sha256(path.with_suffix(".bin")), [_BIN_KEY])
    _openvino().save_model(graph, path, compress_to_fp16=False)  # the same .bin, bound to it


def _read(path: Path) -> ov.Model:
    core = openvino_core()
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise InputError(f"{weights}: no such file; an OpenVINO model is two, .xml and .bin")
    try:
        graph = core.read_model(path, weights)
    except RuntimeError as error:
        raise InputError(
            f"{path}: is no OpenVINO model, or a damaged one, or {weights.name} is of another "
            f"({_last_line(error)})"
        ) from error
    if _info(graph, METADATA_KEY) is not None and _info(graph, _BIN_KEY) != sha256(weights):
        raise InputError(
            f"{weights}: is not the file that {path.name} was written with, or a damaged one; take "
            f"both files of one export"
        )
    return graph


def _info(graph: ov.Model, key: str) -> str | None:
    try:
        return graph.get_rt_info([key]).astype(str) if graph.has_rt_info([key]) else None
    except (RuntimeError, TypeError):  # it is there, and no text
        return None


def _used(compiled: Any, choice: Choice) -> Precision:
    """What it computes in: a processor without bf16 takes fp32."""
    if choice.precision == "int8":
        return "int8"
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return _OURS.get(used, choice.precision)


def _compile(graph: ov.Model, choice: Choice) -> Any:
    """A graph with int8 in it computes the rest in bf16 where the processor has that."""
    inner = choice.precision
    if inner == "int8":
        inner = resolve_precision("auto", choice.device)
    return openvino_core().compile_model(
        graph,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _TYPES[inner],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": choice.threads or torch.get_num_threads(),
            # Two processes with a thread each would both be pinned to the first core.
            "ENABLE_CPU_PINNING": False,
            "PERF_COUNT": choice.profiled,
        },
    )


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _shape(port: Any) -> list[int | None]:
    if port.partial_shape.rank.is_dynamic:
        return []
    return [axis.get_length() if axis.is_static else None for axis in port.partial_shape]


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """OpenVINO and NNCF report their use to a server, unless they run in CI."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
