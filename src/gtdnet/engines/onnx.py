"""ONNX Runtime and its files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.device import Precision
from gtdnet.engines.base import Check, Choice, Engine, Source, check_installed, register_engine
from gtdnet.engines.deploy import FromFrames, deployable
from gtdnet.engines.graph import INPUT, OUTPUT, to_program
from gtdnet.engines.header import (
    ExportedFile,
    check_graph,
    check_logits,
    check_types,
    one_port,
)
from gtdnet.engines.profile import Node
from gtdnet.engines.steps import GraphSteps, Port, Steps
from gtdnet.engines.stream import Shown, StreamGraph
from gtdnet.errors import InputError
from gtdnet.models.model_file import METADATA_KEY
from gtdnet.text import first_line, only_errors

if TYPE_CHECKING:
    from torch.export import ExportedProgram

OPSET = 20
"""Version of the operators in the files."""


def to_onnx(model: nn.Module, spec: ClipSpec, header: str = "") -> bytes:
    """A network as an ONNX model in one piece, clips uint8 [N, T*f, 3, H, W] -> logits [N, K]."""
    program = to_program(FromFrames(deployable(model), spec).eval(), spec)
    return _of_program(program, [INPUT], [OUTPUT], header)


def _of_program(
    program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], header: str
) -> bytes:
    with torch.no_grad(), only_errors("torch.onnx"), warnings.catch_warnings():
        # The exporter warns about itself and about packages that need not be there.
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            verbose=False,
        )
    if exported is None:  # what its annotation allows; with dynamo=True there is a program
        raise RuntimeError("torch.onnx.export gave no program")
    proto = exported.model_proto
    for message in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        # Where in whose code each came from: larger than some networks, and nobody's business.
        message.ClearField("metadata_props")
        message.ClearField("doc_string")
    if header:
        proto.metadata_props.add(key=METADATA_KEY, value=header)
    return proto.SerializeToString()


@register_engine
class OnnxEngine(Engine):
    """Any number of clips at a time; operators run one after the other, each on all threads.

    Args:
        content: of a file.
        choice: "cuda" where ONNX Runtime has it.
    """

    name = "onnx"
    title = "ONNX Runtime"
    packages = ("onnx", "onnxscript", "onnxruntime")
    devices = ("cpu", "cuda")
    precisions = ("fp32",)
    suffixes = (".onnx",)
    saved_precisions = ("fp32",)

    def __init__(self, content: bytes, choice: Choice) -> None:
        import onnxruntime as ort

        on_gpu = choice.device.type == "cuda"
        # On a GPU its own notes say when it handed work over, not how long that took.
        super().__init__(replace(choice, profiled=choice.profiled and on_gpu))
        options = ort.SessionOptions()
        options.intra_op_num_threads = choice.threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        self._file: ExportedFile | None = None
        self._notes: TemporaryDirectory[str] | None = None
        if choice.profiled and not on_gpu:
            self._notes = TemporaryDirectory(prefix="gtdnet-")
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._notes.name, "profile"))
        providers: list[Any] = ["CPUExecutionProvider"]
        if on_gpu:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": choice.device.index or 0}))
        self._session = ort.InferenceSession(content, options, providers=providers)

    @classmethod
    def unavailable(cls, device: torch.device) -> str | None:
        reason = super().unavailable(device)
        if reason or device.type == "cpu":
            return reason
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            return None
        return (
            "this ONNX Runtime has no CUDA; add --device cpu, or put onnxruntime-gpu in the place "
            "of onnxruntime"
        )

    @classmethod
    def build(cls, source: Source, choice: Choice) -> OnnxEngine:
        return cls(to_onnx(source.model, source.spec), choice)

    def logits(self, clips: Tensor) -> Tensor:
        frames = np.ascontiguousarray(clips.cpu().numpy())
        try:
            (logits,) = self._session.run([OUTPUT], {INPUT: frames})
        except Exception as error:  # ONNX Runtime's own classes
            if self._file is None:
                raise
            raise InputError(
                f"{self._file.path}: ONNX Runtime cannot run it ({first_line(error)})"
            ) from error
        if self._file is not None:
            check_logits(self._file.path, self._file.spec, len(frames), logits)
        return torch.from_numpy(np.asarray(logits)).to(self.device)

    def nodes(self) -> list[list[Node]]:
        if self._notes is None:
            return super().nodes()
        with self._notes:
            events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        self._notes = None
        calls: list[list[Node]] = [[]]
        for event in events:  # those of a call come before its own
            name, seconds = event["name"], event["dur"] / 1e6
            if name == "model_run":
                calls.append([])
            elif name.endswith(_NODE):
                kind = event["args"]["op_name"]
                calls[-1].append(Node(name.removesuffix(_NODE), kind, 1, seconds))
        return calls[:-1]

    @classmethod
    def cannot_save(cls, precision: Precision) -> str | None:
        if precision == "bf16":
            return "ONNX Runtime has no convolutions in bf16 on CPUs"
        return super().cannot_save(precision)

    @classmethod
    def save(
        cls, source: Source, path: Path, precision: Precision, header: str = ""
    ) -> list[Check]:
        path.write_bytes(to_onnx(source.model, source.spec, header))
        choice = Choice(cls.name, torch.device("cpu"), precision)
        return [Check(lambda: cls.open(cls.read(path), choice), precision)]

    @classmethod
    def save_stream(
        cls, graph: StreamGraph, path: Path, header: str = "", shown: Shown | None = None
    ) -> Steps:
        path.write_bytes(_of_program(graph.program(), graph.inputs, graph.outputs, header))
        return cls.open_stream(cls.read(path), Choice(cls.name, torch.device("cpu"), "fp32"))

    @classmethod
    def read_header(cls, path: Path) -> str | None:
        check_installed("onnx")
        from google.protobuf.message import DecodeError
        from onnx import ModelProto

        model = ModelProto()
        try:
            model.ParseFromString(path.read_bytes())
        except DecodeError as error:
            raise InputError(f"{path}: is no ONNX file, or a damaged one ({error})") from error
        if any(tensor.data_location == tensor.EXTERNAL for tensor in _tensors(model)):
            raise InputError(
                f"{path}: keeps weights in other files, which gtdnet does not open; give a file of "
                f"gtdnet export, which holds them itself"
            )
        return next((p.value for p in model.metadata_props if p.key == METADATA_KEY), None)

    @classmethod
    def open(cls, file: ExportedFile, choice: Choice) -> OnnxEngine:
        try:
            engine = cls(Path(file.path).read_bytes(), choice)
        except Exception as error:  # ONNX Runtime's own classes; the session is all that is made
            raise InputError(
                f"{file.path}: ONNX Runtime cannot run it ({first_line(error)})"
            ) from error
        clips = one_port(file.path, "input", engine._session.get_inputs())
        logits = one_port(file.path, "output", engine._session.get_outputs())
        taken, given = (f"{port.type} {port.name!r}" for port in (clips, logits))
        check_types(
            file.path, taken, given, (f"tensor(uint8) {INPUT!r}", f"tensor(float) {OUTPUT!r}")
        )
        check_graph(file.path, file.spec, _shape(clips.shape), _shape(logits.shape))
        engine._file = file
        return engine

    @classmethod
    def open_stream(cls, file: ExportedFile, choice: Choice, streams: int = 1) -> Steps:
        try:
            session = cls(Path(file.path).read_bytes(), choice)._session
        except Exception as error:  # ONNX Runtime's own classes
            raise InputError(
                f"{file.path}: ONNX Runtime cannot run it ({first_line(error)})"
            ) from error
        inputs, outputs = (
            [Port(p.name, _KINDS.get(str(p.type), "?"), _shape(p.shape)) for p in ports]
            for ports in (session.get_inputs(), session.get_outputs())
        )
        names = [port.name for port in outputs]
        return GraphSteps(
            file, choice.device, "fp32", inputs, outputs, lambda given: session.run(names, given)
        )

    @classmethod
    def load_runtime(cls) -> None:
        import onnxruntime  # noqa: F401


_KINDS = {"tensor(uint8)": "uint8", "tensor(bool)": "bool", "tensor(float)": "float32"}
_NODE = "_kernel_time"
"""What ONNX Runtime's profile adds to the name of a node."""


def _shape(axes: list[int | str | None]) -> list[int | None]:
    return [axis if isinstance(axis, int) else None for axis in axes]


def _tensors(node: Any) -> Iterator[Any]:
    """Every tensor in an ONNX model, however deep: initializers, attributes, functions' bodies."""
    if node.DESCRIPTOR.name == "TensorProto":
        yield node
        return
    for field, value in node.ListFields():
        if field.message_type is not None:
            for child in value if hasattr(value, "add") else [value]:  # repeated or not
                yield from _tensors(child)
