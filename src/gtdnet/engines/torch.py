"""PyTorch: what every other engine is compared with. Its files are torch.export programs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gtdnet.data.transforms import normalise
from gtdnet.device import DTYPES, Precision, autocast
from gtdnet.engines.base import Check, Choice, Engine, Source, register_engine
from gtdnet.engines.deploy import FromFrames, deployable
from gtdnet.engines.graph import to_program
from gtdnet.engines.stream import Shown, Step, StreamGraph
from gtdnet.errors import InputError
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.model_file import METADATA_KEY
from gtdnet.models.stream import State

if TYPE_CHECKING:
    from torch.export import ExportedProgram


@register_engine
class TorchEngine(Engine):
    """The model itself, in automatic mixed precision unless fp32."""

    name = "torch"
    title = "PyTorch as it comes; what the others are compared with"
    suffixes = (".pt2",)
    saved_precisions = ("fp32", "bf16")
    not_opened = (
        "gtdnet does not read torch.export programs, which can carry pickled code; give the .onnx "
        "or .xml file, or the model file it was made from"
    )

    def __init__(self, source: Source, choice: Choice) -> None:
        super().__init__(choice)
        self._model = source.model.eval().to(choice.device)
        self._spec = source.spec

    @classmethod
    def build(cls, source: Source, choice: Choice) -> TorchEngine:
        if choice.threads:
            torch.set_num_threads(choice.threads)
        return cls(source, choice)

    @torch.inference_mode()
    def logits(self, clips: Tensor) -> Tensor:
        clips = normalise(clips.to(self.device, non_blocking=True), self._spec)
        with autocast(self.device, self.precision):
            logits = self._model(clips)
        return logits.float()

    @torch.inference_mode()
    def logits_and_features(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(self._model, VideoClassifier):
            kind = type(self._model).__name__
            raise InputError(f"a network of class {kind} has no features; give a VideoClassifier")
        clips = normalise(clips.to(self.device, non_blocking=True), self._spec)
        with autocast(self.device, self.precision):
            features = self._model.forward_features(clips)
            logits = self._model.classify(features).mean(dim=1)
        return logits.float(), features.float()

    @classmethod
    def save(
        cls, source: Source, path: Path, precision: Precision, header: str = ""
    ) -> list[Check]:
        network = FromFrames(deployable(source.model), source.spec, DTYPES[precision])
        _save(to_program(network.eval(), source.spec), path, header)
        return [Check(lambda: _read(path), precision)]

    @classmethod
    def save_stream(
        cls, graph: StreamGraph, path: Path, header: str = "", shown: Shown | None = None
    ) -> Step:
        _save(graph.program(), path, header)
        program = _read(path)

        def step(frames: Tensor, state: State) -> tuple[Tensor, State]:
            logits, *after = program(frames, *state)
            return logits, tuple(after)

        return step


def _save(program: ExportedProgram, path: Path, header: str) -> None:
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(program, path, extra_files={METADATA_KEY: header})


def _read(path: Path) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        return torch.export.load(path).module()
