"""torch.compile: a model's kernels generated and compiled on the spot."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from threading import Lock

import torch
from torch import Tensor

from gtdnet.device import DTYPES
from gtdnet.engines.base import Choice, Engine, Source, register_engine
from gtdnet.engines.deploy import FromFrames, deployable
from gtdnet.engines.forms import one_pass


@register_engine
class CompiledEngine(Engine):
    """In one graph, weights in the precision.

    Compiles at the first call, and once more if that had one clip and a later one has several or
    the other way round.
    """

    name = "compile"
    title = (
        "torch.compile in one graph; compiles at the first call, for minutes with a deep network"
    )
    substitute = "torch"

    def __init__(self, source: Source, choice: Choice) -> None:
        super().__init__(choice)
        from torch._inductor import config

        model, dtype = deployable(source.model, one_pass), DTYPES[choice.precision]
        network = FromFrames(model, source.spec, dtype).eval().to(choice.device)
        # Frozen, weights are constants: convolutions find them in oneDNN's order, and take the sums
        # and activations behind them along. (As an option of torch.compile, "freezing" comes too
        # late to be seen.) Profiled, each kernel tells PyTorch's profiler of itself.
        on_cpu = choice.device.type == "cpu"
        self._config = config.patch(
            {"freezing": on_cpu, "cpp.enable_kernel_profile": choice.profiled and on_cpu}
        )
        self._network = torch.compile(network, fullgraph=True)
        self._lock = Lock()

    @classmethod
    def build(cls, source: Source, choice: Choice) -> CompiledEngine:
        if choice.threads:
            torch.set_num_threads(choice.threads)
        return cls(source, choice)

    @torch.no_grad()  # torch.compile keeps away from inference_mode's tensors
    def logits(self, clips: Tensor) -> Tensor:
        clips = clips.to(self.device, non_blocking=True).contiguous()
        if len(clips) > 1:
            torch._dynamo.mark_dynamic(clips, 0)
        # One at a time: threads that come first together would each compile.
        with self._lock, self._config:
            return self._network(clips)

    @classmethod
    def unavailable(cls, device: torch.device) -> str | None:
        if device.type == "cuda":
            what = "Triton on a GPU; install a CUDA build of PyTorch for Linux"
            return f"engine compile needs {what}" if find_spec("triton") is None else None
        names = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
        if not any(shutil.which(name) for name in names if name):
            return "engine compile needs a C++ compiler, and there is none; install g++ (apt: g++)"
        return None
