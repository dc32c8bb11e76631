"""Time and memory of models by engine, precision, batch and threads, beside the plain network.

What is timed takes uint8 frames on its device to logits: normalisation is part of it, decoding and
copying to a GPU are not (``gtdnet bench data`` measures the former).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from gtdnet.bench.cases import (
    Run,
    add_process_memory,
    gpu_bytes,
    make_all,
    measure,
    memory_ratio,
    own_settings,
    ready,
)
from gtdnet.bench.engines import GRAPHS, LAYOUTS, MODULES, Call, make_call, why_not
from gtdnet.bench.machine import measured_peak
from gtdnet.bench.networks import Network, find_networks, own_size
from gtdnet.bench.options import MeasureOptions, check_sizes, command, numbers, words
from gtdnet.bench.result import envelope, save
from gtdnet.bench.timing import (
    Rounds,
    compared,
    median_seconds,
    resolve_clock,
    rounded,
    times,
)
from gtdnet.device import resolve_device
from gtdnet.errors import InputError
from gtdnet.infer.engine import ENGINES, PRECISIONS

_PACKAGES = ("onnx", "onnxruntime", "openvino", "nncf")


@dataclass
class ModelChoice:
    """What is timed

    Args:
        models: names, as gtdnet models lists them, or model files.
        model_options: the models' own options, e.g. --model_options.width 0.5.
        num_classes: classes of named models.
        num_segments: frames of a clip, with commas between; default: 8, or the model file's.
        crop_size: side of the frames in pixels; default: 224, or the model file's.
        batch_sizes: clips at a time, with commas between.
        engines: with commas between: auto, torch, compile, onnx, openvino; or the module without an
            engine: eager, plain (eager without this package's fast path), on a GPU also eager-graph
            and compile-graph (CUDA graphs).
        precisions: with commas between: auto, fp32, bf16, fp16, int8.
        layouts: of engines eager and plain: nchw, channels_last, or both with a comma between.
        reference: a model that is also run plain, in fp32 and NCHW, as most code runs it; it is
            told how many times as fast all others are.
        profile: rows of PyTorch's table of the costliest operators, for each case that runs in
            PyTorch; 0: none.
    """

    models: list[str] = field(default_factory=lambda: ["gtdnet_resnet50"])
    model_options: dict[str, Any] = field(default_factory=dict)
    num_classes: int = 174
    num_segments: str | None = None
    crop_size: int | None = None
    batch_sizes: str = "1"
    engines: str = "auto"
    precisions: str = "auto"
    layouts: str = "nchw"
    reference: str | None = None
    profile: int = 0


@dataclass
class ModelBenchOptions(MeasureOptions, ModelChoice):
    """Everything of one bench of models."""


@dataclass(frozen=True)
class Case:
    """One network in one setting."""

    network: Network
    engine: str
    precision: str
    layout: str | None
    batch_size: int
    threads: int
    num_segments: int
    crop_size: int

    def floor(self) -> Case:
        """The plain network in the same setting."""
        return replace(self, network=self.network.floor())

    def reference(self, network: Network) -> Case:
        """The same clips and threads, run the plain way."""
        return replace(self, network=network, engine="plain", precision="fp32", layout="nchw")

    def setting(self) -> dict[str, Any]:
        """All but the network; JSON-ready."""
        return {key: value for key, value in vars(self).items() if key != "network"}

    def to_dict(self) -> dict[str, Any]:
        """The network by its label, and the setting; JSON-ready."""
        return {"model": str(self.network), **self.setting()}


def plan(options: ModelBenchOptions) -> tuple[list[Case], Network | None]:
    """The cases that the options ask for, floors among them, and the reference's network.

    Raises:
        ValueError: an option out of range.
    """
    options.check()
    networks = find_networks(options.models, options.model_options)
    frames, side = own_size(options.models)
    side = side if options.crop_size is None else options.crop_size
    check_sizes(crop_size=(side, 32), num_classes=(options.num_classes, 1))
    check_sizes(profile=(options.profile, 0))
    reference = None
    if options.reference:
        width = {k: v for k, v in options.model_options.items() if k == "width"}
        reference = find_networks([options.reference], width)[0]
    layouts = words("layouts", options.layouts, LAYOUTS)
    cases: dict[Case, None] = {}
    for engine, precision, batch, threads, num_segments in itertools.product(
        words("engines", options.engines, ("auto", *ENGINES, *MODULES)),
        words("precisions", options.precisions, ("auto", *PRECISIONS)),
        numbers("batch_sizes", options.batch_sizes),
        options.thread_counts(),
        numbers("num_segments", options.num_segments or str(frames)),
    ):
        for layout in layouts if engine in MODULES else [None]:
            setting = (engine, precision, layout, batch, threads, num_segments, side)
            here = [Case(network, *setting) for network in networks]
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
    device = resolve_device(options.device)
    clock = resolve_clock(options.clock, device)
    with own_settings():
        made, left_out = make_all(planned, partial(_make, options, device), deadline)
        pairs = [(case, case.floor()) for case in made]
        measured = measure(made, pairs, options, device, clock)
        peaks = _peaks(made, device, clock)
    if options.memory and device.type == "cpu":
        classes = {"num_classes": options.num_classes}
        add_process_memory(made, f"{__name__}:call_of", lambda case: {**_to_json(case), **classes})
    rounds = measured.rounds
    result = {
        **envelope("models", title, command("gtdnet bench", options, "models"), device, _PACKAGES),
        "clock": clock,
        "rounds": len(rounds),
        "load": measured.load,
        "reference": str(reference) if reference else None,
        "peak_gflops": [
            {"precision": precision, "threads": threads, "gflops": rounded(peak)}
            for (precision, threads), peak in peaks.items()
        ],
        "cases": [
            {
                **case.to_dict(),
                **times(rounds, case, case.batch_size),
                **_work(rounds, case, clock, options.num_classes, peaks),
                "memory": run.memory,
                "memory_vs_floor": memory_ratio(made, case, case.floor()),
                "vs_floor": compared(rounds, case, case.floor(), clock),
                "vs_reference": compared(rounds, case.reference(reference), case, clock)
                if reference
                else None,
                **({"operators": run.operators} if run.operators else {}),
            }
            for case, run in made.items()
        ],
        "left_out": left_out,
    }
    save(result, options.output)
    return result


# --------------------------------------------------------------------------------- the cases


def _make(
    options: ModelBenchOptions, device: torch.device, case: Case, made: Mapping[Case, Run]
) -> tuple[Case, Run] | None:
    if reason := why_not(case.engine, device):
        raise InputError(reason)
    before = gpu_bytes(device)
    call, case = _call(case, options.num_classes, device)
    if case in made:  # as engine "auto" may be
        return None
    cost = case.network.cost(options.num_classes, case.num_segments, case.crop_size)
    counted = cost.inference_bytes * case.batch_size
    rows = options.profile if case.engine in ("torch", "compile", *MODULES) else 0
    replayed = case.engine in GRAPHS
    return case, ready(call, counted, case.threads, device, before, rows, replayed)


def _call(case: Case, num_classes: int, device: torch.device) -> tuple[Call, Case]:
    """The call, and the case with engine and precision as resolved."""
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    model, spec = case.network.build(num_classes, case.num_segments, case.crop_size)
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
    return call, replace(case, engine=engine, precision=precision)


def call_of(network: Mapping[str, Any], num_classes: int, **setting: Any) -> Call:
    """The call of a case on the CPU, for a process of its own (:mod:`gtdnet.bench.memory`)."""
    case = Case(Network.from_dict(network), **setting)
    return _call(case, num_classes, torch.device("cpu"))[0]


def _to_json(case: Case) -> dict[str, Any]:
    return {"network": case.network.to_dict(), **case.setting()}


def _work(
    rounds: Rounds[Case],
    case: Case,
    clock: str,
    num_classes: int,
    peaks: Mapping[tuple[str, int], float | None],
) -> dict[str, Any]:
    """Arithmetic of a clip, how much of it is done in a second of the clock, share of the peak."""
    macs = case.network.cost(num_classes, case.num_segments, case.crop_size).macs
    gflops = 2 * macs * case.batch_size / median_seconds(rounds, case, clock) / 1e9
    peak = peaks[case.precision, case.threads]
    return {
        "gmacs": rounded(macs / 1e9),
        "gflops": rounded(gflops),
        "share_of_peak": rounded(gflops / peak, 3) if peak else None,
    }


def _peaks(
    cases: Iterable[Case], device: torch.device, clock: str
) -> dict[tuple[str, int], float | None]:
    """What the machine does at most, by precision and threads."""
    peaks: dict[tuple[str, int], float | None] = {}
    for case in cases:
        key = case.precision, case.threads
        if key not in peaks:
            torch.set_num_threads(case.threads)
            peaks[key] = measured_peak(case.precision, device, clock)
    return peaks
