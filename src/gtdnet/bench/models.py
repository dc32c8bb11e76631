"""Time and memory of models by engine, precision, batch and threads, beside the plain network.

What is timed takes uint8 frames on its device to logits: normalisation is part of it, decoding and
copying to a GPU are not (``gtdnet bench data`` measures the former).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gtdnet.bench.cases import Case, Made, asked, measure, own_threads
from gtdnet.bench.engines import (
    FILES,
    GRAPHS,
    LAYOUTS,
    MODULES,
    load_runtime,
    make_call,
    open_file,
    save_file,
    why_not,
)
from gtdnet.bench.networks import Network, find_networks
from gtdnet.bench.options import Choice, MeasureOptions, words
from gtdnet.bench.result import save
from gtdnet.data.spec import ClipSpec
from gtdnet.device import PRECISIONS, resolve_device
from gtdnet.engines import ENGINES
from gtdnet.errors import InputError
from gtdnet.measure.machine import measured_peak
from gtdnet.measure.memory import alone, resident_mib
from gtdnet.measure.timing import rounded
from gtdnet.models.complexity import Complexity

_PACKAGES = ("onnx", "onnxruntime", "openvino", "nncf")


@dataclass
class ModelChoice(Choice):
    """What is timed

    Args:
        engines: with commas between: auto, torch, compile, onnx, openvino; or the module without an
            engine: eager, plain (eager without this package's fast path), on a GPU also eager-graph
            and compile-graph (CUDA graphs).
        precisions: with commas between: auto, fp32, bf16, fp16, int8.
        layouts: of engines eager and plain: nchw, channels_last, or both with a comma between.
        reference: a model that is also run plain, in fp32 and NCHW, as most code runs it; it is
            told how many times as fast all others are.
    """

    engines: str = "auto"
    precisions: str = "auto"
    layouts: str = "nchw"
    reference: str | None = None


@dataclass
class ModelBenchOptions(MeasureOptions, ModelChoice):
    """Everything of one bench of models."""


@dataclass(frozen=True)
class ModelCase(Case):
    """One network in one engine."""

    engine: str
    precision: str
    layout: str | None

    def reference(self, network: Network) -> ModelCase:
        """The same clips and threads, run the plain way."""
        return replace(self, network=network, engine="plain", precision="fp32", layout="nchw")

    def make(self, device: torch.device, profiled: bool) -> Made[ModelCase]:
        if reason := why_not(self.engine, device):
            raise InputError(reason)
        torch.set_num_threads(self.threads)
        torch.manual_seed(0)
        model, spec = self.network.build(self.num_segments, self.crop_size)
        ready = make_call(
            model,
            spec,
            engine=self.engine,
            precision=self.precision,
            layout=self.layout,
            batch_size=self.batch_size,
            threads=self.threads,
            device=device,
            profiled=profiled,
        )
        case = replace(self, engine=ready.engine, precision=ready.precision)
        return Made(case, ready.call, ready.profiler, replayed=self.engine in GRAPHS)

    def cost(self) -> Complexity:
        """Of one clip."""
        return self.network.cost(self.num_segments, self.crop_size)

    def activations(self) -> int:
        return self.cost().inference_bytes

    @property
    def compiled(self) -> bool:
        return self.engine == "compile"

    def resident_mib(self) -> dict[str, int] | None:
        if self.engine not in FILES:
            return super().resident_mib()
        with TemporaryDirectory() as folder:  # converting, too, would leave much in the process
            path = Path(folder, FILES[self.engine])
            model, spec = self.network.build(self.num_segments, self.crop_size)
            save_file(model, spec, path, self.precision, self.batch_size)
            return alone(_resident_mib_of_file, self, path, spec)


def _resident_mib_of_file(case: ModelCase, path: Path, spec: ClipSpec) -> dict[str, int]:
    load_runtime(case.engine)
    how = case.engine, case.precision, case.batch_size, case.threads
    return resident_mib(lambda: open_file(path, spec, *how))


def plan(options: ModelBenchOptions) -> tuple[list[ModelCase], Network | None]:
    """The cases that the options ask for, floors among them, and the reference's network.

    Raises:
        ValueError: an option out of range.
    """
    options.check()
    networks, sizes = asked(options, options.thread_counts())
    reference = None
    if options.reference:
        width = {k: v for k, v in options.model_options.items() if k == "width"}
        reference = find_networks([options.reference], width, networks[0].num_classes)[0]
    layouts = words("layouts", options.layouts, LAYOUTS)
    cases: dict[ModelCase, None] = {}
    for engine, precision, size in itertools.product(
        words("engines", options.engines, ("auto", *ENGINES, *MODULES)),
        words("precisions", options.precisions, ("auto", *PRECISIONS)),
        sizes,
    ):
        for layout in layouts if engine in MODULES else [None]:
            here = [ModelCase(n, *size, engine, precision, layout) for n in networks]
            for case in here:
                cases |= dict.fromkeys([case, case.floor()])
            if reference:
                cases[here[0].reference(reference)] = None
    return list(cases), reference


def bench_models(
    options: ModelBenchOptions, *, deadline: float | None = None, title: str = "Models"
) -> dict[str, Any]:
    """Time the cases of the options by turns; JSON-ready.

    Args:
        options: what to time.
        deadline: as of ``time.monotonic()``: what has not been made by then is left out, and said.
        title: of the result.

    Raises:
        ValueError: an option out of range, or none of the cases can be run here.
    """
    planned, reference = plan(options)

    ratios = {"vs_floor": lambda case: (case, case.floor())}
    if reference:
        ratios["vs_reference"] = lambda case: (case.reference(reference), case)
    result, cases = measure(
        "models", title, "gtdnet bench", options, planned, ratios, deadline, _PACKAGES
    )
    clock = result["clock"]
    peaks = _peaks(cases, resolve_device(options.device), clock)
    for case, found in zip(cases, result["cases"], strict=True):
        macs, peak = case.cost().macs, peaks[case.precision, case.threads]
        ms = found["latency_ms"]["median"] if clock == "wall" else found[f"{clock}_ms"]
        gflops = 2 * macs * case.batch_size / ms / 1e6
        found["gmacs"] = rounded(macs / 1e9)
        found["gflops"] = rounded(gflops)
        found["share_of_peak"] = rounded(gflops / peak, 3) if peak else None
    result["reference"] = str(reference) if reference else None
    result["peak_gflops"] = [
        {"precision": precision, "threads": threads, "gflops": rounded(peak)}
        for (precision, threads), peak in peaks.items()
    ]
    save(result, options.output)
    return result


def _peaks(
    cases: Iterable[ModelCase], device: torch.device, clock: str
) -> dict[tuple[str, int], float | None]:
    """What the machine does at most, by precision and threads."""
    peaks: dict[tuple[str, int], float | None] = {}
    with own_threads():
        for case in cases:
            key = case.precision, case.threads
            if key not in peaks:
                torch.set_num_threads(case.threads)
                peaks[key] = measured_peak(case.precision, device, clock)
    return peaks
