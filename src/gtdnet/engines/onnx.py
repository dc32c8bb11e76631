"""ONNX: networks to graphs, files out and in, ONNX Runtime as an engine."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.engines.deploy import FromFrames, deployable
from gtdnet.engines.exported import ExportedFile, check_graph
from gtdnet.engines.graph import INPUT, OUTPUT, Node, check_installed, to_program
from gtdnet.errors import InputError
from gtdnet.models.model_file import METADATA_KEY
from gtdnet.text import first_line

OPSET = 20
"""Version of the operators in the files."""


def to_onnx(model: nn.Module, spec: ClipSpec, header: str | None = None) -> bytes:
    """A network as an ONNX model in one piece, clips uint8 [N, T*f, 3, H, W] -> logits [N, K].

    Raises:
        ValueError: packages of the extra "export" are missing.
    """
    check_installed("onnx", "onnxscript")
    program = to_program(FromFrames(deployable(model, "onnx"), spec).eval(), spec)
    with torch.no_grad(), _quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    if exported is None:  # what its annotation allows; with dynamo=True there is a program
        raise RuntimeError("torch.onnx.export gave no program")
    proto = exported.model_proto
    for message in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        # Where in whose code each came from: larger than some networks, and nobody's business.
        message.ClearField("metadata_props")
        message.ClearField("doc_string")
    if header is not None:
        proto.metadata_props.add(key=METADATA_KEY, value=header)
    return proto.SerializeToString()


def read_header(path: Path) -> str | None:
    """The header of an ONNX file; None if it has none.

    Raises:
        ValueError: not an ONNX file, or one that would read other files.
    """
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


class OnnxEngine:
    """ONNX Runtime: see :class:`gtdnet.engines.open.Engine`. Any number of clips at a time.

    Args:
        model: the file's content.
        device: the CPU, or a CUDA device where ONNX Runtime has it.
        threads: of one operator; operators run one after the other.
        profiled: note what each node takes; see :meth:`nodes`.
    """

    name, precision = "onnx", "fp32"

    def __init__(
        self, model: bytes, device: torch.device, threads: int, *, profiled: bool = False
    ) -> None:
        check_installed("onnxruntime")
        import onnxruntime as ort

        self.device = device
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        self._notes: TemporaryDirectory[str] | None = None
        if profiled:
            self._notes = TemporaryDirectory(prefix="gtdnet-")
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._notes.name, "profile"))
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        self._session = ort.InferenceSession(model, options, providers=providers)

    @classmethod
    def open(cls, file: ExportedFile, device: torch.device, threads: int) -> OnnxEngine:
        """The engine of an exported file.

        Raises:
            ValueError: the file cannot be run, or its graph is not what its spec says.
        """
        try:
            engine = cls(Path(file.path).read_bytes(), device, threads)
        except Exception as error:  # ONNX Runtime's own classes; the session is all that is made
            raise InputError(
                f"{file.path}: ONNX Runtime cannot run it ({first_line(error)})"
            ) from error
        (clips,), (logits,) = engine._session.get_inputs(), engine._session.get_outputs()
        check_graph(file.path, file.spec, _shape(clips.shape), _shape(logits.shape))
        return engine

    def __call__(self, clips: Tensor) -> Tensor:
        frames = np.ascontiguousarray(clips.cpu().numpy())
        (logits,) = self._session.run([OUTPUT], {INPUT: frames})
        return torch.from_numpy(np.asarray(logits)).to(self.device)

    def nodes(self) -> list[list[Node]]:
        """Of each call so far, what the nodes took; can be asked once, of one made ``profiled``."""
        if self._notes is None:
            return []
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


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of PyTorch's exporter about itself and about packages that need not be there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
