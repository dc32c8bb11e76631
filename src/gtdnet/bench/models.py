"""Time and memory of models by engine, precision, batch and threads, beside the plain network.

What is timed takes uint8 frames on its device to logits: normalisation is part of it, decoding and
copying to a GPU are not (``gtdnet bench data`` measures the former).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gtdnet.bench.cases import Bench, Case, Run, asked, gpu_bytes, own_threads, ready, run_bench
from gtdnet.bench.engines import (
    FILES,
    GRAPHS,
    LAYOUTS,
    MODULES,
    Call,
    load_runtime,
    make_call,
    make_profiler,
    open_file,
    save_file,
    why_not,
)
from gtdnet.bench.machine import measured_peak
from gtdnet.bench.memory import alone, resident_mib
from gtdnet.bench.networks import Network, find_networks
from gtdnet.bench.options import Choice, MeasureOptions, words
from gtdnet.bench.profile import Profiler
from gtdnet.bench.timing import median_seconds, rounded
from gtdnet.errors import InputError
from gtdnet.infer.engine import ENGINES, PRECISIONS

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

    def make(
        case: ModelCase, made: Mapping[ModelCase, Run], device: torch.device
    ) -> tuple[ModelCase, Run] | None:
        if reason := why_not(case.engine, device):
            raise InputError(reason)
        before = gpu_bytes(device)
        call, profiler, case = _call(case, device, options.profile > 0)
        if case in made:  # as engine "auto" may be
            return None
        cost = case.network.cost(case.num_segments, case.crop_size)
        counted = cost.inference_bytes * case.batch_size
        replayed = case.engine in GRAPHS
        return case, ready(call, counted, case.threads, device, before, profiler, replayed)

    ratios = {"vs_floor": lambda case: (case, case.floor())}
    if reference:
        ratios["vs_reference"] = lambda case: (case.reference(reference), case)
    bench = run_bench(options, planned, make, _memory, ratios, deadline)
    peaks = _peaks(bench.made, bench.device, bench.clock)
    about = {
        "reference": str(reference) if reference else None,
        "peak_gflops": [
            {"precision": precision, "threads": threads, "gflops": rounded(peak)}
            for (precision, threads), peak in peaks.items()
        ],
    }
    return bench.result(
        "models", title, "gtdnet bench", _PACKAGES, about, lambda case: _work(bench, case, peaks)
    )


# --------------------------------------------------------------------------------- the cases


def _call(
    case: ModelCase, device: torch.device, profiled: bool = False
) -> tuple[Call, Profiler | None, ModelCase]:
    """The call, its profiler if that is wanted, the case with engine and precision as resolved."""
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    model, spec = case.network.build(case.num_segments, case.crop_size)
    call, engine, precision = make_call(
        model,
        spec,
        engine=case.engine,
        precision=case.precision,
        layout=case.layout,
        batch_size=case.batch_size,
        threads=case.threads,
        device=device,
    )
    profiler = None
    if profiled:
        profiler = make_profiler(
            call,
            model,
            spec,
            engine=engine,
            precision=precision,
            batch_size=case.batch_size,
            threads=case.threads,
            device=device,
        )
    return call, profiler, replace(case, engine=engine, precision=precision)


def _memory(case: ModelCase) -> dict[str, int] | None:
    """Resident memory on the CPU; None for what compiling leaves in the process with the rest."""
    if case.engine == "compile":
        return None
    arguments: dict[str, Any] = {"case": case.to_json()}
    with TemporaryDirectory() as folder:
        if case.engine in FILES:  # converting leaves much in a process, too
            arguments["path"] = str(Path(folder, FILES[case.engine]))
            alone(f"{__name__}:save_case", arguments)
        return alone(f"{__name__}:case_memory", arguments)


def save_case(case: Mapping[str, Any], path: str) -> None:
    """Write the file that the engine of a case runs."""
    saved = ModelCase.from_json(case)
    model, spec = saved.network.build(saved.num_segments, saved.crop_size)
    save_file(model, spec, Path(path), saved.precision, saved.batch_size)


def case_memory(case: Mapping[str, Any], path: str | None = None) -> dict[str, int]:
    """Memory of this process with a case, on the CPU; ``path``: a file of :func:`save_case`."""
    run = ModelCase.from_json(case)
    if path is None:
        return resident_mib(lambda: _call(run, torch.device("cpu"))[0])
    load_runtime(run.engine)
    spec = run.network.spec(run.num_segments, run.crop_size)
    how = run.engine, run.precision, run.batch_size, run.threads
    return resident_mib(lambda: open_file(Path(path), spec, *how))


def _work(
    bench: Bench[ModelCase], case: ModelCase, peaks: Mapping[tuple[str, int], float | None]
) -> dict[str, Any]:
    """Arithmetic of a clip, how much of it is done in a second of the clock, share of the peak."""
    macs = case.network.cost(case.num_segments, case.crop_size).macs
    seconds = median_seconds(bench.rounds, case, bench.clock)
    gflops = 2 * macs * case.batch_size / seconds / 1e9
    peak = peaks[case.precision, case.threads]
    return {
        "gmacs": rounded(macs / 1e9),
        "gflops": rounded(gflops),
        "share_of_peak": rounded(gflops / peak, 3) if peak else None,
    }


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
